"""The page of a study: one HTML file that opens offline, with the answer first, and links to the reports of the runs."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import quote

from fieldmark.core.console import duration
from fieldmark.core.files import write_text
from fieldmark.core.recipe.values import to_yaml
from fieldmark.core.run_folder import RunFolder
from fieldmark.core.summary import Summary
from fieldmark.reports.pages import render
from fieldmark.studies.charts.colours import palette
from fieldmark.studies.columns import (
    EFFECT_COLUMNS,
    ENSEMBLE_COLUMNS,
    ENSEMBLES_ABOUT,
    STAGE_COLUMNS,
    STAGES_ABOUT,
    Column,
    rung_columns,
    spread_text,
)
from fieldmark.studies.ensembles import EnsembleRow
from fieldmark.studies.explanations import about, sources
from fieldmark.studies.figures import Charts, dataset_charts
from fieldmark.studies.plan import QUICK, StudyPlan, differences
from fieldmark.studies.results import Absent, Outcome, Results
from fieldmark.studies.table import DatasetTable, Row, StudyTable, one_line


@dataclass(frozen=True, kw_only=True)
class _Run:
    """A planned run; `report` is the address of its report relative to the page. `summary` is None for an `absent` one."""

    number: int
    name: str
    seed: int
    report: str | None
    summary: Summary | None = None
    absent: Absent | None = None


@dataclass(frozen=True, kw_only=True)
class _Part:
    """What the page shows of one dataset."""

    table: DatasetTable
    gains: list[Column[Row]]
    costs: list[Column[Row]]
    charts: Charts
    ensembles: list[tuple[EnsembleRow, str | None]]
    about: list[str]
    runs: list[_Run]
    absent: int


def write_page(plan: StudyPlan, table: StudyTable, results: Results) -> Path:
    """Write study.html into the folder of the study; returns its path. The same results give the same bytes."""
    path = plan.folder / "study.html"
    write_text(path, render("studies/page.html.j2", _content(plan, table, results)))
    return path


def _content(plan: StudyPlan, table: StudyTable, results: Results) -> dict[str, Any]:
    """What the template shows."""
    said = {key for rung in plan.rungs for key in rung.settings}
    return {
        "table": table,
        "title": table.title or table.name,
        "headline": table.datasets[0].conclusions.headline if len(table.datasets) == 1 else table.title or table.name,
        "parts": [_part(plan, table, dataset, results) for dataset in table.datasets],
        "colours": palette(table),
        "finished": len(results.outcomes),
        "planned": len(results.outcomes) + len(results.absent),
        "spread_text": spread_text,
        "effect_columns": EFFECT_COLUMNS,
        "stage_columns": STAGE_COLUMNS,
        "stages_about": STAGES_ABOUT,
        "ensemble_columns": ENSEMBLE_COLUMNS,
        "ensembles_about": ENSEMBLES_ABOUT,
        "one_line": one_line,
        "duration": duration,
        "quick": QUICK if table.quick else "",
        "arranged": " ".join([_ARRANGED[table.arrangement], *(text for key, text in _BUILT_ON.items() if key in said)]),
        "changed": _changed(plan),
        "base": to_yaml(plan.recipes[0]),
        "commands": _commands(plan),
        "version": metadata.version("fieldmark"),
    }


_ARRANGED = {
    "ladder": "Each rung keeps the changes of those before it.",
    "independent": "Each change is made to the base alone.",
    "grid": "Every option of a factor is combined with every option of the others.",
}
_BUILT_ON = {
    "on": "A rung that names the one it is on is a side branch: the rungs after it do not keep its change.",
    "extends": "A rung that extends a recipe is built on that one instead.",
}


def _part(plan: StudyPlan, table: StudyTable, dataset: DatasetTable, results: Results) -> _Part:
    columns = [column for column in rung_columns(table) if not column.head]
    columns.sort(key=lambda column: column.left)  # the changes last: they may be long
    numbers = {row.rung.name: row.number for row in dataset.rows}
    absent = [run for run in results.absent if run.dataset == dataset.dataset]
    found = [run for run in results.outcomes if run.dataset == dataset.dataset]
    planned: list[Outcome | Absent] = [*found, *absent]
    runs = [_run(plan, run, numbers[run.rung.name]) for run in planned]
    return _Part(
        table=dataset,
        gains=[column for column in columns if not column.cost],
        costs=[column for column in columns if column.cost],
        charts=dataset_charts(table, dataset, results),
        ensembles=[(row, _report(plan, row.path)) for row in dataset.ensembles],
        about=[*about(dataset), *sources(table)],
        runs=sorted(runs, key=lambda run: (run.number, run.seed)),
        absent=len(absent),
    )


def _run(plan: StudyPlan, run: Outcome | Absent, number: int) -> _Run:
    summary, absent = (run.summary, None) if isinstance(run, Outcome) else (None, run)
    report = _report(plan, run.path)
    return _Run(number=number, name=one_line(run.rung.name), seed=run.seed, report=report, summary=summary, absent=absent)


def _report(plan: StudyPlan, path: Path) -> str | None:
    report = RunFolder(path).report_file
    return quote(report.relative_to(plan.folder).as_posix()) if report.is_file() else None


def _changed(plan: StudyPlan) -> list[tuple[str, str, list[str]]]:
    """For each rung except the base: its name, what it is built on, and how its settings differ from that."""
    recipes = dict(zip((rung.name for rung in plan.rungs), plan.recipes, strict=True))
    found = []
    for rung in plan.rungs[1:]:
        before = rung.before if rung.before in recipes else plan.rungs[0].name
        changes = differences(recipes[before], recipes[rung.name])
        extends = rung.settings.get("extends")
        against = f"on {before}" if extends is None else f"on the recipe {extends}, against {before}"
        found.append((one_line(rung.name), one_line(against), [one_line(change) for change in changes]))
    return found


def _commands(plan: StudyPlan) -> list[tuple[str, str]]:
    given = [dataset.given for dataset in plan.datasets]
    first = plan.run_path(plan.datasets[0], plan.rungs[0], plan.seeds[0]).relative_to(plan.folder)
    commands = {
        "Run the study in another folder": [
            *("study", "run", plan.source, *given, *plan.settings),
            *(("--quick",) if plan.quick else ()),
            *(("--seeds", str(len(plan.seeds))) if plan.seeds == tuple(range(len(plan.seeds))) else ()),
            *("--out", "another-folder"),
        ],
        "Train one of its runs, from the folder of this page": ["train", given[0], "--recipe", f"{first.as_posix()}/recipe.yaml"],
        "Write the tables and this page again, from its folder": ["study", "table", "."],
    }
    return [(what, shlex.join(["fieldmark", *words])) for what, words in commands.items()]
