import shutil

import pytest

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.recipe.load import load_recipe
from fieldmark.studies import estimate as module
from fieldmark.studies.estimate import Estimate, check_room, estimate
from fieldmark.studies.plan import PlannedRun, Rung, StudyDataset


def run_of(birds, tmp_path, name, *settings):
    recipe = load_recipe("default", settings)
    return PlannedRun(StudyDataset("birds", str(birds)), Rung(name), 0, recipe, tmp_path / name)


def needing(run_bytes):
    return Estimate(seconds={}, executions={}, decode_seconds=0, run_bytes=run_bytes, working_bytes=10, cache_bytes=10, jobs=1)


def test_each_kind_of_run_is_timed_once(birds, tiny, tmp_path, monkeypatch):
    runs = [
        run_of(birds, tmp_path, "base", *tiny()),
        run_of(birds, tmp_path, "other lr", *tiny("optim.lr=0.5")),
        run_of(birds, tmp_path, "longer", *tiny("train.epochs=200")),
    ]
    timed = []
    measured = module._measured

    def spy(listed, threads):
        timed.extend(run.rung.name for run in listed)
        return measured(listed, threads)

    monkeypatch.setattr(module, "_measured", spy)
    found = estimate(runs, jobs=2, threads=1, console=Console(quiet=True))
    assert timed == ["base", "longer"]
    assert found.seconds[runs[0].path] == found.seconds[runs[1].path] < found.seconds[runs[2].path]
    short, long = found.seconds[runs[0].path], found.seconds[runs[2].path]
    assert found.total == pytest.approx(found.decode_seconds + short + max(long, 0)), "the long run begins when a short one ends"
    assert found.run_bytes > 3 * 10_000 and found.working_bytes > 0 and found.cache_bytes > 0


LAMB = ("optim=timm", "optim.algorithm=lamb")


@pytest.mark.parametrize(
    ("base", "changed", "named"),
    [
        ((), ("model.name=mobilenet_v99",), "mobilenet_v99"),
        pytest.param(LAMB, ("optim=timm", "optim.algorithm=lams"), "lams", marks=pytest.mark.slow),
        pytest.param((), ("optim.lr_factors=[{parameters: haed}]",), "haed", marks=pytest.mark.slow),
    ],
)
def test_what_a_run_would_fail_with_is_said_before_any_is_begun(base, changed, named, birds, tiny, tmp_path):
    runs = [run_of(birds, tmp_path, "base", *tiny(*base)), run_of(birds, tmp_path, "typo", *tiny(*changed))]
    with pytest.raises(InputError) as caught:
        estimate(runs, jobs=1, threads=1, console=Console(quiet=True))
    assert named in str(caught.value) and "'typo' would fail on birds" in caught.value.hint


def test_images_that_a_run_would_set_aside_do_not_stop_the_plan(birds, tiny, tmp_path):
    data = tmp_path / "birds"
    shutil.copytree(birds, data)
    damaged = next(data.glob("train/*/*.png"))
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    run = run_of(data, tmp_path, "base", *tiny("data.max_unreadable=0.03"))
    assert estimate([run], jobs=1, threads=1, console=Console(quiet=True)).seconds


def test_study_that_does_not_fit_on_the_disk_is_refused(tmp_path):
    check_room(needing(10), tmp_path / "not" / "there")
    with pytest.raises(InputError, match=r"the runs need about 1000000\.0 GB, and the disk that holds"):
        check_room(needing(10**15), tmp_path / "not" / "there")
