import json
import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

import fieldmark
from fieldmark.bundles.parity import AccuracyLoss, Agreement, Attempt, Limits, Parity
from fieldmark.core.console import Console
from fieldmark.core.errors import CheckFailed, InputError
from fieldmark.core.run_folder import RunFolder
from fieldmark.evaluation.run import Run
from fieldmark.exports import export
from fieldmark.exports.parity import why_not_int8
from fieldmark.exports.torch_graph import TorchExporter


def test_a_bundle_answers_as_its_run_does(torch_bundle, finished_run, birds):
    folder = birds / "test"
    run, bundle = finished_run.predict(folder), torch_bundle.predict(folder)
    assert [answer.classes for answer in bundle] == [answer.classes for answer in run]
    for ours, theirs in zip(run, bundle, strict=True):
        np.testing.assert_allclose(theirs.probabilities, ours.probabilities, atol=1e-4)
        assert (theirs.unknown, theirs.among, theirs.coarser) == (ours.unknown, ours.among, ours.coarser)


def test_what_lies_in_a_bundle(torch_bundle, finished_run):
    names = {path.relative_to(torch_bundle.path).as_posix() for path in torch_bundle.path.rglob("*") if path.is_file()}
    examples = {name for name in names if name.startswith("examples/")}
    assert {f"examples/{name}" for name in ("1.png", "2.png", "3.png", "4.png", "expected.json")} <= examples
    score = {"rejection.safetensors"} if finished_run.folder.rejection_file.is_file() and finished_run.score.width else set()
    assert names == {"README.md", "bundle.json", "parity.json", "model.safetensors", "network.json", *examples, *score}
    record = torch_bundle.record
    assert set(record.files) == names - {"bundle.json"}
    assert record.class_names == finished_run.class_names and record.preprocess == finished_run.preprocess.record()
    assert record.decisions == finished_run.decisions.record
    assert record.provenance.fingerprint == finished_run.folder.manifest().fingerprint
    parity = Parity.read(torch_bundle.path / "parity.json")
    val = finished_run.summary.dataset.val
    assert (parity.agreement.n, parity.agreement.equal, parity.files.n, parity.files.equal) == (val, val, val, val)
    assert parity.agreement.largest_difference < 1e-5 and parity.loss.points == 0 and not parity.proven


def test_the_examples_are_answered_as_expected(torch_bundle):
    expected = json.loads((torch_bundle.path / "examples" / "expected.json").read_text())
    for name, wanted in expected.items():
        (answer,) = torch_bundle.predict(torch_bundle.path / "examples" / name)
        assert list(answer.classes) == wanted["classes"] and answer.unknown == wanted["unknown"]
        np.testing.assert_allclose(answer.probabilities, wanted["probabilities"], atol=1e-5)


def test_two_exports_of_a_run_are_alike(torch_bundle, finished_run, tmp_path):
    again = fieldmark.export(finished_run, tmp_path / "again", format="torch", quiet=True)
    assert again.record.files == torch_bundle.record.files


def test_an_ensemble_is_exported_as_one_graph(birds, tiny, finished_run, tmp_path):
    other = fieldmark.train(birds, *tiny("train.seed=1", "train.epochs=1"), out=tmp_path / "other", quiet=True)
    both = fieldmark.ensemble(finished_run, other, method="stack", out=tmp_path / "both", quiet=True)
    bundle = fieldmark.export(both, tmp_path / "bundle", format="torch", quiet=True)
    answers, expected = bundle.predict(birds / "test"), both.predict(birds / "test")
    assert [answer.classes for answer in answers] == [answer.classes for answer in expected]
    assert bundle.record.network.members == 2 and bundle.record.graph.width == 6


def test_the_licence_of_the_starting_weights_is_handed_on(finished_run, torch_bundle, tmp_path):
    folder = RunFolder.open(shutil.copytree(finished_run.path, tmp_path / "run"))
    folder.update_manifest(licence="cc-by-nc-4.0")
    bundle = fieldmark.export(folder.path, tmp_path / "bundle", format="torch", quiet=True)
    assert bundle.record.provenance.licence == "cc-by-nc-4.0" and torch_bundle.record.provenance.licence is None
    assert "Their licence: cc-by-nc-4.0." in (bundle.path / "README.md").read_text()


