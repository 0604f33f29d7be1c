"""Augmentation that erases what tells two classes apart: a flip for left and right arrows, a rotation for 6 and 9, a hue for dyed twins.

A linear classifier on thumbnails of train, cross-fitted, answers three questions. Does the augmentation turn most images of one class into
what is taken for one other class, and the other way round? Can these two be told apart as they are? And can they no longer, once the
classifier has learnt both from turned images as well? Classes are named if all three are true, and luck does not explain the first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special

from fieldmark.core.names import some
from fieldmark.core.randomness import key, permutation
from fieldmark.core.recipe.augment import Augment
from fieldmark.runtime.opencv import opencv

_SIDE = 32
_CELL = 4
_ORIENTATIONS = 9
_HUES = 12
_SHIFT = 3
"""In pixels of a thumbnail: the classifier learns shifted copies as well, because objects lie elsewhere once they are turned."""
_MOST, _MOST_PER_CLASS = 4000, 200
"""Images that are looked at, and images with their shifted copies."""
_FOLDS = 2
_RIDGE = 1e-3
_LEVEL, _EACH_WAY = 0.001, 0.05
"""How likely luck may be: over all classes and turns, and for one class that is taken for another."""
_AS_SURELY = 0.75
"""Of the share of a class that is known: the share of another, turned, that must be taken for it."""
_STILL_KNOWN = 2 / 3
"""The share of what could be told beyond guessing that must be left for classes not to be named."""
_NAMED = 3

Change = Callable[[np.ndarray], np.ndarray]
"""From uint8 (n, side, side, 3) to the same."""


@dataclass(frozen=True)
class Turn:
    """One thing that an augmentation does to an image, and its reverse; the recipe key that turns it off."""

    said: str
    setting: str
    forth: Change
    back: Change


@dataclass(frozen=True)
class Erased:
    """Two classes that an augmentation makes alike. `accuracy` is how well they can be told apart without it, `left` with it; shares."""

    one: str
    other: str
    turn: Turn
    accuracy: float
    left: float


def turns_of(augment: Augment) -> Iterator[Turn]:
    """What a recipe's augmentation does to whole images."""
    if augment.flip > 0:
        yield Turn("a horizontal flip", "augment.flip=0", _mirrored, _mirrored)
    if augment.rotate >= 60:  # one turned by 45 degrees and another turned back by as much are alike
        yield Turn("a rotation by 90 degrees", "augment.rotate=20", _quarter(1), _quarter(3))
    if augment.rotate >= 120:
        yield Turn("a rotation by 180 degrees", "augment.rotate=20", _quarter(2), _quarter(2))
    if augment.rotate >= 120 and augment.flip > 0:
        yield Turn("a flip with a rotation by 180 degrees", "augment.flip=0", _upside_down, _upside_down)
    for share in (augment.hue, augment.hue / 2) if augment.hue >= 0.05 else ():
        yield Turn("a change of the hue", "augment.hue=0", _hue(share), _hue(-share))


def erased_classes(pixels: np.ndarray, rows: np.ndarray, labels: np.ndarray, class_names: Sequence[str], augment: Augment) -> list[Erased]:
    """Pairs of classes that the augmentation makes alike, each pair once.

    Args:
        pixels: uint8 (all, 3, side, side).
        rows: int64 (n,), which of them are looked at; at most some thousand are.
        labels: int (all,).
    """
    turns = list(turns_of(augment))
    chosen = rows[_sample(labels[rows])]
    if not turns or len(np.unique(labels[chosen])) < 2:
        return []
    images, labels = _thumbnails(pixels, chosen), labels[chosen]
    plain, probe = _features(images), _Probe(labels, len(class_names))
    weights = probe.learn(list(_shifted(images)))
    answers, level = weights.answer(plain), _LEVEL / (len(turns) * len(class_names))
    found: dict[tuple[int, int], Erased] = {}
    for turn in turns:
        forth, back = weights.answer(_features(turn.forth(images))), weights.answer(_features(turn.back(images)))
        swapped = [pair for pair in _swapped(answers, forth, back, labels, level) if pair not in found]
        if not swapped:
            continue
        turned = probe.learn([each for way in (images, turn.forth(images), turn.back(images)) for each in _shifted(way)]).answer(plain)
        for pair in swapped:
            accuracy, left = (_told_apart(scores, labels, pair) for scores in (answers, turned))
            if left - 0.5 < _STILL_KNOWN * (accuracy - 0.5):
                found[pair] = Erased(class_names[pair[0]], class_names[pair[1]], turn, accuracy, left)
    return list(found.values())


