"""Pretrained weights from the hub: from its local cache, or else over the network. Nothing is unpickled without restrictions.

One short request finds out whether the hub can be reached, because its own client would retry for most of a minute.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.error import URLError

from fieldmark.core.errors import InputError, reason_of

if TYPE_CHECKING:
    from torch import Tensor

_PATIENCE = 5.0  # seconds
_INSTEAD = "give model.weights=FILE or model.weights=none"


def timm_file(name: str) -> Path:
    """The safetensors file of a timm model's pretrained weights. Raises InputError if there is none or it cannot be obtained."""
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
    from timm.models import get_pretrained_cfg

    config = get_pretrained_cfg(name)
    if config is None or not config.has_weights:
        raise InputError(f"{name} has no pretrained weights", hint=f"Choose another model.name, or {_INSTEAD}.")
    pickled = InputError(
        f"the pretrained weights of {name} are published only as a pickle, which can run code and is not opened",
        hint=f"Choose another model.name, or {_INSTEAD}.",
    )
    if not config.hf_hub_id:
        raise pickled
    repository, _, revision = config.hf_hub_id.partition("@")
    filename = Path(config.hf_hub_filename or "model").with_suffix(".safetensors").name.replace("pytorch_model", "model")
    try:
        return Path(hf_hub_download(repository, filename, revision=revision or None, local_files_only=True))
    except LocalEntryNotFoundError:
        _require(constants.ENDPOINT, name)
    try:
        return Path(hf_hub_download(repository, filename, revision=revision or None))
    except LocalEntryNotFoundError as error:
        raise _unreachable(name) from error
    except EntryNotFoundError as error:
        raise pickled from error
    except Exception as error:  # the client's HTTP library is not part of its interface
        raise _failed(name, error) from error


def torchvision_tensors(name: str) -> dict[str, Tensor]:
    """The pretrained weights of a torchvision model in its own naming. Raises InputError if they cannot be obtained."""
    import torch
    from torchvision.models import get_model_weights

    weights = get_model_weights(name)["DEFAULT"]
    if not (Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rpartition("/")[2]).is_file():
        _require(weights.url, name)
    try:
        return dict(weights.get_state_dict(check_hash=True, weights_only=True))
    except URLError as error:
        raise _unreachable(name) from error
    except Exception as error:  # a full disk, a wrong checksum, a damaged file
        raise _failed(name, error) from error


def _require(url: str, name: str) -> None:
    from huggingface_hub import get_session

    try:
        get_session().head(url, timeout=_PATIENCE)
    except Exception as error:  # the client's HTTP library is not part of its interface
        raise _unreachable(name) from error


def _unreachable(name: str) -> InputError:
    return InputError(
        f"no pretrained weights for {name}: the hub cannot be reached",
        hint=f"Connect, set HF_HUB_CACHE to a cache that holds them, or {_INSTEAD}.",
    )


def _failed(name: str, error: Exception) -> InputError:
    said = f"no pretrained weights for {name}: they could not be fetched or read ({reason_of(error)})"
    return InputError(said, hint=f"Try again, or {_INSTEAD}.")
