"""The pairs of classes that are confused most, as strips of images of both, with maps of what supports each prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from fieldmark.datasets.recorded_images import RecordedImages
from fieldmark.evaluation.assessment import Assessment
from fieldmark.evaluation.deletion import Deletion, DeletionSummary, deletion_check, deletion_summary
from fieldmark.reports.explain import maps_of
from fieldmark.reports.overlay import overlay
from fieldmark.reports.pages import jpeg_uri
from fieldmark.reports.seen import as_seen
from fieldmark.runtime.decode import UnreadableImage
from fieldmark.scoring.metrics import confidences

_PAIRS, _EACH = 6, 3
_CHECKED = 8
"""Maps that are put to the deletion check, each of which takes as long as 220 images."""
_SIDE, _QUALITY = 224, 78


@dataclass(frozen=True)
class StripImage:
    """`said` is the prediction, and `mistaken` whether that is wrong. `image` and `map` are JPEGs as data URIs.

    Without an `image`, `reason` says why; without a `map`, the network has none.
    """

    path: str
    said: str
    mistaken: bool
    image: str | None
    map: str | None
    reason: str = ""


@dataclass(frozen=True)
class Side:
    """One class of a pair: of its `n` images, `taken` were predicted as the other."""

    name: str
    n: int
    taken: int
    images: tuple[StripImage, ...]


@dataclass(frozen=True)
class Strips:
    """Pairs of sides, those confused most first; `summary` of the deletion check is None without maps."""

    pairs: tuple[tuple[Side, Side], ...]
    summary: DeletionSummary | None


@dataclass(frozen=True, eq=False)
class _Seen:
    """An image that could be read: as the network sees it, uint8 (3, S, S), and what it said."""

    pixels: np.ndarray
    digest: str
    label: int


def strips(found: Assessment, images: RecordedImages) -> Strips:
    """Of each class the most confident mistakes first, then the most confident correct predictions."""
    drawer = _Drawer(found, images)
    chosen = [(drawer.rows(pair.one, pair.other), drawer.rows(pair.other, pair.one)) for pair in found.pairs[:_PAIRS]]
    # Mistakes first, so that the maps that are checked are of them.
    drawn = drawer.draw(sorted((row for rows in chosen for side in rows for row in side), key=drawer.is_right))

    def side(label: int, taken: int, rows: Sequence[int]) -> Side:
        return Side(found.test.class_names[label], int(found.matrix[label].sum()), taken, tuple(drawn[row] for row in rows))

    return Strips(
        pairs=tuple(
            (side(pair.one, pair.one_as_other, of_one), side(pair.other, pair.other_as_one, of_other))
            for pair, (of_one, of_other) in zip(found.pairs, chosen, strict=False)
        ),
        summary=drawer.summary(),
    )


class _Drawer:
    def __init__(self, found: Assessment, images: RecordedImages):
        self._run, self._found, self._images = found.evidence.run, found, images
        self._order = np.argsort(-confidences(found.logits), kind="stable")
        self._checks: list[Deletion] = []

    def is_right(self, row: int) -> bool:
        return bool(self._found.hits[row])

    def rows(self, label: int, other: int) -> list[int]:
        """Images of a class: those predicted as the other one, then those classified correctly."""
        own = self._order[self._found.test.labels[self._order] == label]
        said = self._found.predicted[own]
        mistaken, right = own[said == other].tolist(), own[said == label].tolist()
        kept = max(_EACH - len(right), min(len(mistaken), _EACH - 1))
        return [*mistaken[:kept], *right][:_EACH]

    def draw(self, rows: Sequence[int]) -> dict[int, StripImage]:
        seen: dict[int, _Seen] = {}
        shown, reasons = {}, {}
        for row in dict.fromkeys(rows):
            path = str(self._found.test.ids[row])
            try:
                data, box = self._images.read(path), self._images.boxes.get(path)
                pixels = self._run.preprocess.pixels(data, path, box)
                shown[row] = as_seen(self._run.preprocess, data, path, box, _SIDE)
                seen[row] = _Seen(pixels, self._images.hashes[path], int(self._found.predicted[row]))
            except UnreadableImage as error:
                reasons[row] = error.reason
        heats = self._heats(seen)
        return {
            row: StripImage(
                path=str(self._found.test.ids[row]),
                said=self._found.test.class_names[self._found.predicted[row]],
                mistaken=not self.is_right(row),
                image=jpeg_uri(shown[row], _QUALITY) if row in shown else None,
                map=jpeg_uri(overlay(shown[row], heats[row]), _QUALITY) if row in heats else None,
                reason=reasons.get(row, ""),
            )
            for row in rows
        }

    def _heats(self, seen: Mapping[int, _Seen]) -> dict[int, np.ndarray]:
        if not seen:
            return {}
        maps = maps_of(self._run, np.stack([each.pixels for each in seen.values()]), np.array([each.label for each in seen.values()]))
        if maps is None:
            return {}
        with self._run.computing():
            for each, heat in list(zip(seen.values(), maps, strict=True))[:_CHECKED]:
                self._checks.append(self._check(each, heat))
        return dict(zip(seen, maps, strict=True))

    def _check(self, each: _Seen, heat: np.ndarray) -> Deletion:
        run = self._run

        def probability(deleted: np.ndarray) -> np.ndarray:
            logits, _ = run.session(deleted)
            return run.probabilities(logits)[:, each.label]

        return deletion_check(probability, each.pixels, heat, seed=int(each.digest[:8], 16))

    def summary(self) -> DeletionSummary | None:
        return deletion_summary(self._checks) if self._checks else None
