"""The file that `model.weights` names, and what tells it from another of that name. Needs no torch."""

from __future__ import annotations

import hashlib
from pathlib import Path

from fieldmark.core.errors import InputError
from fieldmark.core.manifest import StartingWeights
from fieldmark.core.names import typed
from fieldmark.core.run_folder import RunFolder

_IN_FOLDERS = ("model.safetensors", "pytorch_model.bin")
"""What folders of the hub call their weights."""


def is_file(weights: str) -> bool:
    """Whether a value of `model.weights` is a path."""
    return weights not in ("pretrained", "none")


def weights_file(given: str) -> Path:
    """The file itself, or that of a folder. Raises InputError for a folder without weights."""
    path = Path(given).expanduser()
    if not path.is_dir():
        return path
    run = RunFolder(path)
    for file in (run.best_weights, *(path / name for name in _IN_FOLDERS)):
        if file.is_file():
            return file
    if run.members.is_dir():
        members = ", ".join(sorted(str(member) for member in run.members.iterdir() if member.is_dir()))
        raise InputError(f"{path} is an ensemble of several networks", hint=f"Give model.weights one of its members: {members}.")
    if run.manifest_file.is_file():
        raise InputError(f"{path} has no trained weights yet", hint=f"fieldmark resume {typed(path)}")
    raise InputError(
        f"{path} is a folder, and neither a run nor one of the hub with {' or '.join(_IN_FOLDERS)}", hint="Give model.weights the file."
    )


def recorded(file: Path) -> StartingWeights:
    """What a run keeps of it. Raises OSError."""
    with file.open("rb") as stream:
        return StartingWeights(file=str(file.absolute()), sha256=hashlib.file_digest(stream, "sha256").hexdigest())
