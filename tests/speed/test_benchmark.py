import json

import pytest
from PIL import Image

import fieldmark
from fieldmark.core.errors import CheckFailed, InputError
from fieldmark.speed import benchmark as module
from fieldmark.speed.benchmark import Benchmark, Latency, Measured
from fieldmark.speed.contender import Contender, contenders


@pytest.fixture(scope="session")
def bundle(finished_run, tmp_path_factory):
    return fieldmark.export(finished_run, tmp_path_factory.mktemp("bundles") / "mine", format="torch", batch=(1, 4), quiet=True)


@pytest.fixture
def brief(monkeypatch):
    """One short round, and PyTorch as it is: its compiler takes a minute."""
    monkeypatch.setattr(module, "ROUNDS", 1)
    monkeypatch.setattr(module, "REPEATS", 3)
    monkeypatch.setattr(module, "contenders", lambda paths, threads: [each for each in contenders(paths, threads) if each.way != "compile"])


@pytest.mark.usefixtures("brief")
def test_runs_and_bundles_are_measured_side_by_side(finished_run, bundle, tmp_path):
    found = fieldmark.benchmark(finished_run, bundle, threads=1, alongside=1, out=tmp_path / "out", quiet=True)
    assert [each.name for each in found.contenders] == ["finished PyTorch", "mine"] and (found.threads, found.alongside) == (1, 1)
    for each, batches in zip(found.contenders, ({1, 2, 4, 8, 16, 32}, {1, 4}), strict=True):
        assert each.problem == "" and set(each.throughput) == batches and each.best[1] == max(each.throughput.values())
        assert 0 < each.model.p50 <= each.model.p90 <= each.model.p99 and each.answer.p50 > 0 and each.decode.p50 > 0
        assert each.memory > 50e6 and 0 < each.start < 600 and each.overhead == each.answer.p50 / (each.model.p50 + each.decode.p50)
    weights = finished_run.folder.best_weights.stat().st_size
    assert found.contenders[0].size == weights and weights < found.contenders[1].size < 2 * weights + 200_000
    written = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert written["contenders"][1]["answer"]["p50"] == found.contenders[1].answer.p50 and isinstance(written["machine"]["vnni"], bool)
    assert Image.open(tmp_path / "out" / "benchmark.png").width > 500


@pytest.mark.usefixtures("brief")
def test_what_cannot_be_opened_is_a_row_that_says_why(bundle, tmp_path):
    import shutil

    shutil.copytree(bundle.path, tmp_path / "damaged")
    (tmp_path / "damaged" / "network.json").write_text("{}")
    found = fieldmark.benchmark(tmp_path / "damaged", bundle, threads=1, quiet=True)
    assert "network.json changed" in found.contenders[0].problem and found.contenders[0].model is None
    assert found.contenders[1].problem == ""


def measured(name: str, p90: float) -> Measured:
    latency = Latency(1.0, p90, 99.0)
    return Measured(name, model=latency, decode=latency, answer=latency, throughput={1: 10.0})


def test_a_budget_fails_those_that_are_slower():
    found = Benchmark((measured("fast", 10.0), measured("slow", 10.1), Measured("broken", "why")), 1, 0, {})
    found.check_budget(10.1)
    with pytest.raises(CheckFailed, match=r"^slow takes 10.1 ms, over --budget-ms 10\n"):
        found.check_budget(10.0)


def test_latency_is_by_quantiles():
    assert Latency.of([float(each) for each in range(101)]) == Latency(50.0, 90.0, 99.0)


@pytest.mark.parametrize(
    ("values", "said"),
    [({"threads": 0}, "--threads must be at least 1"), ({"alongside": -1}, "--alongside at least 0")],
)
def test_what_cannot_be_asked_for(values, said, bundle):
    with pytest.raises(InputError, match=said):
        fieldmark.benchmark(bundle, quiet=True, **values)


def test_only_runs_and_bundles_are_measured(tmp_path):
    with pytest.raises(InputError, match="nothing to measure"):
        fieldmark.benchmark(quiet=True)
    with pytest.raises(InputError, match="there is no run folder"):
        fieldmark.benchmark(tmp_path / "nothing", quiet=True)


def test_a_run_is_measured_in_both_ways_of_pytorch(finished_run, bundle):
    found = contenders([finished_run.path, bundle.path, bundle.path], 2)
    assert found == [
        Contender(finished_run.path, "eager", 2),
        Contender(finished_run.path, "compile", 2),
        Contender(bundle.path, "bundle", 2),
    ]
