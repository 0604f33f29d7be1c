from __future__ import annotations

import itertools
import math
import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
from browser import contrast
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from PIL import Image
from synthetic import branched, grid, independent, ladder, synthetic_study

from fieldmark.reports.charts.chart import Chart
from fieldmark.studies.analysis import study_table
from fieldmark.studies.charts.colours import palette
from fieldmark.studies.charts.curves import spread_out
from fieldmark.studies.charts.numbers import free_places
from fieldmark.studies.charts.tradeoffs import COSTS, costs, front
from fieldmark.studies.figures import Charts, dataset_charts, write_figures
from fieldmark.studies.plan import StudyPlan
from fieldmark.studies.results import Results, read_results
from fieldmark.studies.table import Row, StudyTable

Made = tuple[StudyPlan, StudyTable, Results]


def made(plan: StudyPlan) -> Made:
    results = read_results(plan)
    return plan, study_table(plan, results), results


def texts(chart: Chart) -> list[str]:
    """The words of a heading or a legend."""
    (axes,) = drawn([chart])
    legend = axes.get_legend()
    return [text.get_text() for text in (axes.texts if legend is None else legend.get_texts())]


def with_cost(row: Row, **values: float) -> Row:
    assert row.measured is not None
    return replace(row, measured=replace(row.measured, cost=replace(row.measured.cost, **values)))


