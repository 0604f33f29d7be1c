"""The columns of a study's tables for readers: their titles, and the text of a row's cell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from fieldmark.core.console import duration
from fieldmark.scoring.metrics import Metric
from fieldmark.studies.ensembles import EnsembleFigures, EnsembleRow
from fieldmark.studies.plan import Published
from fieldmark.studies.stages import StageRow
from fieldmark.studies.statistics import Gain, Spread
from fieldmark.studies.table import Cost, Effect, Figure, Measured, Row, StudyTable, one_line

T = TypeVar("T")
_NONE = "–"


@dataclass(frozen=True, kw_only=True)
class Column(Generic[T]):
    """A column of a table with rows of type T.

    cell: the text for a row
    significant: whether the cell is a significant difference
    best: what the rows compete in, None for one that does not; the highest is written in bold in papers
    head: whether it names the row, so that the page has it as the row's header
    left: whether it is aligned to the left
    console, paper: whether it is in the narrow tables for these
    cost: whether it is part of the cost of a rung
    """

    title: str
    cell: Callable[[T], str]
    significant: Callable[[T], bool] = lambda row: False
    best: Callable[[T], float | None] = lambda row: None
    head: bool = False
    left: bool = False
    console: bool = True
    paper: bool = True
    cost: bool = False


def rung_columns(table: StudyTable) -> list[Column[Row]]:
    """Of the main table; a ladder has one more than other arrangements."""
    return [
        Column(title="#", cell=lambda row: str(row.number), head=True, console=False, paper=False),
        Column(title="rung", cell=lambda row: f"{row.name} (on {row.on})" if row.on else row.name, head=True, left=True),
        Column(title="change", cell=lambda row: row.change or _NONE, left=True, console=False, paper=False),
        Column(title="seeds", cell=lambda row: f"{row.finished}" if row.finished == row.planned else f"{row.finished} of {row.planned}"),
        Column(title="val top-1 %", cell=_measured(lambda measured: spread_text(measured.val))),
        Column(
            title="test top-1 %",
            cell=_measured(lambda measured: figure_text(measured.test, measured.low, measured.high)),
            best=lambda row: None if row.measured is None else row.measured.test.mean,
        ),
        *map(_metric, table.metrics),
        *([_published(table.published)] if table.published else []),
        *([_gain("over before", lambda row: row.over_before)] if table.arrangement == "ladder" else []),
        _gain("over base", lambda row: row.over_base),
        _cost("parameters", lambda cost: large(cost.parameters)),
        _cost("trainable", lambda cost: large(cost.trainable), console=False, paper=False),
        _cost("MACs", lambda cost: large(cost.macs), console=False),
        _cost("epochs", lambda cost: f"{cost.epochs:.4g}", console=False, paper=False),
        _cost("steps", lambda cost: f"{cost.steps:,.0f}", console=False, paper=False),
        _cost("time", lambda cost: duration(cost.seconds)),
        _cost("images/s", lambda cost: f"{cost.images_per_second:,.0f}", console=False, paper=False),
    ]


def _measured(text: Callable[[Measured], str]) -> Callable[[Row], str]:
    return lambda row: _NONE if row.measured is None else text(row.measured)


def _metric(metric: Metric) -> Column[Row]:
    def figure(row: Row) -> Figure | None:
        return None if row.measured is None else row.measured.metrics[metric.key]

    def cell(row: Row) -> str:
        found = figure(row)
        return _NONE if found is None else figure_text(found, found.low, found.high, metric.digits)

    def best(row: Row) -> float | None:
        found = figure(row)
        return None if found is None else found.mean if metric.higher_is_better else -found.mean

    return Column(title=f"test {metric.name}" + (" %" if metric.unit == "%" else ""), cell=cell, best=best)


def _published(sources: Sequence[Published]) -> Column[Row]:
    """What the sources report of a rung, with their numbers if there are several."""

    def cell(row: Row) -> str:
        found = [(number, each.figures[row.rung.name]) for number, each in enumerate(sources, 1) if row.rung.name in each.figures]
        return ", ".join(f"{figure:g}" + (f" [{number}]" if len(sources) > 1 else "") for number, figure in found) or _NONE

    return Column(title="published %", cell=cell)


def without_shared(columns: Sequence[Column[T]], rows: Sequence[T]) -> tuple[list[Column[T]], str]:
    """The columns that differ between rows, and those that name them; and a sentence that says what the others have in all rows."""
    cells = {column.title: {column.cell(row) for row in rows} for column in columns}
    shared = [column for column in columns if not column.head and len(rows) > 1 and len(cells[column.title]) == 1]
    said = ", ".join(f"{column.title} {column.cell(rows[0])}" for column in shared)
    return [column for column in columns if column not in shared], f"The same in all rows: {said}." if said else ""


def best_rows(column: Column[T], rows: Sequence[T]) -> list[T]:
    """The rows that are best in a column, those included that are written alike; none if there is nothing to compare."""
    values = [(column.best(row), row) for row in rows]
    known = [(value, row) for value, row in values if value is not None]
    if len(known) < 2:
        return []
    _, best = max(known, key=lambda each: each[0])
    return [row for _, row in known if column.cell(row).partition(" ")[0] == column.cell(best).partition(" ")[0]]


def _gain(title: str, gain: Callable[[Row], Gain | None]) -> Column[Row]:
    return Column(title=title, cell=lambda row: gain_text(gain(row)), significant=lambda row: _is_significant(gain(row)))


def _is_significant(gain: Gain | None) -> bool:
    return gain is not None and gain.significant is True


def _cost(title: str, text: Callable[[Cost], str], console: bool = True, paper: bool = True) -> Column[Row]:
    return Column(title=title, cell=_measured(lambda measured: text(measured.cost)), console=console, paper=paper, cost=True)


EFFECT_COLUMNS: list[Column[Effect]] = [
    Column(title="factor", cell=lambda effect: effect.factor, head=True, left=True),
    Column(title="option", cell=lambda effect: effect.option, left=True),
    Column(title="over", cell=lambda effect: effect.against, left=True),
    Column(
        title="gain, averaged over the other factors",
        cell=lambda effect: gain_text(effect.gain),
        significant=lambda effect: _is_significant(effect.gain),
    ),
]


def _epochs(row: StageRow) -> str:
    first, last = row.stage.epochs
    return f"{first} to {last}" if first < last else f"{first}"


STAGE_COLUMNS: list[Column[StageRow]] = [
    Column(title="rung", cell=lambda row: row.name, head=True, left=True),
    Column(title="stage", cell=lambda row: f"{row.number} of {row.stages}"),
    Column(title="epochs", cell=_epochs),
    Column(title="trained", cell=lambda row: one_line(", ".join(row.stage.trainable)), left=True),
    Column(title="parameters", cell=lambda row: large(row.stage.trainable_parameters)),
    Column(title="train top-1 %", cell=lambda row: spread_text(row.train)),
    Column(title="val top-1 %", cell=lambda row: spread_text(row.val)),
    Column(title="best val top-1 %", cell=lambda row: spread_text(row.best)),
]
STAGES_ABOUT = (
    "Top-1 at the end of each stage on train (augmented, as it was trained on) and on val, and the best on val within the stage: "
    "mean over seeds ± standard deviation."
)


def _made(text: Callable[[EnsembleFigures], str]) -> Callable[[EnsembleRow], str]:
    return lambda row: _NONE if row.figures is None else text(row.figures)


def _over_best(figures: EnsembleFigures) -> str:
    over = figures.over_best_member
    return f"{over.points:+.1f} [{over.low:.1f}, {over.high:.1f}]" + (" *" if over.shown else "")


ENSEMBLE_COLUMNS: list[Column[EnsembleRow]] = [
    Column(title="ensemble", cell=lambda row: one_line(row.name), head=True, left=True),
    Column(title="seed", cell=lambda row: str(row.seed)),
    Column(title="val top-1 %", cell=_made(lambda figures: f"{figures.val.top1:.1f}")),
    Column(
        title="test top-1 %",
        cell=_made(lambda figures: f"{figures.test.top1:.1f} [{figures.test.top1_low:.1f}, {figures.test.top1_high:.1f}]"),
    ),
    Column(title="over best member", cell=_made(_over_best), significant=lambda row: row.significant),
    Column(
        title="best member on val",
        cell=lambda row: one_line(row.reason if row.figures is None else row.figures.best_member.partition("/")[0]),
        left=True,
    ),
    Column(title="method", cell=lambda row: one_line(row.method), left=True),
    Column(title="members", cell=lambda row: one_line(", ".join(row.members)), left=True, console=False),
]
ENSEMBLES_ABOUT = (
    "Each ensemble combines the runs of one seed. Over best member: points over the member with the best val, with a 95 % interval for "
    "new test images by a paired bootstrap, not corrected for multiple comparisons; *: significant, the interval excludes zero and "
    "McNemar's p is below 0.05. The reports say what val measures."
)


def spread_text(values: Spread | None) -> str:
    if values is None:
        return _NONE
    return f"{values.mean:.1f}" + ("" if values.sd is None else f" ± {values.sd:.1f}")


def figure_text(values: Spread | Figure, low: float | None, high: float | None, digits: int = 1) -> str:
    """`81.3 ± 0.4` over seeds, `81.3 [78.9, 83.6]` of one."""
    text = f"{values.mean:.{digits}f}"
    if values.sd is not None:
        return f"{text} ± {values.sd:.{digits}f}"
    return text if low is None or high is None else f"{text} [{low:.{digits}f}, {high:.{digits}f}]"


def gain_text(gain: Gain | None) -> str:
    """For a cell: `+1.3 [0.4, 2.2] *` if it is significant, `+0.3 [-0.8, 1.4]` if not, `+0.3 (-0.8, 1.4)` with one seed."""
    if gain is None:
        return _NONE
    return f"{gain} *" if gain.significant else str(gain)


def large(number: float) -> str:
    """4.01 M, 0.39 G: three significant figures."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            return f"{number / size:#.3g} {unit}".replace(". ", " ")
    return f"{number:.0f}"