@pytest.mark.parametrize("damage", ["other weights", "not a number"])
def test_a_graph_that_answers_otherwise_leaves_no_bundle(damage, finished_run, tmp_path, monkeypatch):
    write = TorchExporter.write

    def write_wrongly(self, source, batch, folder):
        import safetensors.numpy

        from fieldmark.models.weights import read_weights

        names = write(self, source, batch, folder)
        file = folder / "model.safetensors"
        metadata = read_weights(file)[1]
        tensors = safetensors.numpy.load_file(file)
        tensors["head.weight"] = -tensors["head.weight"] if damage == "other weights" else tensors["head.weight"] * np.nan
        file.write_bytes(safetensors.numpy.save(tensors, {"fieldmark": json.dumps(metadata)}))
        return names

    monkeypatch.setattr(TorchExporter, "write", write_wrongly)
    with pytest.raises(CheckFailed, match=r"no bundle was written: in torch float32, .* (differ|not numbers)") as failed:
        fieldmark.export(finished_run, tmp_path / "bundle", format="torch", quiet=True)
    assert failed.value.exit_code == 1 and os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"format": "onxx"}, "did you mean onnx"),
        ({"format": "torch", "int8": True}, "--int8: torch bundles are float32"),
        ({"batch": "many"}, "--batch: expected numbers of images, from 1"),
        ({"batch": 0}, "--batch: expected numbers of images, from 1"),
        ({"max_loss": float("nan")}, "--max-loss: expected a number from 0 to 100, got nan"),
        ({"max_changed": 101}, "--max-changed"),
        ({"include": "enrol"}, "--with: there is no 'enrol'; choose enroll, neighbours"),
        ({"include": 3}, r"--with: there is no 3; choose enroll, neighbours"),
    ],
)
def test_what_cannot_be_asked_for(given, said, finished_run, tmp_path):
    with pytest.raises(InputError, match=said):
        fieldmark.export(finished_run, tmp_path / "bundle", **{"format": "torch", "quiet": True} | given)
    assert os.listdir(tmp_path) == []


def test_nothing_that_is_there_is_touched(finished_run, tmp_path):
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="already exists"):
        fieldmark.export(finished_run, tmp_path / "bundle", format="torch", quiet=True)
    assert os.listdir(tmp_path / "bundle") == ["mine.txt"] and os.listdir(tmp_path) == ["bundle"]


def test_a_run_without_its_images_or_unfinished_is_not_exported(finished_run, tmp_path):
    shutil.copytree(finished_run.path, tmp_path / "run")
    folder = RunFolder(tmp_path / "run")
    folder.update_manifest(data=folder.manifest().data.model_copy(update={"root": str(tmp_path / "gone")}))
    with pytest.raises(InputError, match="is not there any more"):
        fieldmark.export(folder.path, tmp_path / "bundle", format="torch", quiet=True)
    folder.update_manifest(status="interrupted")
    with pytest.raises(InputError, match="is not finished"):
        fieldmark.export(Run.load(folder.path), tmp_path / "bundle", format="torch", quiet=True)
    assert os.listdir(tmp_path) == ["run"]


def test_a_bundle_is_evaluated_on_other_data(torch_bundle, finished_run, birds, tmp_path):
    shutil.copytree(birds / "test", tmp_path / "photos")
    of_bundle = fieldmark.evaluate(torch_bundle, data=tmp_path / "photos", quiet=True)
    of_run = fieldmark.evaluate(Run.load(shutil.copytree(finished_run.path, tmp_path / "run")), data=tmp_path / "photos", quiet=True)
    assert of_bundle.split == "all" and of_bundle.predictions is None
    for key in ("n", "top1", "macro_f1", "nll", "nll_calibrated", "ece"):
        assert of_bundle.metrics[key] == pytest.approx(of_run.metrics[key], abs=1e-3)
    with pytest.raises(InputError, match=r"is a bundle, which does not know the images of its run"):
        fieldmark.evaluate(torch_bundle.path, quiet=True)
    with pytest.raises(InputError, match="are for runs"):
        fieldmark.evaluate(torch_bundle.path, data=tmp_path / "photos", corrupt="fog:3", quiet=True)


@pytest.mark.parametrize(
    ("changed", "tried"),
    [
        ({(): 3}, [()]),
        ({(): 9, ("percentile",): 4}, [(), ("percentile",)]),
        (
            {(): 9, ("percentile",): 12, ("bias",): 7, ("bias", "stem"): 5},
            [(), ("percentile",), ("bias",), ("bias", "stem")],
        ),
    ],
)
def test_a_cure_that_makes_it_worse_is_left_out_of_those_that_follow(changed, tried, monkeypatch):
    assert [attempt.cures for attempt, _ in attempts(changed, monkeypatch)] == tried


def test_if_no_cure_helps_the_best_attempt_is_the_reason(monkeypatch):
    with pytest.raises(CheckFailed, match=r"in onnx int8, even with bias, 7.0 % of the answers changed, and 5 % are allowed"):
        attempts({(): 9, ("percentile",): 12, ("bias",): 7, ("bias", "stem"): 8}, monkeypatch)


def attempts(changed: dict[tuple[str, ...], int], monkeypatch):
    """What an export tries, where these shares of answers change with cures of these names."""

    def attempt(export, how):
        agreement = Agreement(n=100, equal=100 - changed[how], clear=100, clear_equal=100, largest_difference=0.1)
        loss = AccuracyLoss(n=100, run=80, bundle=80, lost=0, gained=0, points=0, low=-1, high=1)
        return Attempt(cures=how, agreement=agreement, loss=loss, reason=why_not_int8(agreement, loss, Limits())), {}

    monkeypatch.setattr(export._Export, "_attempt", attempt)
    monkeypatch.setattr(export, "Cures", tuple)
    steps = [lambda kept, name=name: (*kept, name) for name in ("percentile", "bias", "stem")]
    monkeypatch.setattr(export.cures, "in_order", lambda known, has: iter(steps))
    request = SimpleNamespace(precision="int8", limits=Limits(), exporter=SimpleNamespace(cures=(), format="onnx"))
    return export._Export(None, request, None, None, None, None, None, Console(quiet=True))._attempts()
