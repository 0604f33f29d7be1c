"""Fieldmark trains, proves and ships fine-grained image classifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fieldmark.answering.answer import Answer as Answer
    from fieldmark.api import calibrate as calibrate
    from fieldmark.api import ensemble as ensemble
    from fieldmark.api import evaluate as evaluate
    from fieldmark.api import evaluate_corruptions as evaluate_corruptions
    from fieldmark.api import evaluate_unknowns as evaluate_unknowns
    from fieldmark.api import explain as explain
    from fieldmark.api import report as report
    from fieldmark.api import resume as resume
    from fieldmark.api import run_study as run_study
    from fieldmark.api import search as search
    from fieldmark.api import study_table as study_table
    from fieldmark.api import submit as submit
    from fieldmark.api import train as train
    from fieldmark.core.recipe.load import load_recipe as load_recipe
    from fieldmark.datasets.layouts import read_dataset as read_dataset
    from fieldmark.evaluation.run import Run as Run

_HOMES = {
    "train": "fieldmark.api",
    "resume": "fieldmark.api",
    "evaluate": "fieldmark.api",
    "evaluate_corruptions": "fieldmark.api",
    "evaluate_unknowns": "fieldmark.api",
    "calibrate": "fieldmark.api",
    "ensemble": "fieldmark.api",
    "explain": "fieldmark.api",
    "report": "fieldmark.api",
    "submit": "fieldmark.api",
    "run_study": "fieldmark.api",
    "study_table": "fieldmark.api",
    "search": "fieldmark.api",
    "read_dataset": "fieldmark.datasets.layouts",
    "Run": "fieldmark.evaluation.run",
    "Answer": "fieldmark.answering.answer",
    "load_recipe": "fieldmark.core.recipe.load",
}

__all__ = [
    "Answer",
    "Run",
    "calibrate",
    "ensemble",
    "evaluate",
    "evaluate_corruptions",
    "evaluate_unknowns",
    "explain",
    "load_recipe",
    "read_dataset",
    "report",
    "resume",
    "run_study",
    "search",
    "study_table",
    "submit",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for only then, so that the command line starts fast."""
    if name not in _HOMES:
        raise AttributeError(f"module 'fieldmark' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
