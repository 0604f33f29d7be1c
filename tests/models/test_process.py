"""A call leaves the caller's process as it was."""

import os
import random
import shutil
import subprocess
import sys
from contextlib import ExitStack

import cv2
import numpy as np
import pytest
import torch

import fieldmark
from fieldmark.core.environment import kept_environment
from fieldmark.models.process import borrowed_process


def state() -> dict[str, object]:
    """What belongs to the caller, in a form that can be compared."""
    kind, *numbers = np.random.get_state()
    return {
        "environment": {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"},
        "python": random.getstate(),
        "numpy": (kind, *(each.tobytes() if isinstance(each, np.ndarray) else each for each in numbers)),
        "torch": torch.get_rng_state().numpy().tobytes(),
        "threads": torch.get_num_threads(),
        "opencv": cv2.getNumThreads(),
        "kernels": (torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "type": torch.get_default_dtype(),
    }


@pytest.mark.parametrize("call", ["fieldmark.predict(run, photo, quiet=True)", "fieldmark.train(*settings, out=out, quiet=True)"])
def test_the_first_call_of_a_process_leaves_it_alone(call, finished_run, birds, tiny, tmp_path):
    """It imports libraries, which draw numbers and set environment variables."""
    script = f"""
import os, random, sys
import numpy as np
run, photo, out, *settings = sys.argv[1:]
random.seed(1), np.random.seed(1)
before = random.getstate(), np.random.get_state()[1].tolist(), dict(os.environ)
import fieldmark
{call}
assert "timm" in sys.modules
after = random.getstate(), np.random.get_state()[1].tolist(), dict(os.environ)
print([one == other for one, other in zip(before, after)])
"""
    photo = next((birds / "test").rglob("*.png"))
    given = [str(each) for each in (finished_run.path, photo, tmp_path / "run", birds, *tiny())]
    process = subprocess.run([sys.executable, "-c", script, *given], capture_output=True, text=True)
    assert (process.stdout.strip(), process.stderr) == ("[True, True, True]", "")


@pytest.mark.parametrize("mode", ["grad", "inference", "dtype"])
def test_the_callers_modes_of_pytorch_do_not_reach_inside(mode, finished_run, birds, tiny, tmp_path):
    photos = [str(path) for path in sorted((birds / "test").rglob("*.png"))[:2]]
    usual = [answer.probabilities for answer in finished_run.predict(photos)]
    with ExitStack() as opened:
        if mode == "inference":
            opened.enter_context(torch.inference_mode())
        elif mode == "grad":
            opened.enter_context(torch.no_grad())
        else:
            opened.callback(torch.set_default_dtype, torch.get_default_dtype())
            torch.set_default_dtype(torch.float64)
        before = state()
        trained = fieldmark.train(birds, *tiny(), out=tmp_path / "run", quiet=True)
        run = fieldmark.Run.load(finished_run.path)
        answers = [answer.probabilities for answer in run.predict(photos)]
        fieldmark.explain(run, photos, tmp_path / "explained", quiet=True)
        assert state() == before
    np.testing.assert_array_equal(answers, usual)
    assert trained.summary.test.top1 == finished_run.summary.test.top1


@pytest.fixture
def unlike_ours():
    """Numbers of threads that no call would choose; the state with them."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(3)
    cv2.setNumThreads(2)
    yield state()
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def test_training_with_settings_of_python_leaves_the_process_alone(birds, tiny, tmp_path, unlike_ours):
    run = fieldmark.train(birds, *tiny(), {"model.dropout": 0.1}, augment={"rotate": np.float32(5)}, out=tmp_path / "run", quiet=True)
    assert state() == unlike_ours
    assert run.recipe.model.dropout == 0.1 and run.recipe.augment.rotate == 5


def test_using_a_run_leaves_the_process_alone(finished_run, birds, tmp_path, unlike_ours):
    shutil.copytree(finished_run.path, tmp_path / "run")
    run = fieldmark.Run.load(tmp_path / "run")
    photos = [str(path) for path in sorted((birds / "test").rglob("*.png"))[:2]]
    for call in (
        lambda: fieldmark.evaluate(run),
        lambda: list(fieldmark.predict(run, photos, quiet=True)),
        lambda: run.predict(photos),
        lambda: fieldmark.explain(run, photos, tmp_path / "explained"),
        lambda: fieldmark.evaluate(run, corrupt="fog:1"),
    ):
        call()
        assert state() == unlike_ours


def test_answers_do_not_depend_on_the_callers_threads(finished_run, birds):
    """Each chunk is computed with the run's own number of threads, and between two of them the caller has theirs."""
    photo = next((birds / "test").rglob("*.png"))
    seen = []
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        run = fieldmark.Run.load(finished_run.path)
        with run.computing():
            seen.append(torch.get_num_threads())
        for _ in run.stream([photo] * 3):
            seen.append(torch.get_num_threads())
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 3, 3, 3]


def test_what_is_changed_inside_is_put_back_also_after_an_error(unlike_ours, monkeypatch):
    monkeypatch.setenv("FIELDMARK_OF_THE_TEST", "before")
    before = state()
    with pytest.raises(RuntimeError), borrowed_process():
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)
        torch.set_num_threads(1)
        torch.backends.cudnn.deterministic = not torch.backends.cudnn.deterministic
        os.environ |= {"FIELDMARK_OF_THE_TEST": "inside", "FIELDMARK_NEW": "1"}
        raise RuntimeError
    assert state() == before


def test_variables_that_were_deleted_come_back(monkeypatch):
    monkeypatch.setenv("FIELDMARK_OF_THE_TEST", "before")
    with kept_environment():
        del os.environ["FIELDMARK_OF_THE_TEST"]
    assert os.environ["FIELDMARK_OF_THE_TEST"] == "before"
