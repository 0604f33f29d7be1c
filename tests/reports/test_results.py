from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from fieldmark.core.console import Console
from fieldmark.evaluation.run import Run
from fieldmark.reports.results import write_results


def test_a_report_reads_each_file_once(finished_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    read: Counter[str] = Counter()
    load, table = np.load, pq.read_table

    def counted(function: Any) -> Any:
        def reading(path: Any, *args: Any, **kwargs: Any) -> Any:
            read[Path(path).name] += 1
            return function(path, *args, **kwargs)

        return reading

    monkeypatch.setattr(np, "load", counted(load))
    monkeypatch.setattr(pq, "read_table", counted(table))
    write_results(Run.load(finished_run.path), Console(quiet=True))
    assert read["test.npz"] == 1 and read["split.parquet"] == 1 and read.keys() <= {"test.npz", "split.parquet", "train.npz"}
