"""The table of a study for the console, for papers and for machines: Markdown, CSV, LaTeX and JSON. Names in it are text, never code."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from rich.console import RenderableType

from fieldmark.core.console import duration
from fieldmark.core.console import table as rich_table
from fieldmark.core.files import write_json, write_text
from fieldmark.studies.ensembles import EnsembleRow
from fieldmark.studies.plan import QUICK, StudyPlan
from fieldmark.studies.stages import StageRow
from fieldmark.studies.statistics import Gain, Spread
from fieldmark.studies.table import Cost, DatasetTable, Row, StudyTable, one_line

SCHEMA = 1
_NONE = "–"


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column of the table of rungs.

    cell: the text for a row
    gain: the gain that the cell is about, if it is about one
    left: whether it is aligned to the left
    console, paper: whether it is in the narrow tables for these
    cost: whether it is part of the cost of a rung
    """

    title: str
    cell: Callable[[Row], str]
    gain: Callable[[Row], Gain | None] = lambda row: None
    left: bool = False
    console: bool = True
    paper: bool = True
    cost: bool = False

    def significant(self, row: Row) -> bool:
        gain = self.gain(row)
        return gain is not None and gain.significant is True


def columns(table: StudyTable) -> list[Column]:
    """The columns for readers; a ladder has one more than other arrangements."""
    return [
        Column(title="#", cell=lambda row: str(row.number), console=False, paper=False),
        Column(title="rung", cell=lambda row: f"{row.name} (on {row.on})" if row.on else row.name, left=True),
        Column(title="change", cell=lambda row: row.change or _NONE, left=True, console=False, paper=False),
        Column(title="seeds", cell=lambda row: f"{row.finished}" if row.finished == row.planned else f"{row.finished} of {row.planned}"),
        Column(title="val top-1 %", cell=lambda row: spread_text(None if row.measured is None else row.measured.val)),
        Column(title="test top-1 %", cell=lambda row: spread_text(None if row.measured is None else row.measured.test)),
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


def _gain(title: str, gain: Callable[[Row], Gain | None]) -> Column:
    return Column(title=title, cell=lambda row: gain_text(gain(row)), gain=gain)


def _cost(title: str, text: Callable[[Cost], str], console: bool = True, paper: bool = True) -> Column:
    def cell(row: Row) -> str:
        return _NONE if row.measured is None else text(row.measured.cost)

    return Column(title=title, cell=cell, console=console, paper=paper, cost=True)


def spread_text(values: Spread | None) -> str:
    if values is None:
        return _NONE
    return f"{values.mean:.1f}" + ("" if values.sd is None else f" ± {values.sd:.1f}")


def gain_text(gain: Gain | None) -> str:
    """For a cell: `+1.3 [0.4, 2.2] *` if it is significant, `+0.3 [-0.8, 1.4]` if not, `+0.3` with one seed."""
    if gain is None:
        return _NONE
    return f"{gain} *" if gain.significant else str(gain)


def large(number: float) -> str:
    """4.01 M, 0.39 G: three significant figures."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= 0.9995 * size:
            return f"{number / size:#.3g} {unit}".replace(". ", " ")
    return f"{number:.0f}"


STAGES = ("stage", "epochs", "trained", "parameters", "train top-1 %", "val top-1 %", "best val top-1 %")
STAGES_ABOUT = (
    "Top-1 at the end of each stage on train (augmented, as it was trained on) and on val, and the best on val within the stage: "
    "mean over seeds ± standard deviation."
)


def stage_cells(row: StageRow) -> list[str]:
    """The cells of a row under the titles STAGES."""
    first, last = row.stage.epochs
    return [
        f"{row.number} of {row.stages}",
        f"{first} to {last}" if first < last else f"{first}",
        one_line(", ".join(row.stage.trainable)),
        large(row.stage.trainable_parameters),
        *(spread_text(values) for values in (row.train, row.val, row.best)),
    ]


ENSEMBLES = ("ensemble", "seed", "val top-1 %", "test top-1 %", "over best member", "best member on val", "method", "members")
ENSEMBLES_ABOUT = (
    "Each ensemble combines the runs of one seed. Over best member: points over the member with the best val, with a 95 % interval for "
    "new test images by a paired bootstrap, not corrected for multiple comparisons; *: significant, the interval excludes zero and "
    "McNemar's p is below 0.05. The reports say what val measures."
)


def ensemble_cells(row: EnsembleRow) -> list[str]:
    """The cells of a row under the titles ENSEMBLES."""
    begin, end = [one_line(row.name), str(row.seed)], [one_line(row.method), one_line(", ".join(row.members))]
    if row.figures is None:
        return [*begin, _NONE, _NONE, _NONE, one_line(row.reason), *end]
    test, over = row.figures.test, row.figures.over_best_member
    gain = f"{over.points:+.1f} [{over.low:.1f}, {over.high:.1f}]" + (" *" if row.significant else "")
    accuracy = f"{test.top1:.1f} [{test.top1_low:.1f}, {test.top1_high:.1f}]"
    return [*begin, f"{row.figures.val.top1:.1f}", accuracy, gain, one_line(row.figures.best_member.partition("/")[0]), *end]


def about(dataset: DatasetTable) -> list[str]:
    """What the figures of a dataset's table mean, in sentences."""
    sentences = ["Accuracies in per cent: mean over seeds ± standard deviation."]
    comparisons = dataset.sensitivity.comparisons
    if dataset.sensitivity.smallest is None:
        one = "Gains in points; none has an interval, which takes at least two seeds of both rungs."
        return [*sentences, one] if comparisons else sentences
    if comparisons == 1:
        alone = "The gain in points with a 95 % interval for new seeds and new test images alike; *: significant, it excludes zero."
        return [*sentences, alone]
    together = f"corrected for all {comparisons:,} comparisons on this dataset; *: significant, the interval excludes zero."
    sentences.append(f"Gains in points with 95 % intervals for new seeds and new test images alike, {together}")
    return [*sentences, "The gain of a rung with one seed, or over such a rung, has no interval."] if _any_single(dataset) else sentences


def _any_single(dataset: DatasetTable) -> bool:
    """Whether a gain has no interval because a rung has one seed."""
    found = [gain for row in dataset.rows for gain in (row.over_before, row.over_base)] + [effect.gain for effect in dataset.effects]
    return any(gain is not None and gain.significant is None for gain in found)


def limits(dataset: DatasetTable) -> list[str]:
    """What the study can detect on a dataset, in sentences."""
    sentences = []
    if dataset.sensitivity.noise is not None:
        sentences.append(f"Between seeds, test top-1 has a standard deviation of {dataset.sensitivity.noise:.2f} points.")
    if dataset.sensitivity.smallest is not None:
        sentences.append(
            f"A true gain of {dataset.sensitivity.smallest:.1f} points would be significant in about four of five such studies."
        )
    return sentences


# ---- console ----------------------------------------------------------------------------------------------------------------------


def console_table(table: StudyTable) -> list[RenderableType]:
    """What Console.say prints: for each dataset its table, and the answer in words below it."""
    shown: list[RenderableType] = ["", QUICK] if table.quick else []
    for dataset in table.datasets:
        chosen = [column for column in columns(table) if column.console]
        rows = [[column.cell(row) for column in chosen] for row in dataset.rows]
        left = [column.title for column in chosen if column.left]
        shown += ["", _heading(dataset), rich_table(None, [column.title for column in chosen], rows, left)]
        if dataset.effects:
            effects = [(effect.factor, effect.option, effect.against, gain_text(effect.gain)) for effect in dataset.effects]
            shown += ["", rich_table(None, _EFFECTS, effects, _EFFECTS[:3])]
        if dataset.ensembles:
            narrow = [ensemble_cells(row)[:-1] for row in dataset.ensembles]
            shown += ["", rich_table(None, ENSEMBLES[:-1], narrow, ENSEMBLES[-3:-1])]
        shown += [
            "",
            dataset.conclusions.answer,
            *(f"  {verdict}" for verdict in dataset.conclusions.verdicts),
            *dataset.conclusions.notes,
            " ".join([*about(dataset), *limits(dataset)]),
        ]
    return shown


_EFFECTS = ("factor", "option", "over", "gain, averaged over the other factors")


def _heading(dataset: DatasetTable) -> str:
    if dataset.test is None:
        return dataset.name
    return f"{dataset.name}: {dataset.test.images:,} test images of {dataset.test.classes:,} classes"


# ---- files ------------------------------------------------------------------------------------------------------------------------


def write_table(plan: StudyPlan, table: StudyTable) -> None:
    """Write table.md, table.csv, table.tex and table.json into the folder of the study, each whole."""
    write_text(plan.folder / "table.md", markdown(table))
    write_text(plan.folder / "table.csv", csv_text(table))
    write_text(plan.folder / "table.tex", latex(table))
    write_json(plan.folder / "table.json", as_json(table))


def markdown(table: StudyTable) -> str:
    lines = [f"# {_in_markdown(table.title or table.name)}", "", *([f"**{QUICK}**", ""] if table.quick else [])]
    for dataset in table.datasets:
        chosen = columns(table)
        lines += [f"## {_in_markdown(_heading(dataset))}", "", _in_markdown(dataset.conclusions.answer), ""]
        lines += _markdown_table(
            [column.title for column in chosen],
            [[column.cell(row) for column in chosen] for row in dataset.rows],
            [column.left for column in chosen],
        )
        if dataset.effects:
            effects = [(effect.factor, effect.option, effect.against, gain_text(effect.gain)) for effect in dataset.effects]
            lines += _markdown_table(_EFFECTS, effects, [True, True, True, False])
        if dataset.stages:
            stages = [(stage.name, *stage_cells(stage)) for stage in dataset.stages]
            lines += [STAGES_ABOUT, "", *_markdown_table(("rung", *STAGES), stages, [True, False, False, True, *[False] * 4])]
        if dataset.ensembles:
            cells = [ensemble_cells(row) for row in dataset.ensembles]
            lines += [ENSEMBLES_ABOUT, "", *_markdown_table(ENSEMBLES, cells, [True, False, False, False, False, True, True, True])]
        for listed in (dataset.conclusions.verdicts, dataset.conclusions.notes, [*about(dataset), *limits(dataset)]):
            lines += [*(f"- {_in_markdown(text)}" for text in listed), *([""] if listed else [])]
    return "\n".join(lines)


def _markdown_table(titles: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[bool]) -> list[str]:
    lines = [titles, *rows]
    ruler = "|".join(["", *("---" if each else "---:" for each in left), ""])
    written = [f"| {' | '.join(_in_markdown(cell) for cell in line)} |" for line in lines]
    return [written[0], ruler, *written[1:], ""]


def _in_markdown(text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = re.sub(r"([\\`*_{}\[\]|~$])", r"\\\1", escaped)
    escaped = re.sub(r"\\\[(-?[\d.]+, -?[\d.]+)\\\]", r"[\1]", escaped)  # an interval
    escaped = re.sub(r"^([-+=]|#+|\d+[.)])(?=\s|$)", _first_escaped, escaped)
    return re.sub(r"(?i)\b(https?|ftp|www)(?=[:.])", r"\1&#8203;", escaped)  # no links


def _first_escaped(match: re.Match[str]) -> str:
    """A hash, or the sign that makes a list: `\\#`, `1\\.`."""
    return "\\" + match[1] if match[1].startswith("#") else match[1][:-1] + "\\" + match[1][-1]


def csv_text(table: StudyTable) -> str:
    """One row for each dataset and rung; accuracies in per cent, gains in points.

    Text that a spreadsheet would execute begins with an apostrophe.
    """
    stream = io.StringIO(newline="")
    writer: csv.DictWriter[str] | None = None
    for dataset in table.datasets:
        for row in dataset.rows:
            record = {"dataset": dataset.name, **_record(row), "chosen_on_validation": row is dataset.chosen, "quick": table.quick}
            if writer is None:
                writer = csv.DictWriter(stream, record.keys(), lineterminator="\n")
                writer.writeheader()
            writer.writerow({name: _csv_cell(value) for name, value in record.items()})
    return stream.getvalue()


def _record(row: Row) -> dict[str, Any]:
    record: dict[str, Any] = {"number": row.number, "rung": row.name, "change": row.change, "before": _before(row)}
    record |= {"seeds_planned": row.planned, "seeds_finished": row.finished}
    measured = row.measured
    for name, values in (("val", measured and measured.val), ("test", measured and measured.test)):
        record |= {f"{name}_top1_percent": values and values.mean, f"{name}_top1_sd_points": values and values.sd}
    record |= {"test_top1_low_percent": measured and measured.low, "test_top1_high_percent": measured and measured.high}
    for name, gain in (("over_before", row.over_before), ("over_base", row.over_base)):
        record |= {f"{name}_{part}points": gain and getattr(gain, part.strip("_") or "value") for part in ("", "low_", "high_")}
        record |= {f"{name}_{part}": gain and getattr(gain, part) for part in ("p", "significant")}
    units = {"seconds": "training_seconds", "parameters": "parameters", "trainable": "trainable_parameters", "macs": "macs_per_image"}
    names = [field.name for field in fields(Cost)]
    return record | {units.get(name, name): measured and getattr(measured.cost, name) for name in names}


def _before(row: Row) -> str | None:
    return None if row.rung.before is None else one_line(row.rung.before)


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"'{value}" if value.startswith(("=", "+", "-", "@")) else value
    return repr(int(value) if float(value).is_integer() else value)


def latex(table: StudyTable) -> str:
    """A table environment for each dataset."""
    lines = ["% Needs \\usepackage{booktabs}. Names that are not in Latin script need XeLaTeX or LuaLaTeX."]
    chosen = [column for column in columns(table) if column.paper]
    for dataset in table.datasets:
        sentences = [*([QUICK] if table.quick else []), *about(dataset), *limits(dataset)]
        caption = f"{table.title or table.name} {_heading(dataset)}. {' '.join(sentences)}"
        label = re.sub(r"[^a-z0-9]+", "-", f"{table.name} {dataset.name}".lower()).strip("-")
        lines += [
            "\\begin{table}",
            "\\centering",
            "\\small",
            f"\\caption{{{_in_latex(caption)}}}",
            f"\\label{{tab:{label}}}",
            f"\\begin{{tabular}}{{@{{}}{''.join('l' if column.left else 'r' for column in chosen)}@{{}}}}",
            "\\toprule",
            _latex_row([column.title for column in chosen]),
            "\\midrule",
            *(_latex_row([column.cell(row) for column in chosen]) for row in dataset.rows),
            "\\bottomrule",
            "\\end{tabular}",
            "\\end{table}",
        ]
    return "\n".join(lines) + "\n"


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(_in_latex(cell) for cell in cells) + " \\\\"


_LATEX = {
    **{each: f"\\{each}" for each in "{}$&#_%"},
    "\\": "\\textbackslash{}",
    "^": "\\textasciicircum{}",
    "~": "\\textasciitilde{}",
    "<": "\\textless{}",
    ">": "\\textgreater{}",
    "|": "\\textbar{}",
    "[": "{[}",  # after a line's end it would be an option
    "*": "{*}",
    "±": "$\\pm$",
    "×": "$\\times$",
    "−": "$-$",
    "–": "--",
    "…": "\\dots{}",
    "→": "$\\rightarrow$",
}


def _in_latex(text: str) -> str:
    figures = re.sub(r"(?<![\w.])-(?=\d)", "−", text)
    return "".join(_LATEX.get(each, each) for each in figures)


def as_json(table: StudyTable) -> dict[str, Any]:
    """The whole table; accuracies in per cent, gains in points, null for what is not known."""
    return {
        "schema": SCHEMA,
        "name": table.name,
        "title": table.title,
        "arrangement": table.arrangement,
        "seeds": list(table.seeds),
        "quick": table.quick,
        "datasets": [_json_dataset(dataset) for dataset in table.datasets],
    }


def _json_dataset(dataset: DatasetTable) -> dict[str, Any]:
    return {
        "name": dataset.name,
        "test_images": dataset.test and dataset.test.images,
        "classes": dataset.test and dataset.test.classes,
        "answer": dataset.conclusions.answer,
        "rungs": [_json_row(row) for row in dataset.rows],
        "effects": [
            {"factor": effect.factor, "option": effect.option, "over": effect.against, "gain": _json_gain(effect.gain)}
            for effect in dataset.effects
        ],
        "stages": [_json_stage(stage) for stage in dataset.stages],
        "ensembles": [_json_ensemble(row) for row in dataset.ensembles],
        "comparisons": dataset.sensitivity.comparisons,
        "chosen_on_validation": dataset.chosen and dataset.chosen.name,
        "noise_sd": dataset.sensitivity.noise,
        "smallest_gain": dataset.sensitivity.smallest,
        "verdicts": list(dataset.conclusions.verdicts),
        "notes": list(dataset.conclusions.notes),
    }


def _json_row(row: Row) -> dict[str, Any]:
    measured = row.measured
    return {
        "number": row.number,
        "name": row.name,
        "settings": row.rung.settings,
        "before": _before(row),
        "options": row.rung.options,
        "seeds_planned": row.planned,
        "seeds_finished": row.finished,
        "val_top1": measured and asdict(measured.val),
        "test_top1": measured and asdict(measured.test) | {"mean_low": measured.low, "mean_high": measured.high},
        "over_before": _json_gain(row.over_before),
        "over_base": _json_gain(row.over_base),
        "cost": measured and asdict(measured.cost),
    }


def _json_stage(row: StageRow) -> dict[str, Any]:
    return {
        "rung": row.name,
        "stage": row.number,
        "epochs": list(row.stage.epochs),
        "trainable": list(row.stage.trainable),
        "trainable_parameters": row.stage.trainable_parameters,
        "train_top1": row.train and asdict(row.train),
        "val_top1": row.val and asdict(row.val),
        "best_val_top1": row.best and asdict(row.best),
    }


def _json_ensemble(row: EnsembleRow) -> dict[str, Any]:
    found = row.figures
    over = found and found.over_best_member
    return {
        "name": row.name,
        "seed": row.seed,
        "method": row.method,
        "members": list(row.members),
        "reason": row.reason or None,
        "val_top1": found and found.val.top1,
        "test_top1": found and found.test.top1,
        "test_top1_low": found and found.test.top1_low,
        "test_top1_high": found and found.test.top1_high,
        "over_best_member": over
        and {
            "best_member": found and found.best_member,
            "points": over.points,
            "low": over.low,
            "high": over.high,
            "significant": over.shown,
        },
    }


def _json_gain(gain: Gain | None) -> dict[str, Any] | None:
    return None if gain is None else asdict(gain) | {"significant": gain.significant}
