from __future__ import annotations

import csv
import io
import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt
from synthetic import branched, grid, independent, ladder, synthetic_study

from fieldmark.core.console import Console
from fieldmark.core.summary import Summary
from fieldmark.studies.analysis import study_table
from fieldmark.studies.columns import gain_text, large, rung_columns, spread_text, without_shared
from fieldmark.studies.formats import as_json, console_table, csv_text, markdown, write_table
from fieldmark.studies.latex import in_latex, latex
from fieldmark.studies.plan import Published, Rung, StudyPlan
from fieldmark.studies.results import read_results
from fieldmark.studies.statistics import Gain, Spread
from fieldmark.studies.table import StudyTable, one_line

HOSTILE = (
    "a | b \\| c",
    "line\nbreak\r\nand `code` <script>alert(1)</script>",
    '=cmd|" /C calc"!A0',
    "100 % of $5 & #1_x ^ ~ {y} \\end{table} \\\\ [2] *",
    "**bold** _it_ ~~no~~ [link](http://example.org) https://example.org www.example.org &amp;",
    "\u202eright to left\u202c \x1b[31mred \ud800 \x00",
    "[/red] \\[/red] [bold]",
    "+1.3 [0.4, 2.2]",
    "- 1. # heading",
    "@SUM(1)",
)


STAGED = {"train.epochs": 8, "stages": [{"epochs": 4, "trainable": ["head"]}, {}]}


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> dict[str, StudyPlan]:
    folder = tmp_path_factory.mktemp("studies")
    factors: dict[str, Any] = {
        "crop": {"none": {"augment.crop.name": "none"}, "padded": {"augment.crop.name": "padded"}},
        "rate | a": {"low": {"optim.lr": 0.001}, "high": {"optim.lr": 0.1}},
    }
    return {
        "ladder": synthetic_study(folder / "ladder", ladder(2), [60, 70, 71], images=400, datasets=("cars", "birds")),
        "grid": synthetic_study(folder / "grid", grid(factors), [60, 62, 61, 66], images=100, arrangement="grid"),
        "branches": synthetic_study(
            folder / "branches",
            (*branched(1, aside="base"), Rung("in | stages", {"on": "random crop", **STAGED}, "random crop")),
            [60, 70, 71, 72],
            images=100,
            quick=True,
        ),
    }


@pytest.fixture(scope="module")
def tables(plans: dict[str, StudyPlan], tmp_path_factory: pytest.TempPathFactory) -> dict[str, StudyTable]:
    made = {name: study_table(plan, read_results(plan)) for name, plan in plans.items()}
    # Names as no study file may have them, on runs of plain names.
    plan = synthetic_study(tmp_path_factory.mktemp("hostile"), independent(len(HOSTILE)), [60] * 11, images=30, arrangement="independent")
    results = read_results(plan)
    names = dict(zip((rung.name for rung in plan.rungs[1:]), HOSTILE, strict=True))

    def renamed(rung: Rung) -> Rung:
        return replace(rung, name=names.get(rung.name, rung.name))

    outcomes = tuple(replace(outcome, rung=renamed(outcome.rung)) for outcome in results.outcomes)
    hostile = replace(plan, name=HOSTILE[3], title=HOSTILE[4], rungs=tuple(map(renamed, plan.rungs)))
    return made | {"hostile": study_table(hostile, replace(results, outcomes=outcomes))}


def records(table: StudyTable) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(table), newline="")))


def test_csv_holds_every_figure_in_full(tables: dict[str, StudyTable]) -> None:
    table = tables["ladder"]
    rows = records(table)
    assert [(row["dataset"], row["rung"]) for row in rows] == [
        (name, rung) for name in ("cars", "birds") for rung in ("base", "random crop", "flips")
    ]
    kept = [row for dataset in table.datasets for row in dataset.rows]
    for text, row in zip(rows, kept, strict=True):
        assert row.measured is not None
        cost = row.measured.cost
        assert float(text["test_top1_percent"]) == row.measured.test.mean and float(text["val_top1_sd_points"]) == row.measured.val.sd
        assert float(text["test_top1_low_percent"]) == row.measured.low
        assert (int(text["parameters"]), float(text["training_seconds"])) == (cost.parameters, cost.seconds)
        assert (int(text["number"]), text["seeds_finished"], text["seeds_planned"]) == (row.number, "3", "3")
        for name, gain in (("over_before", row.over_before), ("over_base", row.over_base)):
            parts = [text[f"{name}_{part}"] for part in ("points", "low_points", "high_points", "p", "significant")]
            if gain is None:
                assert parts == [""] * 5
            else:
                assert [float(part) for part in parts[:4]] == [gain.value, gain.low, gain.high, gain.p]
                assert parts[4] == ("true" if gain.significant else "false")
    assert [row["rung"] for row in rows if row["chosen_on_validation"] == "true"] == [
        dataset.chosen.name for dataset in table.datasets if dataset.chosen
    ]


