import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from fieldmark.core.recipe.layers import read_layer
from fieldmark.studies.plan import StudyDataset
from fieldmark.studies.search.figures import draw_course, draw_dimension, write_search_figure
from fieldmark.studies.search.proposals import Trial
from fieldmark.studies.search.results import SearchResult, best_of
from fieldmark.studies.search.space import read_space

SPACE = {
    "optim.lr": {"from": 1e-4, "to": 1e-1, "log": True},
    "optim.name": {"sgd": {"optim.momentum": {"from": 0.5, "to": 0.99}}, "adamw": None},
    "augment.crop.area": [[0.35, 1.0], [0.5, 1.0]],
    "train.batch": {"from": 16, "to": 64, "step": 16},
}


def a_space():
    return read_space(SPACE, [read_layer({"optim.name": "sgd"}, "base", [])], "study.yaml", [])


def a_trial(number, state="finished", value=80.0):
    name = ("sgd", "adamw")[number % 2]
    momentum = {"optim.momentum": 0.5 + number / 100} if name == "sgd" else {}
    settings = {"optim.name": name, "optim.lr": 10 ** (-4 + number / 20), "augment.crop.area": [0.35, 1.0], "train.batch": 16, **momentum}
    finished = value + number % 7 if state == "finished" else None
    values = {} if state in ("failed", "running") else {1: value, 2: value + number % 7}
    return Trial(number=number, state=state, settings=settings, is_base=number == 1, values=values, value=finished, reason=None)


def a_result(trials, maximise=True, shares=None):
    best = best_of(trials, maximise)
    monitor = "top1" if maximise else "nll"
    return SearchResult(
        folder=Path("out"),
        dataset=StudyDataset("cars", "cars"),
        monitor=monitor,
        maximise=maximise,
        keys=tuple(SPACE),
        trials=tuple(trials),
        best=best,
        val=None,
        test=None,
        epochs=0,
        epochs_in_all=0,
        importances=shares or {},
    )


def drawn(result):
    """The axes of the course and of each dimension."""
    figure = Figure()
    draws = [draw_course, *(partial(draw_dimension, dimension=dimension) for dimension in a_space().dimensions)]
    parts = figure.subplots(len(draws))
    for axes, draw in zip(parts, draws, strict=True):
        draw(axes, result=result)
    return list(parts)


def points(axes):
    return {made.get_label(): [tuple(map(float, point)) for point in made.get_offsets()] for made in axes.collections}


def test_a_chart_of_the_course_and_one_for_each_dimension(tmp_path):
    states = {4: "stopped", 5: "failed", 6: "running"}
    trials = [a_trial(number, states.get(number, "finished")) for number in range(1, 21)]
    result = a_result(trials, shares={"optim.lr": 0.7, "optim.name": 0.3})
    write_search_figure(result, a_space(), tmp_path / "search.png")
    image = Image.open(tmp_path / "search.png")
    assert image.width > image.height > 150
    course, *panels = drawn(result)
    titles = ["optim.name", "optim.lr", "optim.momentum (sgd)", "augment.crop.area", "train.batch"]
    assert [axes.get_xlabel() for axes in (course, *panels)] == ["trial", *titles]
    there = points(course)
    assert there["chosen"] == [(result.best.number, result.best.value)]
    assert there["stopped early"] == [(4, 84)]  # its last figure
    assert len(there["finished"]) == 16
    (steps,) = course.lines
    assert list(steps.get_ydata())[:4] == [81, 82, 83, 83] and max(steps.get_ydata()) == result.best.value
    by_name = dict(zip(titles, panels, strict=True))
    assert by_name["optim.lr"].get_xscale() == "log" and by_name["train.batch"].get_xscale() == "linear"
    momenta = [at for shown in points(by_name["optim.momentum (sgd)"]).values() for at, _ in shown]
    assert sorted(momenta) == [0.5 + number / 100 for number in (2, 4, 8, 10, 12, 14, 16, 18, 20)]
    assert [text.get_text() for text in by_name["augment.crop.area"].get_xticklabels()] == ["[0.35, 1.0]", "[0.5, 1.0]"]
    assert by_name["optim.lr"].get_title(loc="right") == "importance 70%"


def test_less_is_better():
    result = a_result([a_trial(number, value=2.0 - number / 10) for number in range(1, 6)], maximise=False)
    (steps,) = drawn(result)[0].lines
    assert list(steps.get_ydata()) == sorted(steps.get_ydata(), reverse=True)
    assert steps.get_ydata()[-1] == result.best.value


@pytest.mark.parametrize("state", ["stopped", "finished"])
def test_a_trial_far_off_is_drawn_at_the_edge(state):
    trials = [*(a_trial(number) for number in range(1, 30)), a_trial(30, state, value=1.0)]
    parts = drawn(a_result(trials))
    low, high = parts[0].get_ylim()
    assert 40 < low < 80 and 86 < high < 95 and all(axes.get_ylim() == (low, high) for axes in parts)
    assert points(parts[0])["stopped early" if state == "stopped" else "finished"][-1] == (30, low)


@pytest.mark.parametrize("trials", [[a_trial(1, "failed")], [a_trial(1)], [a_trial(1, "stopped", value=math.nan)]])
def test_few_or_no_figures(tmp_path, trials):
    write_search_figure(a_result(trials), a_space(), tmp_path / "search.png")
    assert Image.open(tmp_path / "search.png").width > 150 and len(drawn(a_result(trials))) == 6


def test_equal_searches_give_equal_images(tmp_path):
    trials = [a_trial(number) for number in range(1, 6)]
    for name in ("one.png", "other.png"):
        write_search_figure(a_result(trials), replace(a_space(), dimensions=()), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()
