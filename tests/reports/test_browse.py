from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fieldmark.evaluation.assessment import Assessment, assess
from fieldmark.evaluation.run import Run
from fieldmark.reports import browse as module
from fieldmark.reports.browse import Browse, browse


@pytest.fixture(scope="module")
def found(large_run: Run) -> Assessment:
    return assess(large_run)


def listed(given: Browse) -> list[str]:
    return [card.path for of_class in given.classes for card in of_class.mistakes]


def test_mistakes_are_listed_by_class_without_images_too(found: Assessment) -> None:
    given = browse(found, None)
    assert sorted(listed(given)) == sorted(found.test.ids[~found.hits].tolist())
    counts = [len(of_class.mistakes) for of_class in given.classes]
    assert counts == sorted(counts, reverse=True)
    for of_class in given.classes:
        probabilities = [card.label_probability for card in of_class.mistakes]
        assert probabilities == sorted(probabilities), "the gravest first"
        assert {card.label for card in of_class.mistakes} == {of_class.name}
    assert given.correct == [] and given.without == given.unlisted == 0, "that there are no images is said elsewhere"


def test_images_are_those_of_the_gravest_mistakes_and_within_the_budget(found: Assessment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUDGET", 400_000)
    given = browse(found, found.evidence.images)
    cards = [card for of_class in given.classes for card in of_class.mistakes]
    shown = [card for card in cards if card.thumbnail]
    assert 0 < len(shown) < len(cards) and given.without == len(cards) - len(shown)
    assert max(card.label_probability for card in shown) <= min(card.label_probability for card in cards if not card.thumbnail)
    assert sum(len(card.thumbnail or "") for card in [*shown, *given.correct]) <= 400_000


def test_correct_answers_are_of_as_many_classes_as_possible(found: Assessment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BUDGET", 4_000_000)
    given = browse(found, found.evidence.images)
    counts = Counter(card.label for card in given.correct)
    assert len(counts) > 50 and max(counts.values()) - min(counts.values()) <= 1
    assert all(card.cell[0] == card.cell[1] for card in given.correct)


def test_a_list_that_is_too_long_ends_and_says_so(found: Assessment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LISTED", 50)
    given = browse(found, None)
    assert len(listed(given)) == 50 and given.unlisted == int((~found.hits).sum()) - 50


def test_without_an_answer_the_cell_is_in_the_last_column(finished_run: Run, tmp_path: Path) -> None:
    assessed = assess(finished_run)
    assessed.test.logits[3] = np.nan
    assessed.logits[3] = np.nan
    (card,) = [card for of_class in browse(assessed, None).classes for card in of_class.mistakes if card.said is None]
    assert card.cell == (assessed.test.labels[3], 3) and card.path == assessed.test.ids[3]