def test_csv_text_is_never_a_formula_and_never_breaks_a_row(tables: dict[str, StudyTable]) -> None:
    rows = records(tables["hostile"])
    assert len(rows) == 11 and all(list(row) == list(records(tables["ladder"])[0]) for row in rows)
    texts = [row[name] for row in rows for name in ("dataset", "rung", "change")]
    assert not any(text.startswith(("=", "+", "-", "@", "\t", "\r")) for text in texts)
    assert rows[3]["rung"] == "'" + HOSTILE[2] and rows[10]["rung"] == "'@SUM(1)"
    assert rows[1]["rung"] == HOSTILE[0]


def cells(text: str) -> list[list[list[str]]]:
    """Of every table in a Markdown text, its rows of cells as a reader of GitHub's flavour shows them."""
    tables: list[list[list[str]]] = []
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    for index, token in enumerate(tokens):
        if token.type == "table_open":
            tables.append([])
        elif token.type == "tr_open":
            tables[-1].append([])
        elif token.type in ("th_open", "td_open"):
            children = tokens[index + 1].children or []
            assert {child.type for child in children} <= {"text", "text_special"}, "no link, code, emphasis or HTML"
            tables[-1][-1].append("".join(child.content for child in children).replace("\u200b", ""))
    return tables


def test_markdown_shows_names_as_they_are(tables: dict[str, StudyTable]) -> None:
    table = tables["hostile"]
    text = markdown(table)
    (rows,) = cells(text)
    shown = rung_columns(table)
    assert rows[0] == [column.title for column in shown]
    assert rows[1:] == [[column.cell(row) for column in shown] for row in table.datasets[0].rows]
    assert [row[1] for row in rows[2:]] == [one_line(name) for name in HOSTILE]
    assert "<script" not in text and not re.search(r"https?:|www\.", text)
    for token in MarkdownIt("gfm-like", {"linkify": False}).parse(text):
        assert token.type not in ("html_block", "fence", "code_block") and token.tag != "h3"
        assert not {child.type for child in token.children or []} & {"link_open", "html_inline", "code_inline", "em_open", "strong_open"}
    assert "+1.3 [0.4, 2.2]" in text, "an interval can be read in the source"


def test_markdown_of_a_ladder_and_of_a_grid(tables: dict[str, StudyTable]) -> None:
    text = markdown(tables["ladder"])
    assert len(cells(text)) == 2 and "over before" in cells(text)[0][0] and "## birds: 400 test images of 10 classes" in text
    assert all(dataset.conclusions.answer.split("[")[0] in text for dataset in tables["ladder"].datasets)
    _, effects = cells(markdown(tables["grid"]))
    assert [row[:3] for row in effects[1:]] == [["crop", "padded", "none"], ["rate | a", "high", "low"]]
    assert "over before" not in cells(markdown(tables["grid"]))[0][0]


def test_side_branches_and_stages_are_in_every_form(tables: dict[str, StudyTable]) -> None:
    table = tables["branches"]
    found = table.datasets[0]
    rungs, stages = cells(markdown(table))
    assert [row[1] for row in rungs[1:]] == ["base", "random crop", "aside (on base)", "in | stages (on random crop)"]
    assert [row["before"] for row in records(table)] == ["", "base", "base", "random crop"]
    assert [row["before"] for row in as_json(table)["datasets"][0]["rungs"]] == [None, "base", "base", "random crop"]
    first, second = found.stages
    assert stages == [
        ["rung", "stage", "epochs", "trained", "parameters", "train top-1 %", "val top-1 %", "best val top-1 %"],
        ["in | stages", "1 of 2", "1 to 4", "head", "2.00 M", *(spread_text(each) for each in (first.train, first.val, first.best))],
        ["in | stages", "2 of 2", "5 to 8", "all", "4.00 M", *(spread_text(each) for each in (second.train, second.val, second.best))],
    ]
    stored = as_json(table)["datasets"][0]["stages"]
    assert [(stage["rung"], stage["stage"], stage["epochs"], stage["trainable"]) for stage in stored] == [
        ("in | stages", 1, [1, 4], ["head"]),
        ("in | stages", 2, [5, 8], ["all"]),
    ]
    assert (
        first.best is not None and stored[0]["best_val_top1"]["mean"] == first.best.mean and stored[1]["trainable_parameters"] == 4_000_000
    )
    assert as_json(tables["ladder"])["datasets"][0]["stages"] == []


