from __future__ import annotations

from fieldmark.evaluation.evidence import Evidence
from fieldmark.evaluation.run import Run


def test_images_that_were_set_aside_are_not_among_those_used(finished_run: Run) -> None:
    evidence = Evidence(Run.load(finished_run.path))
    assert not evidence.set_aside and evidence.used == evidence.rows
    evidence = Evidence(Run.load(finished_run.path))
    rows = [dict(row) for row in evidence.rows]
    rows[0]["note"] = "it is broken"
    rows.append({"path": "late.jpg", "hash": "1", "label": rows[0]["label"], "split": "test", "note": ""})
    evidence.__dict__["rows"] = rows
    assert evidence.set_aside.keys() == {rows[0]["path"], "late.jpg"}
    assert evidence.set_aside[rows[0]["path"]] == "it is broken" and "train.log says why" in evidence.set_aside["late.jpg"]
    assert evidence.used == rows[1:-1]


def test_the_splits_that_its_weights_have_seen(finished_run: Run) -> None:
    assert Evidence(finished_run).learnt == ("train",)
