"""Checkpoints: the full state of training, written whole, checked when read, the newest few kept."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import torch

from fieldmark.core.errors import TrainingFailed
from fieldmark.core.files import whole_file
from fieldmark.training.position import Position

_NAME = re.compile(r"step-(\d{8})\.pt")
_WHILE_TRAINING = 2
"""The newest, and the one before it in case the newest is damaged."""


class Checkpoints:
    """`keep` is how many a finished run keeps."""

    def __init__(self, folder: Path, keep: int):
        self.folder, self.keep = folder, keep

    @property
    def most(self) -> int:
        """How many there are while the run is trained."""
        return max(self.keep, _WHILE_TRAINING)

    def save(self, step: int, state: dict[str, Any]) -> Path:
        """Write `step-<step>.pt`, then delete all but the newest `most`. `step` counts over all phases of a run."""
        path = self.folder / f"step-{step:08d}.pt"
        with whole_file(path) as temporary, temporary.open("wb") as stream:
            try:
                torch.save(state, stream)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # PyTorch hides why its archive could not be written
                    raise error.__context__ from error
                raise
        self._delete_from(self.most)
        return path

    def drop(self) -> None:
        """Delete all but those that a finished run keeps."""
        self._delete_from(self.keep)

    def _delete_from(self, count: int) -> None:
        for old in self.paths()[count:]:
            old.unlink(missing_ok=True)

    def paths(self) -> list[Path]:
        """Newest first."""
        return sorted((path for path in self.folder.glob("step-*.pt") if _NAME.fullmatch(path.name)), reverse=True)

    def newest(self) -> tuple[dict[str, Any] | None, list[str]]:
        """The newest sound state, or None; and the names of damaged files, which are skipped and deleted."""
        damaged: list[str] = []
        for path in self.paths():
            if is_sound(path):
                try:
                    return torch.load(path, map_location="cpu", weights_only=True), damaged
                except RuntimeError:  # PyTorch's reader of archives checks fields that Python's does not
                    pass
            damaged.append(path.name)
            path.unlink(missing_ok=True)
        return None, damaged

    def failure(self, what: str, at: Position) -> TrainingFailed:
        """The error that says what went wrong, when, which state is kept, and what to try."""
        newest = self.paths()[:1]
        kept = f"The last good state is {newest[0].name}" if newest else "No state was saved yet"
        return TrainingFailed(
            f"{what}: epoch {at.epoch + 1}, step {at.step}.\n"
            f"{kept}. Lower optim.lr, lengthen the schedule's warmup, set train.clip_norm, or use train.precision=float32, in a new run."
        )


def is_sound(path: Path) -> bool:
    """Whether the archive is complete and every record matches its checksum."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, zipfile.BadZipFile, EOFError, NotImplementedError, ValueError):
        return False
