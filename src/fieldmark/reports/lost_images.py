"""A report that shows images is not replaced by one that can no longer show them."""

from __future__ import annotations

from pathlib import Path

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError, Problem
from fieldmark.core.names import some, typed
from fieldmark.datasets.split_file import Recorded
from fieldmark.evaluation.run import Run

_IMAGE = b"data:image/jpeg"
_NAMED = 3


def refuse_losing_images(run: Run, console: Console, report: Path | None = None) -> None:
    """Raise InputError if a report, by default that in the run's folder, shows images, and some of test have moved or changed since."""
    report = report or run.folder.report_file
    if not report.is_file() or _IMAGE not in report.read_bytes():
        return
    manifest = run.folder.manifest()
    tested = Recorded.of(run.folder, manifest.class_names).only("test")
    loaded, changed = tested.compare(manifest.data, console)
    if not changed:
        return
    gone = not Path(manifest.data.root).exists()
    where = f"are not at {manifest.data.root} any more" if gone else "are gone or have changed"
    raise InputError(
        Problem(
            f"{len(changed):,} of the {len(loaded.dataset):,} images of test {where}, so a new report would lose those that it shows"
            f" now: {some([loaded.dataset.paths[row] for row in changed], _NAMED)}",
            kind="machine",
        ),
        hint=f"If they were moved: fieldmark evaluate {typed(run.path)} --moved-to PLACE. "
        f"To do without them, move {report} elsewhere first.",
    )
