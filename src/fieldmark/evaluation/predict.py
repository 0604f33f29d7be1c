"""Predicting images one by one, in bounded memory: what is said before the first and after the last, and the table."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from rich.console import RenderableType

from fieldmark.answering.answer import Answer
from fieldmark.answering.answerer import Boxes
from fieldmark.answering.images import crossed_off, images_in
from fieldmark.answering.in_memory import Source
from fieldmark.answering.predictor import Predictor
from fieldmark.answering.writer import answer_writer
from fieldmark.core.console import Console, table
from fieldmark.datasets.boxes_file import given_boxes, without_image
from fieldmark.datasets.image_files import PassedOver

_CLASSES = 30
"""How many classes are listed at the end."""


def predict_images(
    predictor: Predictor,
    sources: Source | Iterable[Source],
    console: Console,
    csv: Path | None = None,
    boxes: Boxes | str | Path | None = None,
    top: int = 5,
) -> Iterator[Answer]:
    """The predictions of Predictor.predict; `csv` is the table of answer_writer, and appears after the last.

    Raises InputError now if there are no images or the boxes cannot be used, with the first prediction if the table cannot be written.
    """
    passed_over = PassedOver(keeps_unreadable=True)
    files, given = images_in(sources, passed_over), given_boxes(boxes)
    console.say(*(f"warning: {caution}" for caution in predictor.cautions(given is not None)))
    return _predicted(predictor, files, console, csv, given, top, passed_over)


def _predicted(
    predictor: Predictor,
    files: Iterator[Path | bytes],
    console: Console,
    csv: Path | None,
    boxes: Boxes | None,
    top: int,
    passed_over: PassedOver,
) -> Iterator[Answer]:
    count = unanswered = 0
    unknown: int | None = None
    classes: Counter[str] = Counter()
    notes: Counter[str] = Counter()
    unused = {os.path.abspath(path) for path in boxes or ()}
    levels = () if predictor.decisions is None else tuple(predictor.decisions.backoff)
    with ExitStack() as opened:
        add = None if csv is None else opened.enter_context(answer_writer(csv, min(top, len(predictor.class_names)), levels))
        answers = predictor.answerer.stream(crossed_off(files, unused), top, boxes)
        predictor.load_runtime(console)
        advance = opened.enter_context(console.progress("predicting", "files"))
        for count, answer in enumerate(answers, 1):
            unanswered += not answer.classes
            unknown = unknown if answer.unknown is None else (unknown or 0) + answer.unknown
            classes.update([answer.classes[0]] if answer.classes and not answer.unknown else [])
            notes.update([answer.note] if answer.classes and answer.note else [])
            if add is not None:
                add(answer)
            yield answer
            advance(count, None)
    console.say(*passed_over.notes())
    if unanswered:
        console.say(f"{_part(unanswered, count)} no answer; {'its row says' if unanswered == 1 else 'their rows say'} why")
    blindness = None if predictor.decisions is None else predictor.decisions.blindness
    console.say(*_summary(count, unknown if unknown or not blindness else None, classes), *filter(None, [blindness]))
    console.say(*without_image(unused))
    if csv is not None:
        console.say(f"the answers are in {csv}")
    console.say(
        *(f"said of {noted:,} of {count:,} images: {note}" if count > 1 else f"the image: {note}" for note, noted in notes.most_common())
    )


def _part(few: int, count: int) -> str:
    """1 of 3 images has, 2 of 3 images have, the image has."""
    return "the image has" if count == 1 else f"{few:,} of {count:,} images {'has' if few == 1 else 'have'}"


def _summary(count: int, unknown: int | None, classes: Counter[str]) -> Iterator[RenderableType]:
    """How many images there were, how many are of none of the classes (None: it was not judged), and how many of each class."""
    none = "" if unknown is None else f", {unknown:,} of them probably of none of the classes"
    if count == 1 and unknown is not None:
        none = ", probably of none of the classes" if unknown else ""
    yield f"{count:,} image{'s' * (count != 1)}{none}"
    if count > 1 and classes:
        rows = classes.most_common(_CLASSES)
        yield table(None, ("class", "images"), rows)
        if (others := len(classes) - len(rows)) > 0:
            yield f"and {classes.total() - sum(number for _, number in rows):,} images of {others:,} other classes"
