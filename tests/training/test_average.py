"""The moving average against timm's and PyTorch's own, and against the formula."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.utils import ModelEmaV3
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.ema import ExponentialAverage
from fieldmark.core.run_folder import read_json_lines
from fieldmark.training.average import AveragedWeights
from runs import train


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))


def states(model, steps):
    """The model's state after each of some steps of training."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for step in range(steps):
        torch.manual_seed(step)
        model(torch.randn(4, 3, 8, 8)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        yield step


def settings(**changed):
    return ExponentialAverage(**{"decay": 0.9, "warmup": False, **changed})


def of(average, model):
    with average.in_place_of(model):
        return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_agrees_with_timm_buffers_averaged_too():
    model = network()
    ours, theirs = AveragedWeights(settings(), model), ModelEmaV3(model, decay=0.9)
    for _ in states(model, 12):
        ours.update(model)
        theirs.update(model)
    found = of(ours, model)
    for name, expected in theirs.module.state_dict().items():
        if "num_batches" not in name:
            torch.testing.assert_close(found[name], expected)


def test_agrees_with_pytorch_with_buffers_copied():
    model = network()
    ours = AveragedWeights(settings(buffers="copied"), model)
    theirs = AveragedModel(copy.deepcopy(model), multi_avg_fn=get_ema_multi_avg_fn(0.9))
    theirs.update_parameters(model)  # PyTorch's first update copies
    for _ in states(model, 12):
        ours.update(model)
        theirs.update_parameters(model)
    found, newest = of(ours, model), model.state_dict()
    for name, expected in theirs.module.named_parameters():
        torch.testing.assert_close(found[name], expected.detach())
    for name, _ in model.named_buffers():
        assert torch.equal(found[name], newest[name])


@given(st.floats(0.5, 0.9999), st.integers(1, 30))
def test_warmup_is_the_formula(decay, updates):
    model = nn.Linear(1, 1, bias=False).double()
    nn.init.constant_(model.weight, 0.0)
    average = AveragedWeights(settings(decay=decay, warmup=True), model)
    expected = 0.0
    for n in range(updates):
        nn.init.constant_(model.weight, float(n + 1))
        average.update(model)
        keep = min(decay, (1 + n) / (10 + n))
        expected = keep * expected + (1 - keep) * (n + 1)
    assert of(average, model)["weight"].item() == pytest.approx(expected, rel=1e-9)


def test_the_model_has_its_own_weights_again_afterwards_and_can_be_trained_on():
    model = network()
    average = AveragedWeights(settings(), model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in states(model, 3):
        average.update(model)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ZeroDivisionError), average.in_place_of(model):
        assert not torch.equal(model.state_dict()["0.weight"], before["0.weight"])
        raise ZeroDivisionError
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    model(torch.randn(4, 3, 8, 8)).sum().backward()
    optimizer.step()
    assert not torch.equal(model.state_dict()["0.weight"], before["0.weight"])


def test_before_its_first_update_the_average_is_the_model_itself():
    model = network()
    average = AveragedWeights(settings(), model)
    for _ in states(model, 3):
        pass
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in of(average, model).items())


def test_an_average_that_would_never_be_made_is_refused(birds, tiny, tmp_path):
    with pytest.raises(InputError, match=r"ema\.every: the weights would never be averaged: 11 steps apart in a run of 10"):
        train(birds, *tiny("ema=exponential", "ema.every=11"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    run = train(birds, *tiny("ema=exponential", "ema.every=10"), out=tmp_path / "run")
    first, _ = read_json_lines(run.folder.metrics_file)
    plain = train(birds, *tiny(), out=tmp_path / "plain")
    assert first["val_nll"] == read_json_lines(plain.folder.metrics_file)[0]["val_nll"]


def test_a_saved_average_goes_on_as_one_never_saved():
    model, other = network(), network()
    unbroken, first, second = (AveragedWeights(settings(warmup=True), each) for each in (model, model, other))
    for step in states(model, 8):
        unbroken.update(model)
        if step < 4:
            first.update(model)
        if step == 3:
            second.load_state(copy.deepcopy(first.state()))
        if step > 3:
            second.update(model)
    assert all(torch.equal(tensor, of(unbroken, model)[name]) for name, tensor in of(second, model).items())
