"""The table of a study for the console, for readers and for machines: Markdown, CSV and JSON. Names in it are text, never code."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any

from rich.console import RenderableType

from fieldmark.core.console import table as rich_table
from fieldmark.core.files import write_json, write_text
from fieldmark.studies.columns import (
    EFFECT_COLUMNS,
    ENSEMBLE_COLUMNS,
    ENSEMBLES_ABOUT,
    STAGE_COLUMNS,
    STAGES_ABOUT,
    Column,
    T,
    rung_columns,
    without_shared,
)
from fieldmark.studies.ensembles import EnsembleRow
from fieldmark.studies.explanations import about, heading, limits, sources
from fieldmark.studies.latex import latex
from fieldmark.studies.plan import QUICK, StudyPlan
from fieldmark.studies.stages import StageRow
from fieldmark.studies.statistics import Gain
from fieldmark.studies.table import Cost, DatasetTable, Row, StudyTable, one_line

SCHEMA = 2


# ---- console ----------------------------------------------------------------------------------------------------------------------


def console_table(table: StudyTable) -> list[RenderableType]:
    """What Console.say prints: for each dataset its table, and the answer in words below it."""
    shown: list[RenderableType] = ["", QUICK] if table.quick else []
    for dataset in table.datasets:
        shown += ["", heading(dataset), *_console_table(rung_columns(table), dataset.rows)]
        if dataset.effects:
            shown += ["", *_console_table(EFFECT_COLUMNS, dataset.effects)]
        if dataset.ensembles:
            shown += ["", *_console_table(ENSEMBLE_COLUMNS, dataset.ensembles)]
        shown += [
            "",
            dataset.conclusions.answer,
            *(f"  {verdict}" for verdict in dataset.conclusions.verdicts),
            *dataset.conclusions.notes,
            " ".join([*about(dataset), *sources(table), *limits(dataset)]),
        ]
    return shown


def _console_table(columns: Sequence[Column[T]], rows: Sequence[T]) -> list[RenderableType]:
    """Columns that are the same in several rows are no columns, but said in a line below."""
    chosen, said = without_shared([column for column in columns if column.console], rows)
    lines = [[column.cell(row) for column in chosen] for row in rows]
    shown = rich_table(None, [column.title for column in chosen], lines, [column.title for column in chosen if column.left])
    return [shown, said] if said else [shown]


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
        lines += [f"## {_in_markdown(heading(dataset))}", "", _in_markdown(dataset.conclusions.answer), ""]
        lines += _markdown_table(rung_columns(table), dataset.rows)
        if dataset.effects:
            lines += _markdown_table(EFFECT_COLUMNS, dataset.effects)
        if dataset.stages:
            lines += [STAGES_ABOUT, "", *_markdown_table(STAGE_COLUMNS, dataset.stages)]
        if dataset.ensembles:
            lines += [ENSEMBLES_ABOUT, "", *_markdown_table(ENSEMBLE_COLUMNS, dataset.ensembles)]
        for listed in (dataset.conclusions.verdicts, dataset.conclusions.notes, [*about(dataset), *sources(table), *limits(dataset)]):
            lines += [*(f"- {_in_markdown(text)}" for text in listed), *([""] if listed else [])]
    return "\n".join(lines)


def _markdown_table(columns: Sequence[Column[T]], rows: Sequence[T]) -> list[str]:
    lines = [[column.title for column in columns], *([column.cell(row) for column in columns] for row in rows)]
    ruler = "|".join(["", *("---" if column.left else "---:" for column in columns), ""])
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
            record = {"dataset": dataset.name, **_record(row, table), "chosen_on_validation": row is dataset.chosen, "quick": table.quick}
            if writer is None:
                writer = csv.DictWriter(stream, record.keys(), lineterminator="\n")
                writer.writeheader()
            writer.writerow({name: _csv_cell(value) for name, value in record.items()})
    return stream.getvalue()


def _record(row: Row, table: StudyTable) -> dict[str, Any]:
    record: dict[str, Any] = {"number": row.number, "rung": row.name, "change": row.change, "before": _before(row)}
    record |= {"seeds_planned": row.planned, "seeds_finished": row.finished}
    measured = row.measured
    for name, values in (("val", measured and measured.val), ("test", measured and measured.test)):
        record |= {f"{name}_top1_percent": values and values.mean, f"{name}_top1_sd_points": values and values.sd}
    record |= {"test_top1_low_percent": measured and measured.low, "test_top1_high_percent": measured and measured.high}
    for metric in table.metrics:
        found = measured and measured.metrics[metric.key]
        unit = "_percent" if metric.unit == "%" else ""
        record |= {f"test_{metric.key}{unit}": found and found.mean, f"test_{metric.key}_sd": found and found.sd}
        record |= {f"test_{metric.key}_low{unit}": found and found.low, f"test_{metric.key}_high{unit}": found and found.high}
        if metric.biased:
            record[f"test_{metric.key}_as_computed{unit}"] = found and found.computed
    record |= {f"published{number}_percent": figure for number, figure in _published(row, table)}
    for name, gain in (("over_before", row.over_before), ("over_base", row.over_base)):
        record |= {f"{name}_{part}points": gain and getattr(gain, part.strip("_") or "value") for part in ("", "low_", "high_")}
        record |= {f"{name}_{part}": gain and getattr(gain, part) for part in ("p", "significant")}
        ends = gain.images if gain is not None and gain.images is not None else (None, None)
        record |= {f"{name}_{end}_images_points": value for end, value in zip(("low", "high"), ends, strict=True)}
    units = {"seconds": "training_seconds", "parameters": "parameters", "trainable": "trainable_parameters", "macs": "macs_per_image"}
    names = [field.name for field in fields(Cost)]
    return record | {units.get(name, name): measured and getattr(measured.cost, name) for name in names}


def _published(row: Row, table: StudyTable) -> list[tuple[str, float | None]]:
    """By the number of the source, empty if there is only one."""
    sources = enumerate(table.published, 1)
    return [(f"_{number}" if len(table.published) > 1 else "", each.figures.get(row.rung.name)) for number, each in sources]


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


def as_json(table: StudyTable) -> dict[str, Any]:
    """The whole table; accuracies in per cent, gains in points, null for what is not known."""
    return {
        "schema": SCHEMA,
        "name": table.name,
        "title": table.title,
        "arrangement": table.arrangement,
        "seeds": list(table.seeds),
        "quick": table.quick,
        "published": [{"source": each.source, "figures": dict(each.figures)} for each in table.published],
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
        "test_metrics": measured and {key: values and asdict(values) for key, values in measured.metrics.items()},
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