def test_a_quick_form_is_said_to_be_one_in_every_form(tables: dict[str, StudyTable]) -> None:
    said = "Quick form: a rehearsal, not a measurement."
    for name, table in tables.items():
        stream = io.StringIO()
        Console(stream=stream).say(*console_table(table))
        quick = name == "branches"
        assert (said in markdown(table)) == (said in stream.getvalue()) == (said in latex(table)) == quick
        assert as_json(table)["quick"] is quick and {row["quick"] for row in records(table)} == {str(quick).lower()}


def test_latex_is_balanced_and_its_names_are_text(tables: dict[str, StudyTable]) -> None:
    text = latex(tables["hostile"])
    assert text.count("\\begin{table}") == text.count("\\end{table}") == 1
    plain = re.sub(r"\\[{}$&#_%]", "", text)
    assert plain.count("{") == plain.count("}")
    rows = text[text.index("\\midrule") : text.index("\\bottomrule")].splitlines()[1:]
    brief, _ = without_shared([column for column in rung_columns(tables["hostile"]) if column.paper], tables["hostile"].datasets[0].rows)
    assert len(rows) == 11
    for row in rows:
        assert row.endswith(" \\\\") and len(re.findall(r"(?<!\\)&", row)) == len(brief) - 1
        assert not re.search(r"(?<!\\)[#%^~]|(?<!\\)_", row) and not row.startswith(("[", "*"))
    assert "95 \\% intervals" in text and "booktabs" in text.splitlines()[0]


@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="no pdflatex on PATH: the LaTeX was not compiled (Debian: texlive-latex-recommended)"
)
def test_latex_compiles_whatever_the_names_are(tmp_path: Path) -> None:
    names = [
        "日本鳥 at 5 %",
        "Éclair, naïve, Łódź",
        "α = 0.1, Δ ≥ 2",
        "a--b --- c",
        "ðúsund ŋ «x»",
        "?` !` ``q'' \"d\"",
        "\\input{x} ^^M ~",
    ]
    document = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\\input{table}\\end{document}"
    plan = synthetic_study(tmp_path / "study", independent(len(names)), [60] * 8, images=30, arrangement="independent", title=names[0])
    table = study_table(plan, read_results(plan))
    rows = [replace(row, name=name) for row, name in zip(table.datasets[0].rows[1:], names, strict=True)]
    (tmp_path / "table.tex").write_text(latex(replace(table, datasets=(replace(table.datasets[0], rows=tuple(rows)),))), encoding="utf-8")
    (tmp_path / "all.tex").write_text(document)
    ended = subprocess.run(["pdflatex", "-halt-on-error", "all.tex"], cwd=tmp_path, capture_output=True, stdin=subprocess.DEVNULL)
    assert ended.returncode == 0, ended.stdout.decode(errors="replace")[-2000:]


@pytest.mark.skipif(
    shutil.which("pdflatex") is None, reason="no pdflatex on PATH: the LaTeX was not compiled (Debian: texlive-latex-recommended)"
)
def test_latex_compiles(tables: dict[str, StudyTable], tmp_path: Path) -> None:
    document = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\\input{%s}\\end{document}"
    for name, table in tables.items():
        (tmp_path / f"{name}.tex").write_text(latex(table), encoding="utf-8")
    (tmp_path / "all.tex").write_text(document % "}\\input{".join(tables))
    ended = subprocess.run(["pdflatex", "-halt-on-error", "all.tex"], cwd=tmp_path, capture_output=True, stdin=subprocess.DEVNULL)
    assert ended.returncode == 0, ended.stdout.decode(errors="replace")[-2000:]
    assert "Overfull" not in (tmp_path / "all.log").read_text(errors="replace"), "no table is wider than the text"


def test_columns_that_are_the_same_in_all_rows_are_said_in_latex(tables: dict[str, StudyTable]) -> None:
    text = latex(replace(tables["ladder"], title="what helps with few cars"))
    caption = text[text.index("\\caption") : text.index("\\label")]
    assert caption.startswith("\\caption{What helps with few cars. On cars: 400 test images of 10 classes. Accuracies")
    assert caption.rstrip().endswith("The same in all rows: seeds 3.}")
    titles = text[text.index("\\toprule") : text.index("\\midrule")]
    assert "test top-1" in titles and "seeds" not in titles


