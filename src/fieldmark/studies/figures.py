"""The figures of a study: its gains, learning curves and trade-offs between accuracy and cost, as PNG files and for its page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fieldmark.reports.charts.chart import Chart, save_png
from fieldmark.studies.charts.captions import heading, legend
from fieldmark.studies.charts.colours import palette
from fieldmark.studies.charts.curves import curve_charts
from fieldmark.studies.charts.gains import gain_charts
from fieldmark.studies.charts.tradeoffs import shared_costs, tradeoff_charts
from fieldmark.studies.plan import QUICK, StudyPlan
from fieldmark.studies.results import Results
from fieldmark.studies.table import DatasetTable, StudyTable

_NARROWEST = 8.0
"""Least width of a heading or legend, in inches."""


@dataclass(frozen=True, kw_only=True)
class Charts:
    """The charts of one dataset. `alike` says which costs are left out of the trade-offs because all rungs have the same."""

    gains: list[Chart]
    curves: list[Chart]
    tradeoffs: list[Chart]
    alike: list[str]


def dataset_charts(table: StudyTable, dataset: DatasetTable, results: Results) -> Charts:
    colours = palette(table)
    return Charts(
        gains=gain_charts(table, dataset, colours),
        curves=curve_charts(dataset, results, colours),
        tradeoffs=tradeoff_charts(dataset, colours),
        alike=[f"All rungs have the same {name}." for name in shared_costs(dataset)],
    )


def write_figures(plan: StudyPlan, table: StudyTable, results: Results) -> None:
    """Write gains.png, curves.png and tradeoff.png into the study's folder of figures, one dataset below the other.

    A figure for which nothing is known yet is not written.
    """
    folder = plan.folder / "figures"
    folder.mkdir(exist_ok=True)
    drawn = [(dataset, dataset_charts(table, dataset, results)) for dataset in table.datasets]
    figures = {
        "gains": [row for dataset, charts in drawn for row in _rows(table, dataset, charts.gains, numbered=False)],
        "curves": [row for dataset, charts in drawn for row in _rows(table, dataset, charts.curves, numbered=True)],
        "tradeoff": [row for dataset, charts in drawn for row in _rows(table, dataset, charts.tradeoffs, numbered=True)],
    }
    for name, rows in figures.items():
        if rows:
            save_png(rows, folder / f"{name}.png")
        else:
            (folder / f"{name}.png").unlink(missing_ok=True)


def _rows(table: StudyTable, dataset: DatasetTable, charts: Sequence[Chart], numbered: bool) -> list[list[Chart]]:
    """The charts of a dataset side by side, below a heading if they need one; `numbered`: above a legend of the rungs' numbers."""
    if not charts:
        return []
    width = max(sum(chart.width for chart in charts), _NARROWEST)
    parts = [*([QUICK.rstrip(".")] if table.quick else []), *([dataset.name] if len(table.datasets) > 1 else [])]
    above = [[heading(". ".join(parts), width)]] if parts else []
    below = [[legend(dataset.rows, palette(table), width)]] if numbered else []
    return [*above, list(charts), *below]
