"""Files written whole or not at all."""

from __future__ import annotations

import errno
import glob
import json
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fieldmark.core.errors import InputError, Problem


@contextmanager
def whole_file(path: Path, elsewhere: str = "") -> Iterator[Path]:
    """Give a temporary path beside `path`; when the block ends well, it is flushed to disk and renamed to `path`.

    When the block fails, the temporary file is removed and `path` is as it was. `elsewhere` is as in storage_error.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
    except OSError as error:
        _remove(temporary)
        if error.filename not in (None, str(temporary), str(path)):
            raise
        raise storage_error(error, path, elsewhere) from error
    except BaseException:
        _remove(temporary)
        raise


def _remove(file: Path) -> None:
    with suppress(OSError):  # a file system that became read-only
        file.unlink(missing_ok=True)


def remove_leftovers(path: Path) -> None:
    """Remove what whole_file left beside `path` when its process was killed."""
    for file in path.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
        process = file.name.split(".")[-2]
        if process.isdecimal() and not _runs(int(process)):
            _remove(file)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # another user's
        return True
    return True


def check_output(path: Path, ours: bytes, option: str, otherwise: str = "") -> None:
    """Raise InputError if a file that the user named cannot be written, or exists and does not begin with `ours`.

    `otherwise` is what to do instead of naming standard output or a pipe.
    """
    if str(path) == "-" or (path.exists() and not path.is_file() and not path.is_dir()):
        what = f"{option} names a file, which is written whole or not at all; {path} is not one"
        raise InputError(what, hint=otherwise or "Name a file.")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {path.parent} to write {path.name} in")
    if path.is_dir():
        raise InputError(f"{path} is a folder; {option} names the file to write")
    if path.exists():
        with path.open("rb") as stream:
            if not stream.read(len(ours)) == ours:
                raise InputError(f"{path} already exists and was not written by this command", hint="Choose another name.")


def check_creatable(folder: Path) -> None:
    """Raise InputError if a folder that the user named with --out cannot be made; nothing is left behind."""
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    probe = above / f".{folder.name}.{os.getpid()}.tmp"
    try:
        probe.mkdir()
        probe.rmdir()
    except OSError as error:
        why = f"{above} is a file" if not above.is_dir() else f"{above} cannot be written ({error.strerror})"
        raise InputError(f"{folder} cannot be made: {why}", hint="Choose another folder with --out.") from error


def write_text(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json_text(value, indent=2) + "\n")


def json_text(value: Any, indent: int | None = None) -> str:
    """Strict JSON: a number that is not finite becomes null."""
    return json.dumps(_finite(value), indent=indent, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def storage_error(error: OSError, path: Path, elsewhere: str = "") -> Exception:
    """Say in the user's terms why `path` could not be written, and how to write elsewhere; an error of another kind comes back as it is."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        problem = Problem(f"no space left on the disk that holds {path.parent}", kind="machine")
        return InputError(problem, hint=f"Free some space, or {elsewhere or 'write elsewhere'}.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        problem = Problem(f"{path.parent} cannot be written ({error.strerror})", kind="machine")
        remedy = elsewhere or "choose a folder that you may write to"
        return InputError(problem, hint=f"{remedy[0].upper()}{remedy[1:]}.")
    return error