@pytest.mark.parametrize(
    "text, expected",
    [
        ("50 % of $5 & #1_x", "50 \\% of \\$5 \\& \\#1\\_x"),
        ("{a} ^ ~ \\", "\\{a\\} \\textasciicircum{} \\textasciitilde{} \\textbackslash{}"),
        ("+1.3 [-0.4, 2.2]", "+1.3 {[}$-$0.4, 2.2]"),
        ("lr-1, a--b, 3–4", "lr-1, a-{}-b, 3--4"),
        ("β ≤ é ß", "$\\beta$ $\\le$ é ß"),
        ("e\u0301", "é"),
        ("鳥 x", "\\otherscript{鳥}{U+9CE5} x"),
    ],
)
def test_text_in_latex(text: str, expected: str) -> None:
    assert in_latex(text) == expected


def with_metrics(plan: StudyPlan) -> StudyTable:
    """Asked for top-5 and NLL, with figures of two sources."""
    published = (Published("A Paper, 2020", {"base": 58.25, "flips": 72}), Published("50 % & more", {"base": 60}))
    asked = replace(plan, metrics=("top5", "nll"), published=published)
    return study_table(asked, read_results(asked))


def test_further_metrics_and_published_figures_are_in_every_form(plans: dict[str, StudyPlan]) -> None:
    table = with_metrics(plans["ladder"])
    (titles, base, crop, flips), _ = cells(markdown(table))
    place = titles.index("published %")
    assert titles[place - 2 : place] == ["test top-5 %", "test NLL"]
    assert [row[place] for row in (base, crop, flips)] == ["58.25 [1], 60 [2]", "–", "72 [1]"]
    summary = Summary.read(plans["ladder"].run(plans["ladder"].datasets[0], plans["ladder"].rungs[0], 0).path / "summary.json")
    assert base[place - 2].startswith(f"{summary.test.top5:.1f}")
    assert "Published \\[1\\]: A Paper, 2020." in markdown(table)
    assert "Published {[}2]: 50 \\% \\& more." in latex(table)
    row = records(table)[0]
    assert (row["published_1_percent"], row["published_2_percent"]) == ("58.25", "60")
    assert float(row["test_top5_percent"]) == pytest.approx(summary.test.top5) and "test_nll" in row
    dumped = json.loads(json.dumps(as_json(table)))
    assert dumped["published"][0] == {"source": "A Paper, 2020", "figures": {"base": 58.25, "flips": 72}}
    assert set(dumped["datasets"][0]["rungs"][0]["test_metrics"]) == {"top5", "nll"}


def test_the_best_of_a_column_is_bold_in_latex(plans: dict[str, StudyPlan]) -> None:
    table = with_metrics(plans["ladder"])
    text = latex(table)
    rows = text[text.index("\\midrule") : text.index("\\bottomrule")].splitlines()[1:]
    shown, _ = without_shared([column for column in rung_columns(table) if column.paper], table.datasets[0].rows)
    place = [column.title for column in shown].index("test top-1 %")
    means = [row.measured.test.mean for row in table.datasets[0].rows if row.measured]
    bold = [row.split(" & ")[place].startswith("\\textbf{") for row in rows]
    assert bold == [f"{mean:.1f}" == f"{max(means):.1f}" for mean in means]


def test_one_seed_has_intervals_of_its_images(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path, ladder(1), [60, 70], seeds=(0,), images=50)
    ((titles, base, _),) = cells(markdown(study_table(plan, read_results(plan))))
    test = Summary.read(plan.run(plan.datasets[0], plan.rungs[0], 0).path / "summary.json").test
    assert base[titles.index("test top-1 %")] == f"{test.top1:.1f} [{test.top1_low:.1f}, {test.top1_high:.1f}]"


