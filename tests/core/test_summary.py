import json

import pytest

from fieldmark.core.errors import InputError
from fieldmark.core.summary import DifferenceSummary, EnsembleSummary, MemberSummary, Summary
from records import a_summary, some_metrics


def test_what_is_written_is_read_again(tmp_path):
    member = MemberSummary(name="a", val=90.0, test=91.0, test_low=89.0, test_high=93.0)
    over = DifferenceSummary(points=1.0, low=-1.0, high=3.0, n=100, wins=2, losses=1, p=1.0, shown=False)
    ensemble = EnsembleSummary(members=(member, member), best_member="a", over_best_member=over)
    for summary in (a_summary(), a_summary(ensemble=ensemble)):
        summary.write(tmp_path / "summary.json")
        assert Summary.read(tmp_path / "summary.json") == summary
        written = json.loads((tmp_path / "summary.json").read_text())
        assert written["schema"] == 1 and ("ensemble" in written) == (summary.ensemble is not None)


def test_what_is_not_finite_is_null_and_still_counts_as_measured(tmp_path):
    a_summary(test={"nll": float("inf"), "nll_calibrated": float("inf")}).write(tmp_path / "summary.json")
    test = Summary.read(tmp_path / "summary.json").test
    assert test.nll is None and test.nll_calibrated is None and test.has("nll_calibrated") and not test.has("ece_calibrated")
    assert json.loads((tmp_path / "summary.json").read_text())["test"]["nll_calibrated"] is None


def test_metrics_by_name_and_by_split():
    metrics = some_metrics(top1=50.0, top1_low=40.0, top1_high=60.0, nll=0.25)
    assert metrics.interval("top1") == (50.0, 40.0, 60.0) and metrics.nll == 0.25
    assert metrics.estimate("top1") == (50.0, 40.0, 60.0)
    corrected = metrics.model_copy(update={"top1_corrected": 45.0})
    assert corrected.estimate("top1") == (45.0, 40.0, 60.0) and corrected.interval("top1") == (50.0, 40.0, 60.0)
    assert not metrics.has("another") and metrics.interval("another") == (None, None, None)
    summary = a_summary(val={"top1": 10.0}, test={"top1": 20.0})
    assert (summary.of("val").top1, summary.of("test").top1) == (10.0, 20.0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"top1": 101.0}, "less than or equal to 100"),
        ({"top1": float("nan")}, "finite"),
        ({"n": 1.5}, "integer"),
        ({"nll": "low"}, "number"),
    ],
)
def test_what_cannot_be_an_accuracy_or_a_count_is_refused(tmp_path, values, said):
    file = tmp_path / "summary.json"
    a_summary().write(file)
    written = json.loads(file.read_text())
    file.write_text(json.dumps(written | {"test": written["test"] | values}))
    with pytest.raises(InputError, match=rf"summary\.json is damaged: test\.{next(iter(values))} should be .*{said}"):
        Summary.read(file)