@pytest.fixture(scope="module")
def climb(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The second change is clear, the first is not."""
    return made(synthetic_study(tmp_path_factory.mktemp("climb"), ladder(2), [60, 60.4, 85], images=400))


def drawn(charts: Sequence[Chart]) -> list[Axes]:
    """The axes that each chart is drawn on."""
    parts: list[Axes] = []
    for chart in charts:
        axes = Figure().subplots()
        chart.draw(axes)
        parts.append(axes)
    return parts


@pytest.fixture(scope="module")
def charts(climb: Made) -> Charts:
    _, table, results = climb
    return dataset_charts(table, table.datasets[0], results)


@contextmanager
def saved() -> Iterator[list[list[list[Chart]]]]:
    """The rows of charts of every PNG that is saved meanwhile, and not written."""
    figures: list[list[list[Chart]]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fieldmark.studies.figures.save_png", lambda rows, path: figures.append(rows))
        yield figures


def test_gains_and_their_intervals_are_drawn(climb: Made, charts: Charts) -> None:
    before, base = drawn(charts.gains)
    dataset = climb[1].datasets[0]
    for axes, gains in ((before, [row.over_before for row in dataset.rows[1:]]), (base, [row.over_base for row in dataset.rows[1:]])):
        points = [line for line in axes.lines if line.get_marker() == "o"]
        intervals = [line for line in axes.lines if line.get_marker() != "o" and list(line.get_xdata()) != [0, 0]]
        for place, (gain, point, interval) in enumerate(zip(gains, points, intervals, strict=True)):
            assert gain is not None and list(point.get_xdata()) == [gain.value] and list(point.get_ydata()) == [place]
            assert list(interval.get_xdata()) == [gain.low, gain.high]
            solid = to_hex(point.get_markerfacecolor()) == to_hex(point.get_color())
            assert solid == gain.significant and (interval.get_linewidth() > 2) == gain.significant
            assert gain.words().split(",")[0] in [text.get_text().split(",")[0] for text in axes.texts]
        assert any(list(line.get_xdata()) == [0, 0] for line in axes.lines), "the line of no gain"
        assert [label.get_text() for label in axes.get_yticklabels()] == ["1  random crop", "2  flips"]
        assert axes.yaxis.get_inverted(), "the first change is at the top"
    assert [gain.significant for gain in (dataset.rows[1].over_before, dataset.rows[2].over_before) if gain] == [False, True]


def test_curves_of_all_runs_and_their_means_are_drawn(climb: Made, charts: Charts) -> None:
    plan, table, results = climb
    accuracy, loss = drawn(charts.curves)
    colours = [light for light, _ in palette(table)]
    for axes, measure in ((accuracy, "val_top1"), (loss, "train_loss")):
        lines = [(line.get_gid(), list(line.get_xdata()), list(line.get_ydata()), to_hex(line.get_color())) for line in axes.lines]
        for number, rung in enumerate(plan.rungs):
            curves = [getattr(outcome.curve, measure) for outcome in results.of(plan.datasets[0], rung)]
            wanted = [*(list(curve) for curve in curves), pytest.approx(list(np.mean(curves, axis=0)))]
            mine = [line for line in lines if line[0] == f"rung-{number}"]
            assert [values for _, _, values, _ in mine] == wanted
            assert {colour for *_, colour in mine} == {colours[number]} and all(epochs == list(range(1, 9)) for _, epochs, *_ in mine)
    assert sorted(text.get_text() for text in accuracy.texts) == ["0", "1", "2"]


def test_accuracy_is_drawn_against_each_cost(climb: Made, charts: Charts) -> None:
    rows = climb[1].datasets[0].rows
    shown = costs(climb[1].datasets[0])
    assert [cost.name for cost in shown] == ["parameters", "multiply-adds per image", "training time"]
    for axes, cost in zip(drawn(charts.tradeoffs), shown, strict=True):
        points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "o"]
        measured = [row.measured for row in rows if row.measured]
        size, unit = cost.unit([cost.of(each.cost) for each in measured])
        assert points == [(cost.of(each.cost) / size, each.test.mean) for each in measured]
        assert axes.get_xlabel() == f"{cost.name} ({unit})"
        bars = [list(line.get_ydata()) for line in axes.lines if line.get_marker() != "o" and line.get_gid()]
        assert bars == [[each.low, each.high] for each in measured]


@pytest.mark.parametrize("seconds", [(0.9, 1.6), (1.2, 2.4), (61, 64), (0.5, 40), (3, 40_000), (5000, 5600), (100, 7300)])
def test_ticks_are_distinct_and_have_room(climb: Made, seconds: tuple[float, float]) -> None:
    _, table, results = climb
    few, many = seconds
    rows = tuple(
        with_cost(row, seconds=few + (many - few) * row.number / 2, macs=1e9, parameters=4e6 + 100 * row.number)
        for row in table.datasets[0].rows
    )
    table = replace(table, datasets=(replace(table.datasets[0], rows=rows),))
    for axes in drawn(dataset_charts(table, table.datasets[0], results).tradeoffs):
        axes.figure.draw_without_rendering()
        low, high = axes.get_xlim()
        shown = [label for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high and label.get_text()]
        assert len({label.get_text() for label in shown}) == len(shown) >= 2
        boxes = [label.get_window_extent() for label in shown]
        assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))


@given(st.lists(st.tuples(st.floats(0, 300), st.floats(0, 200)), max_size=12, unique=True))
def test_numbers_of_points_touch_nothing(points: list[tuple[float, float]]) -> None:
    places = free_places(dict(enumerate(points)))
    boxes = [(*place, 8.0 if number < 10 else 14.0, 9.0) for number, place in places.items()]
    for one, other in itertools.combinations(boxes, 2):
        assert abs(one[0] - other[0]) >= (one[2] + other[2]) / 2 - 1e-9 or abs(one[1] - other[1]) >= 9 - 1e-9


def test_the_front_holds_what_no_rung_beats(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    _, table, _ = made(synthetic_study(tmp_path, ladder(9), list(rng.uniform(50, 80, 10)), images=100, seeds=(0, 1)))
    rows = table.datasets[0].rows
    for cost in COSTS:
        points = {row.number: (cost.of(row.measured.cost), row.measured.test.mean) for row in rows if row.measured}
        assert len(points) == len(rows)
        best = [
            number
            for number, (price, accuracy) in points.items()
            if not any(other != (price, accuracy) and other[0] <= price and other[1] >= accuracy for other in points.values())
        ]
        assert sorted(row.number for row, _ in front(cost, rows)) == best


def test_a_cost_that_all_rungs_share_is_left_out_and_said(climb: Made) -> None:
    _, table, results = climb
    rows = tuple(with_cost(row, macs=1e9, parameters=4e6) for row in table.datasets[0].rows)
    table = replace(table, datasets=(replace(table.datasets[0], rows=rows),))
    charts = dataset_charts(table, table.datasets[0], results)
    assert charts.alike == ["All rungs have the same parameters.", "All rungs have the same multiply-adds per image."]
    assert [panel.title for panel in charts.tradeoffs] == ["test top-1 (%) against training time"]


def test_accuracy_is_drawn_against_trainable_parameters_where_rungs_differ_in_them(climb: Made) -> None:
    _, table, results = climb
    rows = tuple(with_cost(row, parameters=4e6, trainable=4e6 / (1 + row.number)) for row in table.datasets[0].rows)
    table = replace(table, datasets=(replace(table.datasets[0], rows=rows),))
    charts = dataset_charts(table, table.datasets[0], results)
    assert charts.alike == ["All rungs have the same parameters."]
    assert charts.tradeoffs[0].title == "test top-1 (%) against trainable parameters"
    rows = tuple(with_cost(row, trainable=row.measured.cost.parameters) for row in climb[1].datasets[0].rows if row.measured)
    table = replace(table, datasets=(replace(table.datasets[0], rows=rows),))
    charts = dataset_charts(table, table.datasets[0], results)
    assert [panel.title.rpartition(" against ")[2] for panel in charts.tradeoffs] == [
        "parameters",
        "multiply-adds per image",
        "training time",
    ], "where all parameters are trained, one image shows them"


def test_side_branches_say_what_they_are_on_and_have_colours_of_their_own(tmp_path: Path) -> None:
    _, table, results = made(synthetic_study(tmp_path, branched(3, aside="flips", last="base"), [60, 62, 64, 66, 65, 61], images=60))
    steps, base = drawn(dataset_charts(table, table.datasets[0], results).gains)
    labels = [label.get_text() for label in steps.get_yticklabels()]
    assert labels == ["1  random crop", "2  flips", "3  label smoothing", "4  aside (on 2)", "5  last (on 0)"]
    assert "4  aside" in [label.get_text() for label in base.get_yticklabels()]
    without, *_ = made(synthetic_study(tmp_path / "without", ladder(3), [60, 62, 64, 66], images=60))
    colours = palette(table)
    assert colours[:4] == palette(study_table(without, read_results(without))), "the ladder's own colours do not change"
    assert len({light for light, _ in colours}) == 6


def test_images_of_a_quick_form_say_so(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path, ladder(1), [60, 62], images=60, quick=True)
    with saved() as figures:
        write_figures(*made(plan))
    assert len(figures) == 3
    for (heading,), *_ in figures:
        assert texts(heading) == ["Quick form: a rehearsal, not a measurement"]


@pytest.mark.parametrize("rungs", [1, 20])
def test_images_are_whole_repeatable_and_not_blank(rungs: int, tmp_path: Path) -> None:
    accuracies = list(np.linspace(60, 70, rungs + 1))
    plan, table, results = made(synthetic_study(tmp_path, ladder(rungs), accuracies, images=60, seeds=(0,), epochs=3))
    write_figures(plan, table, results)
    files = sorted((tmp_path / "figures").iterdir())
    assert [file.name for file in files] == ["curves.png", "gains.png", "tradeoff.png"]
    first = [file.read_bytes() for file in files]
    for file in files:
        image = np.asarray(Image.open(file).convert("RGB"))
        assert image.shape[1] >= 1200 and 0.005 < (image != 255).any(axis=2).mean() < 0.5
        assert (image[:, :4] == 255).all() and (image[:, -4:] == 255).all(), "nothing is cut off at the sides"
    if rungs == 1:
        write_figures(plan, table, results)
        assert [file.read_bytes() for file in files] == first


def test_several_datasets_are_in_one_image(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path, ladder(1), [60, 70], images=60, datasets=("cars", "birds", "none"))
    shutil.rmtree(tmp_path / "runs" / "none")
    with saved() as figures:
        write_figures(*made(plan))
    assert [[len(row) for row in rows] for rows in figures] == [[1, 2, 1, 2], [1, 2, 1, 1, 2, 1], [1, 3, 1, 1, 3, 1]]
    gains, curves, _ = figures
    assert [texts(chart) for (chart,) in gains[::2]] == [["cars"], ["birds"]], "of the third nothing is known yet"
    assert texts(curves[2][0]) == ["0  base", "1  random crop"], "a legend says which rung has which number"


def test_a_grid_shows_its_options_first(tmp_path: Path) -> None:
    factors = {"crop": {"none": {}, "padded": {}}, "rate": {"low": {}, "high": {}}}
    _, table, results = made(synthetic_study(tmp_path, grid(factors), [60, 62, 61, 66], images=60, arrangement="grid"))
    options, cells = drawn(dataset_charts(table, table.datasets[0], results).gains)
    assert [label.get_text() for label in options.get_yticklabels()] == ["crop: padded over none", "rate: high over low"]
    assert len(cells.get_yticklabels()) == 3


def test_images_of_what_is_gone_go_too(climb: Made, tmp_path: Path) -> None:
    plan, _, _ = climb
    shutil.copytree(plan.folder, tmp_path / "study")
    plan = replace(plan, folder=tmp_path / "study")
    (plan.folder / "figures").mkdir(exist_ok=True)
    (plan.folder / "figures" / "gains.png").write_bytes(b"of before")
    shutil.rmtree(plan.folder / "runs")
    plan, table, results = made(plan)
    write_figures(plan, table, results)
    assert list((plan.folder / "figures").iterdir()) == []
    charts = dataset_charts(table, table.datasets[0], results)
    assert (charts.gains, charts.curves, charts.tradeoffs, charts.alike) == ([], [], [], [])


def test_hard_names_short_runs_and_gaps_are_drawn_without_warnings(tmp_path: Path) -> None:
    plan = synthetic_study(tmp_path, independent(4), [60, 61, 62, 63, 64], images=40, seeds=(0,), arrangement="independent", epochs=1)
    (plan.run_path(plan.datasets[0], plan.rungs[1], 0) / "metrics.jsonl").write_text('{"phase": "fit", "epoch": 1, "val_top1": null}\n')
    (plan.run_path(plan.datasets[0], plan.rungs[2], 0) / "metrics.jsonl").unlink()
    _, table, results = made(plan)
    names = ["base", "$x_1^{", "猫" * 90, "<b> & : #00ff00", "a\\nb % {}"]
    rows = tuple(replace(row, name=name) for row, name in zip(table.datasets[0].rows, names, strict=True))
    table = replace(table, datasets=(replace(table.datasets[0], name="$d <i>", rows=rows),))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_figures(plan, table, results)
        charts = dataset_charts(table, table.datasets[0], results)
        panels = [chart.svg for chart in (*charts.gains, *charts.curves, *charts.tradeoffs)]
    for svg in panels:
        assert ElementTree.fromstring(svg).get("role") == "img"
    labels = [text.text for text in ElementTree.fromstring(charts.gains[0].svg).iter("text")]
    assert "1  $x_1^{" in labels and "3  <b> & : #00ff00" in labels
    assert "train loss (nats) over the epochs" in charts.curves[1].svg


def test_svg_takes_its_colours_from_the_page(climb: Made) -> None:
    _, table, results = climb
    charts = dataset_charts(table, table.datasets[0], results)
    panels = [*charts.gains, *charts.curves, *charts.tradeoffs]
    assert len(panels) == 2 + 2 + 3
    seen: set[str] = set()
    for panel in panels:
        assert not re.search(r"(?<=: )#[0-9a-f]{3,6}\b|<style|<metadata|https?:", panel.svg)
        assert 'class="rung-1"' in panel.svg and "var(--rung-1)" in panel.svg and ' id="rung' not in panel.svg
        named = re.findall(r' id="([^"]+)"', panel.svg)
        assert len(named) == len(set(named)) and not seen & set(named)
        seen |= set(named)
        assert {*re.findall(r'(?:href="|url\()#([^")]+)', panel.svg)} <= set(named)
    gain = table.datasets[0].rows[2].over_base
    assert gain is not None and f"2 flips {gain} *" in charts.gains[1].svg
    assert "base ends at" in charts.curves[0].svg and "unbeaten at their cost: base" in charts.tradeoffs[0].svg
    with mpl.rc_context({"axes.edgecolor": "red", "text.color": "blue", "svg.fonttype": "path"}):
        again = dataset_charts(table, table.datasets[0], results)
        assert [chart.svg for chart in (*again.gains, *again.curves, *again.tradeoffs)] == [chart.svg for chart in panels]


@pytest.mark.parametrize("arrangement, rungs", [("ladder", 1), ("ladder", 7), ("ladder", 40), ("independent", 7), ("independent", 40)])
def test_colours_differ_and_can_be_seen_on_light_and_dark(arrangement: str, rungs: int, climb: Made) -> None:
    _, table, _ = climb
    rows = table.datasets[0].rows[:1] * (rungs + 1)
    colours = palette(replace(table, arrangement=arrangement, datasets=(replace(table.datasets[0], rows=rows),)))
    for paper, shades in zip(("#ffffff", "#14161a"), zip(*colours, strict=True), strict=True):
        assert len(set(shades)) == rungs + 1
        assert all(contrast(shade, paper) >= 3 for shade in shades)


@pytest.mark.parametrize("branches", [1, 2, 12])
def test_colours_of_side_branches_differ_and_can_be_seen(branches: int, climb: Made) -> None:
    _, table, _ = climb
    base, *_ = table.datasets[0].rows
    aside = replace(base, rung=replace(base.rung, settings={"on": "base"}))
    rows = (*[base] * 8, *[aside] * branches)
    colours = palette(replace(table, datasets=(replace(table.datasets[0], rows=rows),)))
    for paper, shades in zip(("#ffffff", "#14161a"), zip(*colours, strict=True), strict=True):
        assert len(set(shades)) == 8 + branches
        assert all(contrast(shade, paper) >= 3 for shade in shades)


@settings(max_examples=200)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=16).map(sorted))
def test_numbers_beside_curves_arespread_out(heights: list[float]) -> None:
    placed = spread_out(heights, 5.0, 0.0, 100.0)
    assert all(after - before >= 5 - 1e-9 for before, after in pairwise(placed))
    assert placed[0] >= -1e-9 and placed[-1] <= 100 + 1e-9
    apart = all(after - before >= 5 for before, after in pairwise(heights))
    assert not apart or all(math.isclose(old, new, abs_tol=1e-9) for old, new in zip(heights, placed, strict=True))
