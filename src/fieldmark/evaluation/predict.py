"""Predicting images one by one, in bounded memory: what is said before the first and after the last, and the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

from fieldmark.answering.answer import Answer
from fieldmark.answering.answerer import Boxes
from fieldmark.answering.images import images_in
from fieldmark.answering.in_memory import Source
from fieldmark.answering.writer import answer_writer
from fieldmark.core.console import Console
from fieldmark.datasets.boxes_file import given_boxes
from fieldmark.datasets.image_files import PassedOver
from fieldmark.evaluation.run import Run


def predict_images(
    run: Run,
    sources: Source | Iterable[Source],
    console: Console,
    csv: Path | None = None,
    boxes: Boxes | str | Path | None = None,
    top: int = 5,
) -> Iterator[Answer]:
    """The predictions of Run.stream; `csv` is the table of answer_writer, and appears after the last.

    Raises InputError now if there are no images or the boxes cannot be used, with the first prediction if the table cannot be written.
    """
    passed_over = PassedOver()
    files, given = images_in(sources, passed_over), given_boxes(boxes)
    if warning := run.box_warning(given is not None):
        console.say(f"warning: {warning}")
    return _predicted(run, files, console, csv, given, top, passed_over)


def _predicted(
    run: Run,
    files: Iterator[Path | bytes],
    console: Console,
    csv: Path | None,
    boxes: Boxes | None,
    top: int,
    passed_over: PassedOver,
) -> Iterator[Answer]:
    count = unanswered = 0
    notes: Counter[str] = Counter()
    levels = () if run.decisions is None else tuple(run.decisions.backoff)
    with ExitStack() as opened:
        add = None if csv is None else opened.enter_context(answer_writer(csv, min(top, len(run.class_names)), levels))
        advance = opened.enter_context(console.progress("predicting", "files"))
        for count, answer in enumerate(run.stream(files, top, boxes), 1):
            unanswered += not answer.classes
            notes.update([answer.note] if answer.classes and answer.note else [])
            if add is not None:
                add(answer)
            yield answer
            advance(count, None)
    console.say(*passed_over.notes())
    if unanswered:
        console.say(f"{unanswered:,} of {count:,} images have no answer; their rows say why")
    console.say(*(f"{noted:,} of {count:,} images: {note}" for note, noted in notes.most_common()))
