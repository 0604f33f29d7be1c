"""How long evaluation takes: 50,000 synthetic predictions of 200 classes, on one thread.

    python benchmarks/evaluation.py --repeats 3

Logits come from features (genera of five look-alike classes, so that there are confusions and a taxonomy); val is a second draw of as many
images; train and the unknown images are fewer. Prints the median seconds of each part of what `train`, `calibrate` and `evaluate` do
with predictions and, in turn with it, of the usual alternative if there is one:
  figures     scikit-learn's classification_report, confusion_matrix, log_loss and top_k_accuracy_score, of one set of predictions
  intervals   a plain loop over resamples, of which a few are run and the time is scaled up: scikit-learn's figures of the rows drawn
              ("scikit-learn"), and sums of what each image adds, computed once ("numpy", ECE and Brier score included)
  neighbours  scikit-learn's NearestNeighbors
If both compute the same figure, they are checked to agree. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.special
import sklearn.metrics
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from fieldmark.evaluation.assessment import Assessment
from fieldmark.evaluation.unknowns import unknown_figures
from fieldmark.scoring import metrics
from fieldmark.scoring.calibration import fit_calibration
from fieldmark.scoring.classes import averages, per_class
from fieldmark.scoring.conformal import fit_class_sets
from fieldmark.scoring.confusion import blocks, cluster_order, confusion_matrix
from fieldmark.scoring.decisions import Wanted, fit_decisions
from fieldmark.scoring.intervals import bootstrap, intervals
from fieldmark.scoring.predictions import Predictions, softmax
from fieldmark.scoring.rejection import choose_score
from fieldmark.scoring.rejection_scores import NEIGHBOURS, fit_score, fitted_scores

PER_GENUS = 5
SEPARATION, OVERCONFIDENCE = 4.0, 1.5


def made_up(classes: int, width: int, sizes: dict[str, int], seed: int) -> dict[str, Predictions]:
    """Predictions by name; those called "unknown" are of as many classes again, of the same genera, and have no labels."""
    rng = np.random.default_rng(seed)
    genera = np.repeat(rng.standard_normal((-(-classes // PER_GENUS), width)), PER_GENUS, axis=0)[:classes]
    known, others = (genera + rng.standard_normal((classes, width)) for _ in range(2))
    known, others = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (known, others))
    names = tuple(f"class {index:03}" for index in range(classes))
    found = {}
    for name, size in sizes.items():
        kind = rng.integers(classes, size=size)
        centres = others if name == "unknown" else known
        features = (SEPARATION * centres[kind] + rng.standard_normal((size, width))).astype(np.float32)
        logits = (OVERCONFIDENCE * SEPARATION * features @ known.T).astype(np.float32)
        labels = np.full(size, -1) if name == "unknown" else kind
        found[name] = Predictions(np.char.mod(f"{name}/%d", np.arange(size)), labels.astype(np.int32), logits, features, names)
    return found


def report_of_scikit_learn(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    # In float32 they would not sum to one closely enough for it.
    probabilities, classes = scipy.special.softmax(logits.astype(np.float64), axis=1), np.arange(logits.shape[1])
    predicted = logits.argmax(axis=1)
    report = sklearn.metrics.classification_report(labels, predicted, output_dict=True)
    sklearn.metrics.confusion_matrix(labels, predicted)
    return {
        "top1": sklearn.metrics.top_k_accuracy_score(labels, logits, k=1, labels=classes),
        "top5": sklearn.metrics.top_k_accuracy_score(labels, logits, k=5, labels=classes),
        "macro_f1": report["macro avg"]["f1-score"],
        "nll": sklearn.metrics.log_loss(labels, probabilities, labels=classes),
    }


def report_of_ours(test: Predictions) -> dict[str, float]:
    found = metrics.figures(test.logits, test.labels)
    per_class(test)
    averages(test)
    confusion_matrix(test.labels, metrics.predicted_classes(test.logits, test.labels), len(test.class_names))
    return found


def loop_of_scikit_learn(logits: np.ndarray, labels: np.ndarray, resamples: int) -> np.ndarray:
    """top-1, top-5, balanced accuracy, macro F1 and negative log-likelihood of resampled rows: (resamples, 5)."""
    rng, classes = np.random.default_rng(0), np.arange(logits.shape[1])
    probabilities, predicted = scipy.special.softmax(logits.astype(np.float64), axis=1), logits.argmax(axis=1)
    found = []
    for _ in range(resamples):
        rows = rng.integers(len(labels), size=len(labels))
        right, guess, share = labels[rows], predicted[rows], probabilities[rows]
        found.append(
            (
                sklearn.metrics.accuracy_score(right, guess),
                sklearn.metrics.top_k_accuracy_score(right, share, k=5, labels=classes),
                sklearn.metrics.balanced_accuracy_score(right, guess),
                sklearn.metrics.f1_score(right, guess, average="macro"),
                sklearn.metrics.log_loss(right, share, labels=classes),
            )
        )
    return np.array(found)


def loop_of_numpy(logits: np.ndarray, labels: np.ndarray, resamples: int) -> np.ndarray:
    """top-1, top-5, balanced accuracy, macro F1, negative log-likelihood, Brier score and both ECEs of resampled rows: (resamples, 8)."""
    rng, classes = np.random.default_rng(0), logits.shape[1]
    probabilities, predicted = softmax(logits).astype(np.float64), logits.argmax(axis=1)
    right = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    hit, top5 = predicted == labels, (probabilities > right[:, None]).sum(axis=1) < 5
    loss, brier = -np.log(right), (probabilities**2).sum(axis=1) - 2 * right + 1
    confidence = probabilities.max(axis=1)
    gap, bins = confidence - hit, (metrics.confidence_bins(confidence), metrics.adaptive_bins(confidence))
    found = []
    for _ in range(resamples):
        rows = rng.integers(len(labels), size=len(labels))
        hits = np.bincount(labels[rows][hit[rows]], minlength=classes)
        actual, given = np.bincount(labels[rows], minlength=classes), np.bincount(predicted[rows], minlength=classes)
        errors = [np.abs(np.bincount(each[rows], weights=gap[rows])).sum() / len(rows) for each in bins]
        means = (each[rows].mean() for each in (hit, top5, loss, brier))
        found.append((*means, np.nanmean(hits / actual), np.nanmean(2 * hits / (actual + given)), *errors))
    return np.array(found)


def neighbours_of_scikit_learn(train: np.ndarray, asked: np.ndarray) -> np.ndarray:
    unit_train, unit_asked = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in (train, asked))
    search = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute", n_jobs=1).fit(unit_train)
    return 1 - (search.kneighbors(unit_asked)[0] ** 2).mean(axis=1) / 2


class Turns:
    """Times of several ways to do the same thing, in turn."""

    def __init__(self, repeats: int) -> None:
        self.repeats = repeats
        self.seconds: dict[str, dict[str, float]] = {}

    def take(self, part: str, ways: dict[str, Callable[[], Any]], scale: dict[str, float] | None = None) -> dict[str, Any]:
        """The result of each way; "fieldmark" is the first of them. `scale` multiplies the seconds of a way."""
        taken: dict[str, list[float]] = {name: [] for name in ways}
        results = {}
        for _ in range(self.repeats):
            for name, way in ways.items():
                started = time.perf_counter()
                results[name] = way()
                taken[name].append((time.perf_counter() - started) * (scale or {}).get(name, 1))
        medians = {name: statistics.median(each) for name, each in taken.items()}
        others = "".join(
            f"   {name} {value:8.2f} s, {value / medians['fieldmark']:6.1f} times" for name, value in list(medians.items())[1:]
        )
        print(f"{part:<38} {medians['fieldmark']:8.2f} s{others}", flush=True)
        self.seconds[part] = {name: round(value, 3) for name, value in medians.items()}
        return results


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    sizes = {"val": arguments.images, "test": arguments.images, "train": arguments.train, "unknown": arguments.unknown}
    made = made_up(arguments.classes, arguments.features, sizes, arguments.seed)
    val, test, train, unknown = (made[name] for name in sizes)
    levels = {"genus": [f"genus {index // PER_GENUS:02}" for index in range(arguments.classes)]}
    turns, resamples = Turns(arguments.repeats), arguments.resamples

    found = turns.take(
        "figures, report, confusion matrix",
        {"fieldmark": lambda: report_of_ours(test), "scikit-learn": lambda: report_of_scikit_learn(test.logits, test.labels)},
    )
    print(", ".join(f"{name} {100 * found['fieldmark'][name]:.1f} %" for name in ("top1", "top5", "ece")))
    for name, value in found["scikit-learn"].items():
        np.testing.assert_allclose(found["fieldmark"][name], value, rtol=1e-5)
    few = arguments.loop
    found = turns.take(
        f"intervals from {resamples:,} resamples",
        {
            "fieldmark": lambda: intervals(test.logits, test.labels, resamples, 0),
            "scikit-learn": lambda: loop_of_scikit_learn(test.logits, test.labels, few),
            "numpy": lambda: loop_of_numpy(test.logits, test.labels, 10 * few),
        },
        {"scikit-learn": resamples / few, "numpy": resamples / (10 * few)},
    )
    spread = bootstrap(test.logits, test.labels, resamples, 0)
    for column, name in enumerate(("top1", "top5", "nll", "brier", "balanced_accuracy", "macro_f1", "ece", "ece_adaptive")):
        error = abs(found["numpy"][:, column].mean() - spread[name].mean())
        assert error <= 5 * spread[name].std() * (1 / (10 * few) + 1 / resamples) ** 0.5, name
    wanted = Wanted()
    turns.take("decisions: calibration", {"fieldmark": lambda: fit_calibration(val)})
    turns.take("decisions: score of rejection", {"fieldmark": lambda: choose_score(train, val)})
    probabilities = softmax(val.logits)
    turns.take("decisions: sets", {"fieldmark": lambda: fit_class_sets(probabilities, val.labels, wanted.coverage, "raps")})
    decisions = turns.take("decisions, all", {"fieldmark": lambda: fit_decisions(train, val, levels, wanted)})["fieldmark"].decisions
    nearest = turns.take(
        "neighbours of test in train",
        {
            "fieldmark": lambda: fit_score("knn", train)(test.logits, test.features),
            "scikit-learn": lambda: neighbours_of_scikit_learn(train.features, test.features),
        },
    )
    np.testing.assert_allclose(nearest["fieldmark"], nearest["scikit-learn"], rtol=1e-3)
    measured = {"fieldmark": lambda: unknown_figures("unknown", fitted_scores(train), test, unknown, decisions)}
    figures = turns.take("unknown images", measured)["fieldmark"]
    print(", ".join(f"{each.name} {each.auroc:.1f}" for each in figures.scores))

    def assessment() -> Assessment:
        trained = np.bincount(train.labels, minlength=arguments.classes)
        return Assessment(test, decisions.calibration(test.logits), trained, levels, decisions, (figures,), None)

    matrix = assessment().matrix
    turns.take("assessment: order and blocks", {"fieldmark": lambda: (cluster_order(matrix), blocks(matrix))})
    turns.take("assessment: sets", {"fieldmark": lambda: assessment().sets})
    turns.take("assessment: re-splits", {"fieldmark": lambda: assessment().resplit})
    turns.take("assessment, all of evaluation.json", {"fieldmark": lambda: json.dumps(assessment().to_dict())})
    return turns.seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("images", 50_000), ("classes", 200), ("features", 128), ("train", 20_000), ("unknown", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--loop", type=int, default=4, help="resamples of scikit-learn's loop; numpy's does ten times as many")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with threadpool_limits(1):
        seconds = measure(arguments)
    whole = (
        f"intervals from {arguments.resamples:,} resamples",
        "decisions, all",
        "unknown images",
        "assessment, all of evaluation.json",
    )
    total = sum(seconds[part]["fieldmark"] for part in whole)
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 2**10
    print(f"{'intervals, decisions, unknown, assessment':<38} {total:8.2f} s; {peak:,.0f} MiB at most, scikit-learn's included")
    print(json.dumps({"images": arguments.images, "classes": arguments.classes, "seconds": seconds}))


if __name__ == "__main__":
    main()
