import json

import numpy as np
import pytest
import scipy.special
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.core.ensemble_record import EnsembleRecord
from fieldmark.core.errors import InputError
from fieldmark.core.manifest import Manifest
from fieldmark.scoring.combination import Mean, Stack, combined, load_combination, save_stack
from fieldmark.scoring.predictions import Predictions
from records import a_manifest


def logits(members=3, n=7, classes=4, seed=0) -> list[np.ndarray]:
    return list(np.random.default_rng(seed).normal(0, 4, (members, n, classes)).astype(np.float32))


@given(st.integers(0, 2**31), st.integers(1, 5), st.integers(2, 6))
@settings(max_examples=50, deadline=None)
def test_the_mean_of_probabilities_is_that_of_scipy(seed, members, classes):
    given_ = logits(members, 5, classes, seed)
    weights = np.random.default_rng(seed).dirichlet(np.ones(members))
    expected = sum(weight * scipy.special.softmax(each.astype(float), axis=1) for weight, each in zip(weights, given_, strict=True))
    assert np.allclose(np.exp(Mean("probabilities", weights)(given_)), expected, rtol=1e-5, atol=1e-7)


def test_the_mean_of_logits_and_a_stack_are_those_of_torch():
    given_, weights = logits(), np.array([0.5, 0.2, 0.3])
    assert np.allclose(Mean("logits", weights)(given_), sum(w * each for w, each in zip(weights, given_, strict=True)), atol=1e-6)
    layer = torch.nn.Linear(12, 4)
    stack = Stack((0, 1, 2), layer.weight.detach().numpy(), layer.bias.detach().numpy())
    assert np.allclose(stack(given_), layer(torch.from_numpy(np.concatenate(given_, axis=1))).detach().numpy(), atol=1e-5)


def test_members_of_one_input_are_averaged_before_they_are_stacked():
    given_ = logits(4)
    weight = np.random.default_rng(1).normal(size=(4, 8)).astype(np.float32)
    stack = Stack((0, 1, 0, 1), weight, np.zeros(4, np.float32))
    seen = np.concatenate([(given_[0] + given_[2]) / 2, (given_[1] + given_[3]) / 2], axis=1)
    assert np.allclose(stack(given_), seen @ weight.T, atol=1e-4)


@pytest.mark.parametrize("of", ["probabilities", "logits"])
def test_a_weight_of_one_leaves_the_others_out_and_what_is_not_finite_stays_so(of):
    given_ = logits()
    alone = Mean(of, np.array([0.0, 1.0, 0.0]))(given_)
    assert np.allclose(scipy.special.softmax(alone, axis=1), scipy.special.softmax(given_[1], axis=1), atol=1e-6)
    given_[1][2, 0] = np.nan
    assert np.isnan(Mean(of, np.full(3, 1 / 3))(given_)).any(axis=1).tolist() == [False, False, True, False, False, False, False]


def test_certain_members_that_contradict_each_other_give_finite_logits():
    sure = np.array([[1000.0, 0.0]], np.float32)
    assert np.allclose(np.exp(Mean("probabilities", np.full(2, 0.5))([sure, -sure])), 0.5)


def test_images_are_matched_by_their_ids():
    def predictions(ids: list[str], first: float) -> Predictions:
        count = len(ids)
        values = np.arange(2 * count, dtype=np.float32).reshape(count, 2) + first
        return Predictions(np.array(ids), np.zeros(count, np.int32), values, np.zeros((count, 3), np.float32), ("x", "y"))

    one, other = predictions(["a", "b", "c"], 0), predictions(["c", "a"], 10)
    both = combined([one, other], Mean("logits", np.array([0.5, 0.5])))
    assert both.ids.tolist() == ["a", "c"]
    assert both.logits.tolist() == [[6.0, 7.0], [7.0, 8.0]] and both.features.tolist() == [[0, 1, 12, 13], [4, 5, 10, 11]]


def record(**values) -> dict:
    """What the manifest of a mean says, with other values."""
    member = {"name": "a", "source": "/a", "model": "m", "size": 32, "parameters": 1, "folder": "01-a"}
    base = {"method": "mean", "of": "logits", "weights": [0.25, 0.75], "members": [member, member | {"folder": "02-b"}]}
    return {key: value for key, value in (base | values).items() if value is not None}


def test_they_are_read_from_the_record_and_the_layers_file(tmp_path):
    found = load_combination(EnsembleRecord.model_validate(record()), tmp_path / "none", 2)
    assert isinstance(found, Mean) and found.of == "logits" and found.weights.tolist() == [0.25, 0.75]
    stack = Stack((0, 1), np.ones((2, 4), np.float32), np.zeros(2, np.float32))
    save_stack(stack, tmp_path / "stack.safetensors")
    stacked = EnsembleRecord.model_validate(record(method="stack", of=None, weights=None, inputs=[0, 1]))
    found = load_combination(stacked, tmp_path / "stack.safetensors", 2)
    assert isinstance(found, Stack) and found.inputs == (0, 1) and np.array_equal(found.weight, stack.weight)
    with pytest.raises(InputError, match="for 2 inputs of 3 classes"):
        load_combination(stacked, tmp_path / "stack.safetensors", 3)
    (tmp_path / "stack.safetensors").write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match="missing or damaged"):
        load_combination(stacked, tmp_path / "stack.safetensors", 2)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ("yes", "should be"),
        ({}, "method"),
        (record(members=[]), "at least 2 items"),
        (record(members=[record()["members"][0]] * 2, weights=[0.5]), "2 members, and 1 weights"),
        (record(of="votes"), "ensemble.of"),
        (record(method="vote"), "ensemble.method"),
        (record(inputs=[0, 1]), "a mean has no inputs"),
        (record(weights=[0.5, float("nan")]), "ensemble.weights"),
        (record(method="stack", of=None, weights=None, inputs=[0, 2]), "without gaps"),
        *[
            (record(members=[record()["members"][0], record()["members"][0] | {"folder": folder}]), "folder")
            for folder in ("..", "../../other", "/etc", "", "02-b/../..", "b")
        ],
    ],
)
def test_a_record_that_fieldmark_did_not_write_is_refused(values, said, tmp_path):
    file = tmp_path / "manifest.json"
    a_manifest(ensemble=EnsembleRecord(**record())).write(file)
    assert Manifest.read(file).ensemble == EnsembleRecord(**record())
    file.write_text(json.dumps(json.loads(file.read_text()) | {"ensemble": values}))
    with pytest.raises(InputError, match=r"manifest\.json is damaged: ensemble") as caught:
        Manifest.read(file)
    assert said in str(caught.value)
