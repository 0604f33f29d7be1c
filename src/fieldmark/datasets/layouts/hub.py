"""Datasets on the Hugging Face hub: their Parquet files, kept in the hub's own cache. Code that lies beside them is not fetched.

A hub that cannot be reached is found out by one short request, because the hub's own client would retry for most of a minute.
"""

from __future__ import annotations

import glob
import re
from pathlib import Path
from typing import Any

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.names import some
from fieldmark.datasets.layouts.annotations import reason
from fieldmark.datasets.layouts.huggingface_files import configurations, find_parquet

_PATIENCE = 5.0  # seconds
_CONVERTED = "refs/convert/parquet"
"""Where the hub keeps what it has made of datasets in other formats."""
_NAME = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w.-]+(?:/[\w.-]+)*))?(?::(?P<configuration>[\w.+ -]+))?", re.ASCII)


def fetch(name: str, console: Console) -> Path:
    """The folder of a dataset's Parquet files. `name` is owner/name, with @revision and :configuration if these are wanted.

    What the hub's cache has is not fetched again, and serves by itself if the hub cannot be reached. A dataset without Parquet files is
    taken from the branch to which the hub converts. Raises InputError.
    """
    from huggingface_hub.errors import HFValidationError

    parts = _NAME.fullmatch(name)
    malformed = InputError(
        f"hf:{name} does not name a dataset on the Hugging Face hub",
        hint="The form is hf:owner/name, hf:owner/name@revision or hf:owner/name:configuration.",
    )
    if parts is None or ".." in name:
        raise malformed
    repository, revision, configuration = parts["repository"], parts["revision"], parts["configuration"]
    reachable = _reachable()
    for branch in [revision] if revision else [None, _CONVERTED]:
        try:
            folder = _download(repository, branch, configuration, console) if reachable else _cached(repository, branch, configuration)
        except HFValidationError as error:
            raise malformed from error
        if folder is not None and next(find_parquet(folder), None) is not None:
            if not reachable:
                console.say("the Hugging Face hub cannot be reached: what its cache holds is used")
            return folder
    if not reachable:
        raise InputError(
            f"hf:{name} cannot be fetched: the Hugging Face hub cannot be reached, and its cache does not hold the dataset",
            hint="Connect, set HF_HUB_CACHE to a cache that holds it, or give a folder as DATA.",
        )
    raise InputError(
        f"hf:{name} has no Parquet files",
        hint="See the page of the dataset on the hub; download what it has, and give that folder as DATA.",
    )


def _download(repository: str, revision: str | None, configuration: str | None, console: Console) -> Path | None:
    """None if there are no Parquet files."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, HFValidationError, RepositoryNotFoundError, RevisionNotFoundError

    shown = f"hf:{repository}" + (f"@{revision}" if revision else "")
    try:
        listed = HfApi().dataset_info(repository, revision=revision, files_metadata=True).siblings or []
        files = [file for file in listed if file.rfilename.endswith(".parquet")]
        if configuration:
            files = [file for file in files if file.rfilename.startswith(f"{configuration}/")]
        elif len(several := configurations(file.rfilename for file in files)) > 1:
            raise InputError(
                f"{shown} holds {len(several)} datasets: {some(several, 20)}",
                hint=f"Say which: hf:{repository}:{several[-1]}, for example.",
            )
        if not files:
            return None
        console.say(f"{shown}: {len(files):,} Parquet files, {sum(file.size or 0 for file in files) / 2**20:,.1f} MiB, unless cached")
        patterns = _patterns(configuration)
        bars: dict[str, Any] = {"tqdm_class": _silent()} if console.quiet else {}
        folder = snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=patterns, **bars)
    except (InputError, HFValidationError):
        raise
    except GatedRepoError as error:
        raise InputError(
            f"{shown} is given only to those who accept its conditions", hint="Accept them on its page on the hub, then run: hf auth login"
        ) from error
    except RevisionNotFoundError as error:
        if revision == _CONVERTED:
            return None
        raise InputError(f"{shown}: the dataset has no revision {revision!r}", hint="It is a branch, a tag or a commit.") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{shown}: there is no such dataset on the Hugging Face hub, or it is private",
            hint="Look at its page for its name (owner/name); for a private one, run: hf auth login",
        ) from error
    except Exception as error:  # the client's HTTP library is not part of its interface; a full disk
        raise InputError(f"{shown} could not be fetched ({reason(error)})", hint="Try again; what was fetched whole is kept.") from error
    return Path(folder) / (configuration or "")


def _cached(repository: str, revision: str | None, configuration: str | None) -> Path | None:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    patterns = _patterns(configuration)
    try:
        folder = snapshot_download(repository, repo_type="dataset", revision=revision, allow_patterns=patterns, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    return Path(folder) / (configuration or "")


def _patterns(configuration: str | None) -> str:
    return f"{glob.escape(configuration)}/*.parquet" if configuration else "*.parquet"


def _reachable() -> bool:
    from huggingface_hub import constants, get_session

    try:
        get_session().head(constants.ENDPOINT, timeout=_PATIENCE)
    except Exception:  # the client's HTTP library is not part of its interface
        return False
    return True


def _silent() -> type:
    from tqdm import tqdm

    class Silent(tqdm):
        def __init__(self, *args: Any, **options: Any):
            super().__init__(*args, **{**options, "disable": True})

    return Silent
