"""The run folder: everything that one training leaves behind, and the lock of its one writer."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from fieldmark.core.arguments import no_path, path_of
from fieldmark.core.errors import InputError, Problem
from fieldmark.core.files import check_creatable, storage_error, write_text
from fieldmark.core.manifest import Manifest, Status
from fieldmark.core.names import nearest, typed
from fieldmark.core.recipe.load import load_recipe
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.recipe.values import to_yaml
from fieldmark.core.staging import new_folder
from fieldmark.core.summary import Summary


class RunFolder:
    """Paths of a run and the few files that describe it."""

    def __init__(self, path: str | os.PathLike[str]):
        self.path = Path(path)
        self.recipe_file = self.path / "recipe.yaml"
        self.manifest_file = self.path / "manifest.json"
        self.split_file = self.path / "split.parquet"
        self.metrics_file = self.path / "metrics.jsonl"
        self.steps_file = self.path / "steps.jsonl"
        self.summary_file = self.path / "summary.json"
        self.log_file = self.path / "train.log"
        self.architecture_file = self.path / "architecture.txt"
        self.checkpoints = self.path / "checkpoints"
        self.features = self.path / "features"
        self.best_weights = self.checkpoints / "best.safetensors"
        self.initial_weights = self.checkpoints / "initial.safetensors"
        self.members = self.path / "members"
        self.stack_weights = self.checkpoints / "stack.safetensors"
        self.predictions = self.path / "predictions"
        self.answers_file = self.predictions / "test.csv"
        self.sources_file = self.predictions / "sources.json"
        self.calibration_file = self.path / "calibration.json"
        self.rejection_file = self.path / "rejection.safetensors"
        self.evaluation_file = self.path / "evaluation.json"
        self.classes_file = self.path / "classes.csv"
        self.confusion_file = self.path / "confusion.csv"
        self.robustness_file = self.path / "robustness.json"
        self.figures = self.path / "figures"
        self.report_file = self.path / "report.html"
        self.tensorboard = self.path / "tensorboard"

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunFolder:
        """An existing run. Raises InputError if `path` is not one."""
        folder = cls(path_of(path, "a run is given as the path of its folder, or as a Run"))
        if problem := no_path("the run", path):
            raise InputError(problem)
        missing = [file.name for file in (folder.recipe_file, folder.manifest_file, folder.split_file) if not file.is_file()]
        if not missing:
            return folder
        if not folder.path.exists():
            near = nearest(folder.path.name, sorted(file.parent.name for file in folder.path.parent.glob("*/manifest.json")))
            hint = f"Did you mean {typed(folder.path.parent / near[0])}?" if near else None
            raise InputError(f"there is no run folder {folder.path}", hint=hint)
        if (folder.path / "bundle.json").is_file():
            hint = f"fieldmark predict {typed(folder.path)} IMAGES, for example."
            raise InputError(f"{folder.path} is a bundle, and this needs the run that it was exported from", hint=hint)
        if (folder.path / "study.json").is_file():
            raise InputError(
                f"{folder.path} is the folder of a study, and not a run",
                hint=f"Its table and page: fieldmark study table {typed(folder.path)}. Its runs are in {typed(folder.path / 'runs')}.",
            )
        kind = "folder" if folder.path.is_dir() else "file"
        if (above := next(filter(_holds_run, folder.path.parents), None)) is not None:
            raise InputError(f"{folder.path} is a {kind} of the run {above}: give {above}")
        why = "it is a file" if kind == "file" else f"it has no {', '.join(missing)}"
        raise InputError(f"{folder.path} is not a run folder: {why}")

    @classmethod
    @contextmanager
    def create(cls, path: str | Path) -> Iterator[RunFolder]:
        """A staging folder to fill; when the block ends well it becomes `path`, so that a run folder is never half made."""
        with new_folder(Path(path), refuse_existing) as staging:
            folder = cls(staging)
            for part in (folder.checkpoints, folder.predictions, folder.figures):
                part.mkdir()
            yield folder

    @contextmanager
    def locked(self, wait: float = 0) -> Iterator[None]:
        """Hold the run for writing; the lock dies with the process. Raises InputError when another process holds it for `wait` seconds."""
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=wait)
        except Timeout:
            problem = Problem(f"{self.path} is being written by another process", kind="machine")
            raise InputError(problem, hint="Wait for it, or stop it first.") from None
        except OSError as error:
            raise storage_error(error, self.path / ".lock") from error
        try:
            yield
        finally:
            lock.release()

    def remove_leftovers(self) -> None:
        """Delete temporary files that a killed writer left; the caller holds the lock."""
        for path in self.path.rglob(".*.tmp"):
            path.unlink(missing_ok=True)

    def recipe(self) -> Recipe:
        return load_recipe(self.recipe_file)

    def write_recipe(self, recipe: Recipe) -> None:
        write_text(self.recipe_file, f"# {self.recipe_file.name}: training from this file repeats the run\n{to_yaml(recipe)}")

    def manifest(self) -> Manifest:
        """Raises InputError if it is missing or damaged."""
        return Manifest.read(self.manifest_file)

    def write_manifest(self, manifest: Manifest) -> None:
        manifest.write(self.manifest_file)

    def update_manifest(self, **changes: Any) -> None:
        """Write the manifest with other values of these fields."""
        self.write_manifest(self.manifest().model_copy(update=changes))

    def set_status(self, status: Status, reason: str | None = None) -> None:
        self.update_manifest(status=status, reason=reason, changed=now())

    def summary(self) -> Summary:
        """The answer. Raises InputError if the run has none yet, or it is damaged."""
        if not self.summary_file.is_file():
            raise InputError(f"{self.path} has no summary.json: the run is not finished", hint=f"fieldmark resume {typed(self.path)}")
        return Summary.read(self.summary_file)


def refuse_existing(path: Path) -> None:
    """Raise InputError if a new run folder would touch something that is already there, or cannot be made."""
    if _holds_run(path):
        raise InputError(
            f"{path} already holds a run", hint=f"Continue it with `fieldmark resume {typed(path)}`, or choose another folder with --out."
        )
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} already exists and is not empty", hint="Choose another folder with --out.")
    check_creatable(path)


def _holds_run(path: Path) -> bool:
    return (path / "recipe.yaml").exists() and (path / "manifest.json").exists()


def new_run_path(parent: Path, name: str) -> Path:
    """`parent/name`, or the first of `parent/name-2`, `parent/name-3` … that is free."""
    path, number = parent / name, 2
    while path.exists():
        path, number = parent / f"{name}-{number}", number + 1
    return path


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The complete lines of a .jsonl file; a last line that was cut short is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
        try:
            rows.append(json.loads(line))
        except ValueError:
            break
    return rows


def now() -> datetime:
    """UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


def versions() -> dict[str, str]:
    """What a run was made with."""
    named = {"python": platform.python_version(), "platform": platform.platform()}
    for package in ("fieldmark", "torch", "torchvision", "timm", "numpy", "pillow"):
        try:
            named[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return named
