"""A table of answers, written one by one: a CSV file that appears when it is complete."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from fieldmark.answering.answer import Answer
from fieldmark.core.files import check_output, remove_leftovers, whole_file

_OTHERWISE = "Without --csv the answers go to standard output, and with --json each is a line of JSON."
_YES_OR_NO = {True: "yes", False: "no", None: ""}


@contextmanager
def answer_writer(path: Path, top: int, levels: Sequence[str]) -> Iterator[Callable[[Answer], None]]:
    """Yields what adds a row. Memory does not grow with the number of rows.

    Columns: path, unknown, class_1, probability_1, …, class_`top`, probability_`top`, among, coarser_LEVEL for each of `levels`, note.
    Without an answer, all but path and note are empty.

    unknown: "yes" or "no", or nothing if the run was not calibrated.
    among: the classes of the set, likeliest first, separated by "; ".
    coarser_LEVEL: what is answered there with the promised precision, a class, a parent or nothing.

    Raises InputError if `path` cannot be written.
    """
    check_output(path, b"path,unknown,class_1,probability_1,", "--csv", _OTHERWISE)
    remove_leftovers(path)
    with whole_file(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        ranked = [name for k in range(1, top + 1) for name in (f"class_{k}", f"probability_{k}")]
        writer.writerow(["path", "unknown", *ranked, "among", *(f"coarser_{level}" for level in levels), "note"])

        def add(answer: Answer) -> None:
            pairs = zip(answer.classes, answer.probabilities.tolist(), strict=True)
            cells = [cell for name, probability in pairs for cell in (name, f"{probability:.6f}")]
            cells += [""] * (2 * top - len(cells))
            cells += ["; ".join(answer.among), *(answer.coarser.get(level, "") for level in levels)]
            writer.writerow([answer.path, _YES_OR_NO[answer.unknown], *cells, answer.note])

        yield add
