"""How well scores separate unknown images from known ones: their distributions and their ROC curves."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fieldmark.reports.charts.chart import Chart
from fieldmark.reports.charts.drawing import INK, LEAST, LINES, PAPER, REFERENCE, line_style, plain_axes, plain_text
from fieldmark.scoring.rejection import auroc

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Scores = tuple[np.ndarray, np.ndarray]
"""Those of the known and of the unknown images."""

_KNOWN, _UNKNOWN = LINES[:2]
_BINS = 40
_TAIL = 0.5
"""Per cent of the images of either kind that may lie beyond each end of the bins."""
_SEEN = 500
"""Steps of a share that can be distinguished."""


def rejection_charts(
    known: np.ndarray,
    unknown: np.ndarray,
    threshold: float,
    score: str,
    curves: Mapping[str, Scores] | None = None,
    page_key: str = "",
) -> list[Chart]:
    """How the scores of known and unknown images are distributed, and the ROC curves of this score and of others.

    threshold: an image is accepted from this score on
    curves: by name of a score, its values for the known and for the unknown images
    page_key: differs between the sets of unknown images of a page
    NaN counts as -inf. Raises InputError if there are no known or no unknown images.
    """
    of_scores = _all(known, unknown, score, curves)
    distribution = partial(_draw_scores, known=of_scores[score][0], unknown=of_scores[score][1], threshold=threshold)
    roc = partial(_draw_curves, curves=of_scores, threshold=threshold, score=score)
    described = _described(*of_scores[score], threshold, score)
    return [
        Chart(f"scores of known and unknown images ({score})", described, 4.6, 3.8, distribution, page_key=page_key),
        Chart("known against unknown images accepted", _ranked(of_scores), 4.6, 3.8, roc, page_key=page_key),
    ]


def _all(known: np.ndarray, unknown: np.ndarray, score: str, curves: Mapping[str, Scores] | None) -> dict[str, Scores]:
    """Without NaN, the chosen score first."""
    given = {score: (known, unknown)} | {name: scores for name, scores in (curves or {}).items() if name != score}
    for one, other in given.values():
        auroc(one, other)  # which says what is wrong with them
    return {name: (_numbers(one), _numbers(other)) for name, (one, other) in given.items()}


def _numbers(scores: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(scores), -np.inf, scores).astype(np.float64)


def _accepted(scores: np.ndarray, threshold: float) -> float:
    """Per cent."""
    return 100 * float((scores >= threshold).mean())


# ---- scores -----------------------------------------------------------------------------------------------------------------------


def _draw_scores(axes: Axes, known: np.ndarray, unknown: np.ndarray, threshold: float) -> None:
    plain_axes(axes)
    edges, beyond = _bins(known, unknown, threshold)
    highest = 0.0
    for name, scores, colour in (("known", known, _KNOWN), ("unknown", unknown, _UNKNOWN)):
        shares = 100 * np.histogram(np.clip(scores, edges[0], edges[-1]), edges)[0] / len(scores)
        highest = max(highest, float(shares.max()))
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.16, linewidth=0, zorder=2)
        label = f"{name}: {_accepted(scores, threshold):.1f} % accepted"
        axes.stairs(shares, edges, color=colour, linewidth=1.6, label=label, zorder=3)
    if math.isfinite(threshold):
        axes.axvline(threshold, color=INK, linewidth=1.2, linestyle=":", label=f"threshold: {threshold:.4g}", zorder=4)
    else:
        axes.plot([], [], " ", label=f"all are {'accepted' if threshold < 0 else 'rejected'}: no threshold")
    axes.set(xlim=(edges[0], edges[-1]), xlabel=f"score{beyond}", ylabel="images of each kind (%)")
    axes.set_ylim(0, 1.28 * highest)  # room for the legend
    axes.legend(facecolor=PAPER, edgecolor="none", framealpha=0.85, fontsize=LEAST)


def _bins(known: np.ndarray, unknown: np.ndarray, threshold: float) -> tuple[np.ndarray, str]:
    """Ends of the bins, which show the threshold, and a word about what lies beyond them."""
    both = np.concatenate([known, unknown])
    finite = [scores[np.isfinite(scores)] for scores in (known, unknown)]
    limits = [np.percentile(scores, (_TAIL, 100 - _TAIL)) for scores in finite if len(scores)]
    shown = np.concatenate([*limits, [threshold] if math.isfinite(threshold) else []])
    low, high = (float(shown.min()), float(shown.max())) if len(shown) else (0.0, 0.0)
    spread = (high - low) * 0.02 or max(abs(low), 1.0) / 2
    low, high = low - spread, high + spread
    beyond = " (outer bins: all beyond)" if ((both < low) | (both > high)).any() else ""
    return np.linspace(low, high, _BINS + 1), beyond


def _described(known: np.ndarray, unknown: np.ndarray, threshold: float, score: str) -> str:
    """The chart in words, for those who do not see it."""
    parts = []
    for name, scores in (("known", known), ("unknown", unknown)):
        low, middle, high = np.quantile(scores, (0.25, 0.5, 0.75), method="nearest")
        spread = f"half of them score from {low:.4g} to {high:.4g}, the median is {middle:.4g}"
        parts.append(f"{len(scores):,} {name} images, of which {_accepted(scores, threshold):.1f} % are accepted: {spread}")
    return f"distribution of the score {score}, accepted from {threshold:.4g} on: {'; '.join(parts)}"


# ---- ROC --------------------------------------------------------------------------------------------------------------------------


def _draw_curves(axes: Axes, curves: Mapping[str, Scores], threshold: float, score: str) -> None:
    plain_axes(axes)
    axes.plot([0, 100], [0, 100], color=REFERENCE, linewidth=1, linestyle=(0, (4, 3)), zorder=1.5)
    styles = {name: line_style(number) for number, name in enumerate(curves)}
    for name in sorted(curves, key=lambda name: -auroc(*curves[name])):
        chosen = name == score
        of_unknown, of_known = _roc(*curves[name])
        label = f"{name}: {100 * auroc(*curves[name]):.1f} %"
        line: dict[str, Any] = {"linewidth": 2.6 if chosen else 1.2, "zorder": 3 if chosen else 2}
        axes.plot(100 * of_unknown, 100 * of_known, label=label, **styles[name], **line)
    known, unknown = curves[score]
    mark: dict[str, Any] = {"markersize": 8, "markeredgecolor": PAPER, "zorder": 4, "clip_on": False}
    axes.plot(
        [_accepted(unknown, threshold)], [_accepted(known, threshold)], "o", color=styles[score]["color"], label="at the threshold", **mark
    )
    ticks = range(0, 101, 20)
    labels = {"xlabel": "unknown images accepted (%)", "ylabel": "known images accepted (%)"}
    axes.set(xlim=(0, 100), ylim=(0, 100), xticks=ticks, yticks=ticks, **labels)
    legend = axes.legend(title="AUROC", frameon=False, fontsize=LEAST, title_fontsize=LEAST, alignment="left", loc="lower right")
    plain_text(legend.get_texts())
    for text in legend.get_texts():
        if text.get_text().startswith(f"{score}: "):
            text.set_fontweight("bold")


def _roc(known: np.ndarray, unknown: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Shares of the unknown and of the known that are accepted, at thresholds from the highest; what cannot be seen is left out."""
    values, places = np.unique(np.concatenate([known, unknown]), return_inverse=True)
    shares = []
    for part in (places[len(known) :], places[: len(known)]):
        counts = np.bincount(part, minlength=len(values))[::-1].cumsum()
        shares.append(np.concatenate([[0.0], counts / len(part)]))
    of_unknown, of_known = shares
    cells = np.floor(np.stack(shares) * _SEEN)
    kept = np.append((cells[:, 1:] != cells[:, :-1]).any(axis=0), True)  # the last point of each cell
    kept[0] = True
    return of_unknown[kept], of_known[kept]


def _ranked(curves: Mapping[str, Scores]) -> str:
    """The chart in words, for those who do not see it."""
    found = sorted(((auroc(*scores), name) for name, scores in curves.items()), reverse=True)
    chosen = next(iter(curves))
    said = ", ".join(f"{name}{' (chosen)' * (name == chosen)} {100 * value:.1f} %" for value, name in found)
    return f"known against unknown images accepted, as thresholds fall; area under the curves (AUROC): {said}"
