"""Predictions written one by one: a CSV file that appears when it is complete, lines on the terminal, or JSON lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from fieldmark.core.files import check_output, whole_file
from fieldmark.evaluation.run import Prediction

_YES_OR_NO = {True: "yes", False: "no", None: ""}


class Answers:
    """Columns: path, unknown, class_1, probability_1, …, class_k, probability_k, among, coarser_LEVEL for each of `levels`, note.

    Where there is no answer all but path and note are empty. Memory does not grow with the number of answers.

    unknown: "yes" or "no", or nothing where the run was not calibrated.
    among: the classes of the set, likeliest first, separated by "; ".
    coarser_LEVEL: what is answered there with the promised precision, a class, a parent or nothing.
    """

    def __init__(self, path: Path | None, top: int, levels: Sequence[str], as_json: bool, quiet: bool):
        self.path, self.top, self.levels, self.as_json, self.quiet = path, top, levels, as_json, quiet
        self.count = self.unanswered = self.noted = self.unknown = 0
        self._open = ExitStack()

    def __enter__(self) -> Answers:
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

    def add(self, prediction: Prediction) -> None:
        self.count += 1
        self.unanswered += not prediction.classes
        self.noted += bool(prediction.note)
        self.unknown += bool(prediction.unknown)
        pairs = list(zip(prediction.classes, prediction.probabilities.tolist(), strict=True))
        if self.path is not None:
            cells = [cell for name, probability in pairs for cell in (name, f"{probability:.6f}")]
            cells += [""] * (2 * self.top - len(cells))
            cells += ["; ".join(prediction.among), *(prediction.coarser.get(level, "") for level in self.levels)]
            self._writer.writerow([prediction.path, _YES_OR_NO[prediction.unknown], *cells, prediction.note])
        if self.as_json:
            answer = [{"class": name, "probability": round(probability, 6)} for name, probability in pairs]
            line = {
                "path": prediction.path,
                "unknown": prediction.unknown,
                "classes": answer,
                "among": prediction.among,
                "coarser": dict(prediction.coarser),
                "note": prediction.note,
            }
            print(json.dumps(line, ensure_ascii=False, allow_nan=False))
        elif self.path is None and not self.quiet:
            said = ", ".join(f"{name} {100 * probability:.1f} %" for name, probability in pairs) or f"no answer: {prediction.note}"
            doubt = "probably none of the classes; the nearest are " if prediction.unknown else ""
            beside = [*_promised(prediction), prediction.note] if pairs else []
            print(f"{prediction.path}: {doubt}{said}" + (f" ({'; '.join(filter(None, beside))})" if any(beside) else ""))


def _promised(prediction: Prediction) -> list[str]:
    """What the set and the back-off add to the classes that are named; of an image of none of the classes they promise nothing."""
    if prediction.unknown:
        return []
    among = [f"among {', '.join(prediction.among)}"] if 1 < len(prediction.among) < len(prediction.classes) else []
    return among + [f"{level} {name}" for level, name in prediction.coarser.items() if name not in ("", prediction.best)]
