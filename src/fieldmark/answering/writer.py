"""Answers written one by one: a CSV file that appears when it is complete, lines on the terminal, or JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from fieldmark.answering.answer import Answer
from fieldmark.core.files import check_output, whole_file

_YES_OR_NO = {True: "yes", False: "no", None: ""}


class AnswerWriter:
    """Columns: path, unknown, class_1, probability_1, …, class_k, probability_k, among, coarser_LEVEL for each of `levels`, note.

    Without an answer, all but path and note are empty. Memory does not grow with the number of answers.

    unknown: "yes" or "no", or nothing if the run was not calibrated.
    among: the classes of the set, likeliest first, separated by "; ".
    coarser_LEVEL: what is answered there with the promised precision, a class, a parent or nothing.
    """

    def __init__(self, path: Path | None, top: int, levels: Sequence[str], as_json: bool, quiet: bool):
        self.path, self.top, self.levels, self.as_json, self.quiet = path, top, levels, as_json, quiet
        self.count = self.unanswered = self.noted = self.unknown = 0
        self._open = ExitStack()

    def __enter__(self) -> AnswerWriter:
        if self.path is not None:
            check_output(self.path, b"path,unknown,class_1,probability_1,", "--csv")
            temporary = self._open.enter_context(whole_file(self.path))
            stream = self._open.enter_context(temporary.open("w", newline="", encoding="utf-8"))
            self._writer = csv.writer(stream)
            ranked = [name for k in range(1, self.top + 1) for name in (f"class_{k}", f"probability_{k}")]
            self._writer.writerow(["path", "unknown", *ranked, "among", *(f"coarser_{level}" for level in self.levels), "note"])
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.__exit__(kind, error, trace)

    def add(self, answer: Answer) -> None:
        self.count += 1
        self.unanswered += not answer.classes
        self.noted += bool(answer.note)
        self.unknown += bool(answer.unknown)
        pairs = list(zip(answer.classes, answer.probabilities.tolist(), strict=True))
        if self.path is not None:
            cells = [cell for name, probability in pairs for cell in (name, f"{probability:.6f}")]
            cells += [""] * (2 * self.top - len(cells))
            cells += ["; ".join(answer.among), *(answer.coarser.get(level, "") for level in self.levels)]
            self._writer.writerow([answer.path, _YES_OR_NO[answer.unknown], *cells, answer.note])
        if self.as_json:
            classes = [{"class": name, "probability": round(probability, 6)} for name, probability in pairs]
            line = {
                "path": answer.path,
                "unknown": answer.unknown,
                "classes": classes,
                "among": answer.among,
                "coarser": dict(answer.coarser),
                "note": answer.note,
            }
            print(json.dumps(line, ensure_ascii=False, allow_nan=False))
        elif self.path is None and not self.quiet:
            said = ", ".join(f"{name} {100 * probability:.1f} %" for name, probability in pairs) or f"no answer: {answer.note}"
            doubt = "probably none of the classes; the nearest are " if answer.unknown else ""
            beside = [*_promised(answer), answer.note] if pairs else []
            print(f"{answer.path}: {doubt}{said}" + (f" ({'; '.join(filter(None, beside))})" if any(beside) else ""))


def _promised(answer: Answer) -> list[str]:
    """What the set and the back-off add to the classes that are named; of an image of none of the classes they promise nothing."""
    if answer.unknown:
        return []
    among = [f"among {', '.join(answer.among)}"] if 1 < len(answer.among) < len(answer.classes) else []
    return among + [f"{level} {name}" for level, name in answer.coarser.items() if name not in ("", answer.best)]
