from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from fieldmark.core.errors import InputError
from fieldmark.scoring import metrics
from fieldmark.scoring.classes import per_class
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.summary import calibration_harm, evaluate_predictions, metrics_table


def predictions(labels: np.ndarray, classes: int = 9) -> Predictions:
    rng = np.random.default_rng(0)
    return Predictions(
        ids=np.array([str(i) for i in range(len(labels))], dtype=np.str_),
        labels=labels.astype(np.int32),
        logits=(2 * rng.normal(size=(len(labels), classes))).astype(np.float32),
        features=np.zeros((len(labels), 2), np.float32),
        class_names=tuple("abcdefghi"[:classes]),
    )


def test_metrics_are_per_cent_with_their_intervals_and_nll_is_nats() -> None:
    some = predictions(np.random.default_rng(1).integers(0, 9, 80))
    summary = evaluate_predictions(some, 200, seed=0).model_dump()
    names = ["top1", "top5", "balanced_accuracy", "macro_f1", "nll", "brier", "ece", "ece_adaptive"]
    biased = ["ece", "ece_adaptive"]
    ends = {name: ("", "_low", "_high", "_corrected") if name in biased else ("", "_low", "_high") for name in names}
    assert list(summary) == ["n"] + [name + end for name in names for end in ends[name]]
    assert summary["n"] == 80
    assert summary["top1"] == pytest.approx(100 * (some.logits.argmax(axis=1) == some.labels).mean())
    assert summary["nll"] == pytest.approx(metrics.nll(some.logits, some.labels))
    assert summary["ece"] == pytest.approx(100 * metrics.ece(some.logits, some.labels))
    for name in names:
        belongs = summary[f"{name}_corrected" if name in biased else name]
        assert summary[f"{name}_low"] <= belongs <= summary[f"{name}_high"]
    assert all(type(value) in (int, float) for value in summary.values())


def test_images_without_a_label_change_nothing() -> None:
    labels = np.random.default_rng(1).integers(0, 9, 60)
    labels[::3] = -1
    some = predictions(labels)
    known = labels >= 0
    kept = Predictions(some.ids[known], some.labels[known], some.logits[known], some.features[known], some.class_names)
    assert evaluate_predictions(some, 200, seed=0) == evaluate_predictions(kept, 200, seed=0)
    assert per_class(some) == per_class(kept)


def test_without_any_label_there_is_nothing_to_evaluate() -> None:
    with pytest.raises(InputError, match="no labelled images"):
        evaluate_predictions(predictions(np.full(5, -1)), 200, seed=0)
    with pytest.raises(InputError, match="no labelled images"):
        per_class(predictions(np.full(5, -1)))


def test_a_calibration_that_made_test_worse_is_said() -> None:
    some = predictions(np.random.default_rng(1).integers(0, 9, 80))
    sharper, softer = (evaluate_predictions(some, 200, 0, (some.logits * factor).astype(np.float32)) for factor in (2, 0.1))
    assert calibration_harm(evaluate_predictions(some, 200, 0), 30) is None and calibration_harm(softer, 30) is None
    said = calibration_harm(sharper, 1)
    assert said is not None and said.startswith("calibration, fitted on 1 image of val, made the probabilities of test worse: NLL from ")
    assert f"to {sharper.nll_calibrated:.3f} nats" in said


def test_the_table_has_the_corrected_calibration_error_with_its_interval_and_the_plain_one_below_in_each_state() -> None:
    some = predictions(np.random.default_rng(1).integers(0, 9, 80))
    metrics_of = evaluate_predictions(some, 200, 0, (0.3 * some.logits).astype(np.float32))
    stream = io.StringIO()
    Console(width=200, file=stream).print(metrics_table({"test": metrics_of}, 9))
    text = " ".join(stream.getvalue().split())
    for title, key in (("ECE %", "ece"), ("after calibration", "ece_calibrated")):
        value, low, high = metrics_of.estimate(key)
        assert value != getattr(metrics_of, key)
        assert f"{title} │ {value:.1f} [{low:.1f}, {high:.1f}] as computed │ {getattr(metrics_of, key):.1f}" in text
    assert text.startswith("with 95 % intervals; ECE corrected for few images ")
    f1 = metrics_of.interval("macro_f1")
    assert "macro F1 % │ {:.1f} [{:.1f}, {:.1f}] NLL".format(*f1) in text


def test_the_table_has_probabilities_before_and_after_calibration_and_no_top_5_of_five_classes() -> None:
    some = predictions(np.random.default_rng(1).integers(0, 5, 80), 5)
    both = evaluate_predictions(some, 200, 0, (0.1 * some.logits).astype(np.float32))
    stream = io.StringIO()
    Console(width=200, file=stream).print(metrics_table({"test": both, "unseen": evaluate_predictions(some, 200, 0)}, 5))
    text = " ".join(stream.getvalue().split())
    assert f"NLL │ {both.nll:.3f} [{both.nll_low:.3f}, {both.nll_high:.3f}]" in text
    assert f"after calibration │ {both.nll_calibrated:.3f} [{both.nll_calibrated_low:.3f}, {both.nll_calibrated_high:.3f}] │" in text
    assert text.count("after calibration") == 2 and "top-5" not in text


def test_what_is_not_corrected_is_not_said_to_be() -> None:
    many, few = (evaluate_predictions(predictions(np.random.default_rng(1).integers(0, 9, n)), 200, seed=0) for n in (80, 12))
    stream = io.StringIO()
    Console(width=200, file=stream).print(metrics_table({"val": few, "test": many}, 9))
    lines = stream.getvalue().splitlines()
    at = next(index for index, line in enumerate(lines) if line.startswith("ECE %"))
    assert lines[at + 1].split() == ["as", "computed", "│", "│", f"{many.ece:.1f}"]
    assert f"{few.ece:.1f}  [" in lines[at]
    stream = io.StringIO()
    Console(width=200, file=stream).print(metrics_table({"val": few}, 9))
    assert stream.getvalue().split()[:4] == ["with", "95", "%", "intervals"] and "corrected" not in stream.getvalue()
