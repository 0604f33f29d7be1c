"""Fieldmark trains, proves and ships fine-grained image classifiers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fieldmark.answering.answer import Answer as Answer
    from fieldmark.api import benchmark as benchmark
    from fieldmark.api import calibrate as calibrate
    from fieldmark.api import demo as demo
    from fieldmark.api import describe_dataset as describe_dataset
    from fieldmark.api import draw_birds as draw_birds
    from fieldmark.api import enroll as enroll
    from fieldmark.api import ensemble as ensemble
    from fieldmark.api import evaluate as evaluate
    from fieldmark.api import evaluate_corruptions as evaluate_corruptions
    from fieldmark.api import evaluate_unknowns as evaluate_unknowns
    from fieldmark.api import explain as explain
    from fieldmark.api import export as export
    from fieldmark.api import image_cache as image_cache
    from fieldmark.api import list_fields as list_fields
    from fieldmark.api import list_layouts as list_layouts
    from fieldmark.api import list_models as list_models
    from fieldmark.api import list_recipes as list_recipes
    from fieldmark.api import list_studies as list_studies
    from fieldmark.api import load_bundle as load_bundle
    from fieldmark.api import predict as predict
    from fieldmark.api import recipe_schema as recipe_schema
    from fieldmark.api import remove_enrolled as remove_enrolled
    from fieldmark.api import report as report
    from fieldmark.api import resume as resume
    from fieldmark.api import run_study as run_study
    from fieldmark.api import search as search
    from fieldmark.api import serve as serve
    from fieldmark.api import stream as stream
    from fieldmark.api import study_table as study_table
    from fieldmark.api import submit as submit
    from fieldmark.api import train as train
    from fieldmark.bundles.bundle import Bundle as Bundle
    from fieldmark.core.recipe.load import load_recipe as load_recipe
    from fieldmark.datasets.layouts import read_dataset as read_dataset
    from fieldmark.evaluation.run import Run as Run

_ELSEWHERE = {
    "read_dataset": "fieldmark.datasets.layouts",
    "Run": "fieldmark.evaluation.run",
    "Answer": "fieldmark.answering.answer",
    "Bundle": "fieldmark.bundles.bundle",
    "load_recipe": "fieldmark.core.recipe.load",
}
"""Where public names are that are not in fieldmark.api."""

__all__ = [
    "Answer",
    "Bundle",
    "Run",
    "benchmark",
    "calibrate",
    "demo",
    "describe_dataset",
    "draw_birds",
    "enroll",
    "ensemble",
    "evaluate",
    "evaluate_corruptions",
    "evaluate_unknowns",
    "explain",
    "export",
    "image_cache",
    "list_fields",
    "list_layouts",
    "list_models",
    "list_recipes",
    "list_studies",
    "load_bundle",
    "load_recipe",
    "predict",
    "read_dataset",
    "recipe_schema",
    "remove_enrolled",
    "report",
    "resume",
    "run_study",
    "search",
    "serve",
    "stream",
    "study_table",
    "submit",
    "train",
]


def __getattr__(name: str) -> Any:
    """Import what is asked for only then, so that the command line starts fast."""
    if name not in __all__:
        from fieldmark.core.names import suggest

        raise AttributeError(f"module 'fieldmark' has no attribute {name!r}{suggest(name, __all__)}")
    import importlib

    from fieldmark.core.environment import kept_environment

    with kept_environment():  # rich draws a number as it is imported
        return getattr(importlib.import_module(_ELSEWHERE.get(name, "fieldmark.api")), name)
