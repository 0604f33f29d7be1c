"""Data of a run that lie in another place now: found there, compared with what the run recorded, and remembered in its manifest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.manifest import Origin
from fieldmark.core.names import shown, some
from fieldmark.core.run_folder import RunFolder
from fieldmark.datasets.content import MISSING
from fieldmark.datasets.layouts.location import locate
from fieldmark.datasets.split_file import Recorded, differing, images_of
from fieldmark.runtime.decode import UnreadableImage

_NAMED = 10


def move_data(folder: RunFolder, place: str | Path, console: Console) -> None:
    """Record in manifest.json that the run's data are at `place`: what was given as DATA, or the folder that holds it.

    Every image of the split table is compared by its hash. Raises InputError, which says how many differ and which, if any does.
    """
    with folder.locked():
        manifest = folder.manifest()
        recorded = Recorded.of(folder, manifest.class_names)
        origin = _there(manifest.data, locate(place), recorded)
        loaded, changed = recorded.compare(origin, console)
        if changed:
            missing = sum(loaded.content.problems.get(row) == MISSING for row in changed)
            raise InputError(
                f"{shown(origin.root)} does not hold the data of {folder.path}: of {len(loaded.dataset):,} images, "
                f"{differing(len(changed), missing)}: {some([loaded.dataset.paths[row] for row in changed], _NAMED)}",
                hint=f"--moved-to names what was at {manifest.data.root}; other data are evaluated with --data.",
            )
        folder.update_manifest(data=origin)
    console.say(f"all {len(loaded.dataset):,} images are in {shown(origin.root)} as they were; the run looks for them there from now on")


def _there(origin: Origin, place: Path, recorded: Recorded) -> Origin:
    """The origin with the root, in or around `place`, below which the first of the recorded images lies; `place` if none does."""
    first = next((path for path, digest in zip(recorded.stored["path"], recorded.stored["hash"], strict=True) if digest), "")
    origins = [origin.model_copy(update={"root": str(root.resolve())}) for root in _roots(place, Path(origin.root))]
    return next((each for each in origins if _holds(each, first)), origins[0])


def _roots(place: Path, before: Path) -> Iterator[Path]:
    """What may be the root now: the place, the folder of a table that was named, and a folder that is called as it was before."""
    yield place
    if place.is_file():
        yield place.parent
    for depth in range(1, len(before.parts)):
        yield place.joinpath(*before.parts[-depth:])


def _holds(origin: Origin, path: str) -> bool:
    try:
        images_of(origin).stamp(path)
    except (OSError, UnreadableImage):
        return False
    return True