def test_json_holds_all_and_is_strict(tables: dict[str, StudyTable], plans: dict[str, StudyPlan]) -> None:
    write_table(plans["ladder"], tables["ladder"])
    stored = json.loads((plans["ladder"].folder / "table.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert stored == as_json(tables["ladder"])
    crop = stored["datasets"][0]["rungs"][1]
    row = tables["ladder"].datasets[0].rows[1]
    assert row.over_base is not None and row.measured is not None
    assert crop["over_base"] == {
        "value": row.over_base.value,
        "low": row.over_base.low,
        "high": row.over_base.high,
        "p": row.over_base.p,
        "images": None,
        "significant": row.over_base.significant,
    }
    assert crop["settings"] == {"augment.crop.name": "padded"} and crop["cost"]["seconds"] == row.measured.cost.seconds
    assert crop["test_top1"]["mean"] == row.measured.test.mean and crop["test_top1"]["mean_low"] == row.measured.low
    assert set(crop["test_top1"]) == {"mean", "sd", "sd_low", "sd_high", "mean_low", "mean_high"}
    effects = as_json(tables["grid"])["datasets"][0]["effects"]
    assert [(effect["factor"], effect["option"], effect["over"]) for effect in effects] == [
        ("crop", "padded", "none"),
        ("rate | a", "high", "low"),
    ]
    json.dumps(as_json(tables["hostile"]), allow_nan=False).encode()


def test_the_console_prints_any_name(tables: dict[str, StudyTable]) -> None:
    stream = io.StringIO()
    Console(stream=stream).say(*console_table(tables["hostile"]), *console_table(tables["grid"]))
    text = stream.getvalue()
    assert "\x1b" not in text and "[/red] \\[/red] [bold]" in text and "=cmd|" in text
    assert max(map(len, text.splitlines()[:20])) <= 140 and "rate | a" in text and "averaged over the other factors" in text


def test_a_ladder_fits_the_console(tables: dict[str, StudyTable]) -> None:
    stream = io.StringIO()
    Console(stream=stream).say(*console_table(tables["ladder"]))
    rows = [line for line in stream.getvalue().splitlines() if "│" in line]
    assert len(rows) == 6 and all("over" not in row for row in rows), "no cell takes two lines"


def test_tables_fit_80_columns_and_say_once_what_all_rows_share(tables: dict[str, StudyTable], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("ladder", "grid", "branches"):
        stream = io.StringIO()
        Console(stream=stream).say(*console_table(tables[name]))
        lines = stream.getvalue().splitlines()
        drawn = [line for line in lines if "│" in line or "┃" in line]
        assert all(len(line) <= 80 for line in drawn)
        words = {word for row in tables[name].datasets[0].rows for word in row.name.split()}
        assert all(any(word in line for line in drawn) for word in words)
        rows = tables[name].datasets[0].rows
        for column in (column for column in rung_columns(tables[name]) if column.console and not column.head):
            alike = {column.cell(row) for row in rows}
            assert any(f"{column.title} {column.cell(rows[0])}" in line for line in lines if "The same in all rows: " in line) == (
                len(alike) == 1
            )


def test_files_are_written_whole(tables: dict[str, StudyTable], plans: dict[str, StudyPlan], tmp_path: Path) -> None:
    for name in ("ladder", "grid"):
        write_table(replace(plans[name], folder=tmp_path), tables[name])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table.csv", "table.json", "table.md", "table.tex"]
    assert (tmp_path / "table.md").read_text() == markdown(tables["grid"])
    assert (tmp_path / "table.csv").read_bytes().decode() == csv_text(tables["grid"])


def test_an_empty_study_has_all_formats(plans: dict[str, StudyPlan], tmp_path: Path) -> None:
    plan = replace(plans["ladder"], folder=tmp_path)
    table = study_table(plan, read_results(plan))
    write_table(plan, table)
    assert "No run has finished yet" in (tmp_path / "table.md").read_text()
    assert all(row["test_top1_percent"] == row["parameters"] == "" for row in records(table))
    stream = io.StringIO()
    Console(stream=stream).say(*console_table(table))
    assert "0 of 3" in stream.getvalue()


@pytest.mark.parametrize(
    "gain, text",
    [
        (None, "–"),
        (Gain(1.3, 0.4, 2.2, 0.01), "+1.3 [0.4, 2.2] *"),
        (Gain(-1.3, -2.2, -0.4, 0.01), "-1.3 [-2.2, -0.4] *"),
        (Gain(0.3, -0.8, 1.4, 0.9), "+0.3 [-0.8, 1.4]"),
        (Gain(0.3, None, None, None), "+0.3"),
    ],
)
def test_gains_in_cells(gain: Gain | None, text: str) -> None:
    assert gain_text(gain) == text


@pytest.mark.parametrize(
    "number, text",
    [
        (0, "0"),
        (999, "999"),
        (4_007_548, "4.01 M"),
        (390e6, "390 M"),
        (39_000, "39.0 k"),
        (1.8e9, "1.80 G"),
        (999_999, "1.00 M"),
        (99_960, "100 k"),
    ],
)
def test_large_numbers(number: float, text: str) -> None:
    assert large(number) == text
    value, _, unit = text.partition(" ")
    assert math.isclose(float(value) * {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[unit], number, rel_tol=0.005)


def test_spreads() -> None:
    assert spread_text(None) == "–"
    assert spread_text(Spread(81.26, None, None, None)) == "81.3" and spread_text(Spread(81.26, 0.449, 0.1, 2)) == "81.3 ± 0.4"
