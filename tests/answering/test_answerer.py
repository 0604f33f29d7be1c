"""Answers over sessions that are plain functions of arrays: which image gets which answer, from files and from bytes."""

from __future__ import annotations

import io
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmark.answering.answer import Answer
from fieldmark.answering.answerer import Answerer
from fieldmark.answering.networks import Networks, Outputs, Session
from fieldmark.core.errors import InputError
from fieldmark.runtime.preprocess import Preprocess
from fieldmark.scoring.combination import Mean
from fieldmark.scoring.decisions import Wanted, fit_decisions
from fieldmark.scoring.predictions import Predictions, softmax
from fieldmark.scoring.rejection_scores import fit_score

NAMES = ("dark", "middling", "light")
WHOLE = Preprocess(4, "squash", (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))


@dataclass
class Brightness:
    """A session that knows images by their mean grey level; `seen` counts the images of each call."""

    preprocess: Preprocess = WHOLE
    slope: float = 1.0
    seen: list[int] = field(default_factory=list)

    def __call__(self, pixels: np.ndarray) -> Outputs:
        assert pixels.dtype == np.uint8 and pixels.shape[1:] == (3, self.preprocess.size, self.preprocess.size)
        self.seen.append(len(pixels))
        level = pixels.mean(axis=(1, 2, 3))[:, None]
        logits = -self.slope * np.abs(level - [0, 128, 255]) / 16
        return logits.astype(np.float32), np.hstack([level, np.ones_like(level)]).astype(np.float32)


def png(grey: int, size: int = 6) -> bytes:
    stream = io.BytesIO()
    Image.new("L", (size, size), grey).save(stream, "PNG")
    return stream.getvalue()


def answerer(session: Session | None = None, **decided: object) -> Answerer:
    return Answerer(Networks((session or Brightness(),), batch=4), NAMES, **decided)


