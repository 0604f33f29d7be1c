"""The answer of a study, from the runs in its folder: the table in all its formats, the figures and the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.files import storage_error
from fieldmark.studies.analysis import study_table
from fieldmark.studies.figures import write_figures
from fieldmark.studies.formats import console_table, write_table
from fieldmark.studies.page import write_page
from fieldmark.studies.plan import StudyPlan, known_metrics
from fieldmark.studies.results import read_results
from fieldmark.studies.table import StudyTable


def write_answer(folder: str | Path, console: Console, metrics: Sequence[str] | None = None) -> StudyTable:
    """Read the runs, finished or not, and write table.{md,csv,tex,json}, figures/ and study.html into the folder of the study.

    metrics: keys of further metrics in the tables; None for those of the study

    Raises InputError if `folder` is not that of a study, or cannot be written, or there is no such metric.
    """
    plan = StudyPlan.load(folder)
    if metrics is not None:
        plan = replace(plan, metrics=known_metrics(metrics))
    results = read_results(plan)
    found = study_table(plan, results)
    console.say(*console_table(found))
    try:
        write_table(plan, found)
        write_figures(plan, found, results)
        page = write_page(plan, found, results)
    except OSError as error:
        readable = storage_error(error, plan.file)
        raise (
            readable if isinstance(readable, InputError) else InputError(f"{error.filename} cannot be written: {error.strerror}")
        ) from error
    console.say(f"the study's page is {page}; table.md, .csv, .tex and .json, and figures/ are in the same folder")
    return found
