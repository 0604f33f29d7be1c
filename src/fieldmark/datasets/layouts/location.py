"""The file or folder that the user named as DATA."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from fieldmark.core.errors import InputError, Problem
from fieldmark.core.names import nearest, shown, some, typed
from fieldmark.datasets.image_files import is_hidden


def locate(data: str | Path) -> Path:
    """DATA as an absolute path to what exists. Raises InputError, with what exists nearest to it, where it does not."""
    text = os.path.expanduser(data)
    if not text:
        raise InputError("DATA is empty", hint="Give a folder of images, or birds for the built-in set.")
    try:
        path = Path(text).absolute()
        os.stat(path)
    except ValueError:
        raise InputError(f"DATA is not a path: {text!r}") from None
    except PermissionError as error:
        raise InputError(f"{shown(text)} cannot be read ({error.strerror})", hint="Make it readable, or give another folder.") from None
    except OSError as error:
        reason = "" if error.errno in (errno.ENOENT, errno.ENOTDIR) else f" ({error.strerror})"
        bare = text.removeprefix("data=")
        hint = nearest_path(path) if bare == text else f"DATA is written without data=: {typed(bare)}"
        raise InputError(Problem(f"there is no file or folder {shown(text)}{reason}", kind="machine"), hint=hint) from None
    return path


def folders(path: Path) -> list[Path]:
    """The user's folders in a folder, sorted by name; none if it is not a folder or cannot be looked into."""
    try:
        with os.scandir(path) as entries:
            return [path / name for name in sorted(entry.name for entry in entries if not is_hidden(entry.name) and entry.is_dir())]
    except OSError:
        return []


def nearest_path(missing: Path, files: bool = False) -> str:
    """A sentence on what exists nearest to a path that does not; its misspelt parts are corrected from the first one that is missing.

    Only folders are proposed or, with `files`, files as well.
    """
    path = Path(missing.anchor)
    parts = missing.parts[1:]
    for depth, part in enumerate(parts):
        try:
            with os.scandir(path) as entries:
                found = sorted(entry.name for entry in entries if files or entry.is_dir())
        except OSError:
            return f"{path} cannot be read."
        if part in ("..", *found):
            path = path / part
            continue
        if near := nearest(part, found):
            guess = path / near[0]
            rest = guess.joinpath(*parts[depth + 1 :])
            return f"Did you mean {typed(rest if rest.exists() and (files or rest.is_dir()) else guess)}?"
        visible = [name for name in found if not name.startswith(".")]
        return f"{typed(path)} exists" + (f" and holds {some(visible)}." if visible else " and holds no folders.")
    return f"{typed(path)} exists."
