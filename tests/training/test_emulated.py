"""A recipe in bfloat16 on a processor that emulates it."""

from dataclasses import replace

import numpy as np
import pytest

from fieldmark.core.console import Console
from fieldmark.core.run_folder import RunFolder
from fieldmark.datasets.loading import find_data
from fieldmark.evaluation.run import Run
from fieldmark.models import execution
from fieldmark.training.setup import EMULATED, prepare, restore
from runs import train


@pytest.fixture(scope="module")
def in_bfloat16(birds, tiny, tmp_path_factory):
    out = tmp_path_factory.mktemp("bfloat16") / "run"
    return train(birds, *tiny("train.precision=bfloat16"), out=out)


@pytest.mark.parametrize("native", [True, False])
def test_training_and_resuming_say_so(native, in_bfloat16, birds, tiny, capfd, monkeypatch):
    monkeypatch.setattr(execution, "computes_bfloat16", lambda: native)
    recipe, console = in_bfloat16.recipe, Console()
    prepare(find_data(birds, recipe.data, console), recipe, console)
    assert (EMULATED in " ".join(capfd.readouterr().err.split())) is not native
    setup = restore(RunFolder(in_bfloat16.path), Console())
    assert (EMULATED in " ".join(capfd.readouterr().err.split())) is not native
    assert setup.execution.precision == "bfloat16"  # the result stays what it would have been


def test_predictions_are_made_in_float32_there_and_agree_to_rounding(in_bfloat16, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 3, in_bfloat16.preprocess.size, in_bfloat16.preprocess.size), np.uint8)
    native, emulated = Run.load(in_bfloat16.path), Run.load(in_bfloat16.path)
    native.__dict__["execution"] = replace(native.execution, precision="bfloat16")
    monkeypatch.setattr(execution, "computes_bfloat16", lambda: False)
    assert emulated.execution.precision == "float32" and native.execution.precision == "bfloat16"
    (exact, _), (rounded, _) = emulated.session(pixels), native.session(pixels)
    assert not np.array_equal(exact, rounded) and np.abs(exact - rounded).max() < 0.05 * np.abs(exact).max()