def predictions(n: int, seed: int) -> Predictions:
    """Of images about the levels that Brightness knows."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(n) % 3).astype(np.int32)
    levels = np.array([0, 128, 255])[labels] + rng.normal(size=n) * 30
    logits = (-np.abs(levels[:, None] - [0, 128, 255]) / 16).astype(np.float32)
    features = np.column_stack([levels, np.ones(n)]).astype(np.float32)
    return Predictions(np.arange(n).astype(str), labels, logits, features, NAMES)


def facts(answer: Answer) -> tuple[object, ...]:
    """All but the path."""
    return answer.classes, answer.probabilities.tolist(), answer.note, answer.unknown, answer.among, answer.coarser


def test_answers_come_in_order_with_the_reason_for_what_cannot_be_read(tmp_path: Path) -> None:
    greys = [0, 255, 128, 0, 255, 250, 120, 5, 130, 0, 255]
    files = [tmp_path / f"{number}.png" for number in range(len(greys))]
    for file, grey in zip(files, greys, strict=True):
        file.write_bytes(png(grey))
    for number in (2, 4, 5, 6, 7):  # all of the second batch of four
        files[number].write_bytes(b"no image")
    session = Brightness()
    answers = list(answerer(session).stream(files, top=2))
    assert [answer.path for answer in answers] == [str(file) for file in files]
    assert [answer.best for answer in answers] == [
        None if number in (2, 4, 5, 6, 7) else NAMES[round(grey / 127.5)] for number, grey in enumerate(greys)
    ]
    assert all(answer.note == "not an image in a format that can be read" for answer in answers if answer.best is None)
    assert all(len(answer.classes) == len(answer.probabilities) == (2 if answer.best else 0) for answer in answers)
    assert session.seen == [3, 3]


def test_bytes_are_answered_as_the_file_that_holds_them(tmp_path: Path) -> None:
    train, val = predictions(300, 0), predictions(200, 1)
    fitted = fit_decisions(train, val, {"half": ["a", "a", "b"]}, Wanted())
    decided = answerer(decisions=fitted.decisions, score=fitted.score, levels={"half": ["a", "a", "b"]})
    for grey in (0, 40, 128, 200, 255):
        data, file = png(grey), tmp_path / f"{grey}.png"
        file.write_bytes(data)
        (of_file,) = decided.stream([file])
        (of_bytes,) = decided.stream([data])
        assert of_file.path == str(file) and of_bytes.path == ""
        assert facts(of_file) == facts(of_bytes) == facts(decided.answer(data)) == facts(decided.answer(file))
        assert of_file.unknown in (True, False) and set(of_file.coarser) == {"half"}
    assert decided.answer(b"").note == "the file is empty" and decided.answer(b"").best is None


def test_decisions_are_those_of_the_outputs() -> None:
    train, val = predictions(300, 0), predictions(200, 1)
    fitted = fit_decisions(train, val, {}, Wanted(score="knn", accept=0.9))
    decided, greys = answerer(decisions=fitted.decisions, score=fitted.score), [0, 30, 60, 90, 128, 170, 210, 255]
    logits, features = Brightness()(np.stack([np.full((3, 4, 4), grey, np.uint8) for grey in greys]))
    answers = list(decided.stream([png(grey) for grey in greys], top=3))
    expected = fit_score("knn", train)(logits, features) < fitted.decisions.threshold
    assert [answer.unknown for answer in answers] == expected.tolist()
    probabilities = fitted.decisions.probabilities(logits)
    for answer, row, among in zip(answers, probabilities, fitted.decisions.sets.sets(probabilities), strict=True):
        assert dict(zip(answer.classes, answer.probabilities, strict=True)) == dict(zip(NAMES, row, strict=True))
        assert set(answer.among) == {name for name, held in zip(NAMES, among, strict=True) if held}


def test_without_calibration_there_are_probabilities_alone() -> None:
    logits, _ = Brightness()(np.full((1, 3, 4, 4), 40, np.uint8))
    found = answerer().answer(png(40), top=9)
    assert found.classes == ("dark", "middling", "light") and found.unknown is None and found.among == () and found.coarser == {}
    np.testing.assert_array_equal(found.probabilities, softmax(logits)[0][[0, 1, 2]])
    with pytest.raises(InputError, match="at least 1, got 0"):
        answerer().answer(png(40), top=0)
    with pytest.raises(InputError, match="at least 1, got -1"):
        list(answerer().stream([png(40)], top=-1))


def test_several_networks_see_each_image_in_their_own_view_and_answer_as_one() -> None:
    """Two of them differ in normalisation alone, and share the pixels."""
    other = replace(WHOLE, mean=(0.0, 0.0, 0.0))
    small, large = Brightness(), Brightness(Preprocess(9, "letterbox", WHOLE.mean, WHOLE.std), slope=2.0)
    combination = Mean("logits", np.array([0.5, 0.25, 0.25]))
    together = Answerer(Networks((small, Brightness(other), large), combination), NAMES)
    assert len(together.networks.views) == 2
    logits, _ = Brightness()(np.full((1, 3, 4, 4), 90, np.uint8))
    logits = combination([logits, logits, 2 * logits])
    found = together.answer(png(90), top=3)
    assert dict(zip(found.classes, found.probabilities, strict=True)) == dict(zip(NAMES, softmax(logits)[0], strict=True))


def test_boxes_crop_and_an_image_without_one_says_so(tmp_path: Path) -> None:
    pixels = np.full((12, 12, 3), 255, np.uint8)
    pixels[:4, :4] = 0
    file, bare = tmp_path / "a.png", tmp_path / "b.png"
    for each in (file, bare):
        Image.fromarray(pixels).save(each)
    cropping = answerer(Brightness(replace(WHOLE, margin=0.0)))
    cropped, whole = cropping.stream([file, bare], boxes={str(file): (0, 0, 4, 4)})
    assert (cropped.best, cropped.note) == ("dark", "")
    assert (whole.best, whole.note) == ("light", "it has no box and was seen whole")
    assert cropping.answer(file.read_bytes(), box=(0, 0, 4, 4)).best == "dark"
    assert cropping.answer(file, box=(20, 20, 24, 24)).note == "its box holds less than a pixel of it"


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_outputs_that_are_not_numbers_name_nothing(wrong: float) -> None:
    class Broken(Brightness):
        def __call__(self, pixels: np.ndarray) -> Outputs:
            logits, features = super().__call__(pixels)
            logits[1, 0] = wrong
            return logits, features

    fitted = fit_decisions(predictions(300, 0), predictions(200, 1), {}, Wanted())
    broken = answerer(Broken(), decisions=fitted.decisions, score=fitted.score)
    one, none, other = broken.stream([png(0), png(128), png(255)])
    assert none.note == "the answer is not a number" and none.classes == () and none.unknown is None and none.among == ()
    assert (one.best, other.best) == ("dark", "light") and one.note == other.note == ""
