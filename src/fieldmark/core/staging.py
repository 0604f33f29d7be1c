"""New folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from fieldmark.core.errors import InputError
from fieldmark.core.files import storage_error


def refuse_existing(path: Path) -> None:
    """Raise InputError if there is something at a path that `--out` names."""
    if path.exists():
        raise InputError(f"{path} already exists", hint="Choose another folder with --out.")


@contextmanager
def new_folder(target: Path, refuse: Callable[[Path], None]) -> Iterator[Path]:
    """A staging folder next to `target` to fill; when the block ends well it becomes `target`, and when it fails it is removed.

    `refuse` raises InputError if there is something at `target` already. Where the disk is full or read-only, so does the block.
    """
    refuse(target)
    staging = target.parent / f".{target.name}.{os.getpid()}.tmp"
    try:
        staging.mkdir(parents=True)
        yield staging
        staging.replace(target)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        refuse(target)
        raise storage_error(error, target) from error
    except BaseException as error:
        shutil.rmtree(staging, ignore_errors=True)
        if isinstance(error, InputError) and isinstance(error.__cause__, OSError):
            raise storage_error(error.__cause__, target) from error
        raise
