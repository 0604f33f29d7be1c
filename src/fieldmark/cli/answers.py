"""Answers of single images as lines: for a person, or JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fieldmark.answering.answer import Answer


def answer_line(answer: Answer) -> str:
    """The path, the likeliest classes with their probabilities, and what else is known of the image."""
    if not answer.classes:
        return f"{answer.path}: no answer: {answer.note}"
    likeliest = ", ".join(f"{name} {100 * share:.1f} %" for name, share in zip(answer.classes, answer.probabilities.tolist(), strict=True))
    doubt = "probably none of the classes; the nearest are " if answer.unknown else ""
    more = [*_promised(answer), *([answer.note] if answer.note else [])]
    return f"{answer.path}: {doubt}{likeliest}" + (f" ({'; '.join(more)})" if more else "")


def answer_as_json(answer: Answer) -> str:
    """One line: path, unknown, classes with probabilities, among, coarser and note, as in Answer."""
    classes = [
        {"class": name, "probability": round(probability, 6)}
        for name, probability in zip(answer.classes, answer.probabilities.tolist(), strict=True)
    ]
    values = {
        "path": answer.path,
        "unknown": answer.unknown,
        "classes": classes,
        "among": answer.among,
        "coarser": dict(answer.coarser),
        "note": answer.note,
    }
    return json.dumps(values, ensure_ascii=False, allow_nan=False)


def _promised(answer: Answer) -> list[str]:
    """What the set and the back-off add to the classes that are named; of an image of none of the classes they promise nothing."""
    if answer.unknown:
        return []
    among = [f"among {', '.join(answer.among)}"] if 1 < len(answer.among) < len(answer.classes) else []
    return among + [f"{level} {name}" for level, name in answer.coarser.items() if name not in ("", answer.best)]