def cautions_of(erased: Sequence[Erased]) -> list[str]:
    """A sentence for each augmentation that erases a difference."""
    said = []
    for turn in dict.fromkeys(each.turn for each in erased):
        pairs = [f"{each.one} and {each.other}" for each in erased if each.turn is turn]
        said.append(
            f"{turn.said.capitalize()} turns classes into one another, so that training with it cannot tell them apart: "
            f"{some(pairs, _NAMED)}. {turn.setting} leaves it out."
        )
    return said


def _sample(labels: np.ndarray) -> np.ndarray:
    """Positions of the images that are looked at: of each class equally many, or all, in an order that is the same every time."""
    order = permutation(key("erased classes"), len(labels))
    most = min(_MOST_PER_CLASS, _MOST // max(len(np.unique(labels)), 1))
    of_class = np.argsort(labels[order], kind="stable")
    order = order[of_class]
    _, first = np.unique(labels[order], return_index=True)
    place = np.arange(len(order)) - np.repeat(first, np.diff(np.append(first, len(order))))
    return order[place < most]


def _thumbnails(pixels: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """uint8 (n, side, side, 3), averaged."""
    cv2 = opencv()
    return np.stack([cv2.resize(pixels[row].transpose(1, 2, 0), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for row in chosen])


def _shifted(images: np.ndarray) -> Iterator[np.ndarray]:
    """Features of the thumbnails and, if these are few, of copies that are shifted."""
    steps = (0, -_SHIFT, _SHIFT) if 9 * len(images) <= _MOST else (0,)
    padded = np.pad(images, ((0, 0), (_SHIFT, _SHIFT), (_SHIFT, _SHIFT), (0, 0)), mode="edge")
    for down in steps:
        for right in steps:
            top, left = _SHIFT + down, _SHIFT + right
            yield _features(padded[:, top : top + _SIDE, left : left + _SIDE])


def _features(images: np.ndarray) -> np.ndarray:
    """Directions of edges in cells (Dalal and Triggs, 2005), mean colours of larger cells, and a histogram of hues: float32 (n, D)."""
    count, cells = len(images), _SIDE // _CELL
    grey = images.astype(np.float32).mean(axis=3)
    down, right = np.gradient(grey, axis=(1, 2))
    strength = np.sqrt(np.hypot(down, right))
    orientation = (np.arctan2(down, right) % np.pi * (_ORIENTATIONS / np.pi)).astype(np.int64) % _ORIENTATIONS
    across = np.arange(_SIDE) // _CELL
    cell = across[:, None] * cells + across[None, :]
    places = (np.arange(count)[:, None, None] * cells**2 + cell) * _ORIENTATIONS + orientation
    edges = np.bincount(places.ravel(), strength.ravel(), count * cells**2 * _ORIENTATIONS).reshape(count, -1)
    mean = images.reshape(count, 4, _SIDE // 4, 4, _SIDE // 4, 3).mean(axis=(2, 4)).reshape(count, -1)
    highest, lowest = images.max(axis=3).astype(np.float32), images.min(axis=3).astype(np.float32)
    hue = _hues(images)
    hues = np.bincount((np.arange(count)[:, None, None] * _HUES + hue).ravel(), (highest - lowest).ravel(), count * _HUES)
    return np.concatenate([_unit(edges), _unit(mean - mean.mean(axis=1, keepdims=True)), _unit(hues.reshape(count, -1))], axis=1).astype(
        np.float32
    )


def _hues(images: np.ndarray) -> np.ndarray:
    """The bin of each pixel's hue, int64 (n, side, side)."""
    hue = opencv().cvtColor(images.reshape(-1, _SIDE, 3), opencv().COLOR_RGB2HSV)[..., 0]
    return (hue.astype(np.int64) * _HUES // 180).reshape(images.shape[:3])


def _unit(values: np.ndarray) -> np.ndarray:
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)


@dataclass(frozen=True)
class _Probe:
    """Ridge regression on the classes. Each image is answered by weights that have not seen it."""

    labels: np.ndarray
    classes: int

    def learn(self, seen: Sequence[np.ndarray]) -> _Learnt:
        """From features (n, D) of the same n images, looked at in several ways."""
        folds, parts = np.arange(len(self.labels)) % _FOLDS, []
        for fold in range(_FOLDS):
            rows = folds != fold
            features = np.concatenate([each[rows] for each in seen]).astype(np.float64)
            targets = np.tile(np.eye(self.classes)[self.labels[rows]], (len(seen), 1))
            centre, mean = features.mean(axis=0), targets.mean(axis=0)
            features -= centre
            gram = features.T @ features
            gram[np.diag_indices_from(gram)] += _RIDGE * len(features)
            parts.append((centre, np.linalg.solve(gram, features.T @ (targets - mean)), mean))
        return _Learnt(folds, tuple(parts))


@dataclass(frozen=True)
class _Learnt:
    """Centre, weights and mean answer of each fold."""

    folds: np.ndarray
    parts: tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]

    def answer(self, asked: np.ndarray) -> np.ndarray:
        """Scores float64 (n, C) for features (n, D) of the same images."""
        scores = np.empty((len(asked), len(self.parts[0][2])))
        for fold, (centre, weights, mean) in enumerate(self.parts):
            rows = self.folds == fold
            scores[rows] = (asked[rows] - centre) @ weights + mean
        return scores


def _swapped(answers: np.ndarray, forth: np.ndarray, back: np.ndarray, labels: np.ndarray, level: float) -> Iterator[tuple[int, int]]:
    """Pairs of classes that are known as they are, and of which one, turned forth, is taken for the other, and the other, turned back, for
    the first, nearly as surely as each is known."""
    there, here = ({int(label): _taken_for(scores[labels == label]) for label in np.unique(labels)} for scores in (forth, back))
    known = {label: float((answers[labels == label].argmax(axis=1) == label).mean()) for label in there}
    pairs = set()
    for one, (other, share, luck) in there.items():
        if other == one or other not in here:
            continue
        again, share_back, luck_back = here[other]
        sure = min(known[one], known[other]) > 0.5 and share >= _AS_SURELY * known[other] and share_back >= _AS_SURELY * known[one]
        if again == one and sure and max(luck, luck_back) <= _EACH_WAY and luck * luck_back <= level:
            pairs.add((min(one, other), max(one, other)))
    yield from sorted(pairs)


def _taken_for(scores: np.ndarray) -> tuple[int, float, float]:
    """The class that most of these images are taken for, their share, and how likely that is if it were at most half of them."""
    counts = np.bincount(scores.argmax(axis=1), minlength=scores.shape[1])
    most = int(counts.argmax())
    luck = scipy.special.betainc(counts[most], len(scores) - counts[most] + 1, 0.5)
    return most, float(counts[most] / len(scores)), float(luck)


def _told_apart(scores: np.ndarray, labels: np.ndarray, pair: tuple[int, int]) -> float:
    """The mean of both classes' shares of images whose own score is the higher of the two."""
    one, other = (scores[labels == label][:, pair] for label in pair)
    return float(((one[:, 0] > one[:, 1]).mean() + (other[:, 1] > other[:, 0]).mean()) / 2)


def _mirrored(images: np.ndarray) -> np.ndarray:
    return images[:, :, ::-1]


def _upside_down(images: np.ndarray) -> np.ndarray:
    return images[:, ::-1]


def _quarter(turns: int) -> Change:
    return lambda images: np.rot90(images, turns, axes=(1, 2))


def _hue(share: float) -> Change:
    def turned(images: np.ndarray) -> np.ndarray:
        cv2 = opencv()
        hsv = cv2.cvtColor(np.ascontiguousarray(images).reshape(-1, _SIDE, 3), cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0].astype(np.int64) + round(share * 180)) % 180
        return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).reshape(images.shape)

    return turned
