"""Gradients accumulated over small parts of a batch are those of the batch."""

import pytest

import fieldmark
from fieldmark.core.errors import InputError
from fieldmark.core.recipe import load_recipe
from fieldmark.core.run_folder import read_json_lines


@pytest.mark.parametrize("micro_batch", [1, 3, 4])
@pytest.mark.parametrize("mixing", ["none", "either"])
def test_a_run_in_parts_is_the_run_in_whole_batches(micro_batch, mixing, birds, tiny, tmp_path):
    """With layer norms: batch norms see the part alone, and so differ by intention."""
    settings = tiny("model.name=test_convnext", "train.log_every=1", f"augment.mix={mixing}", "loss.smoothing_over=others")
    whole = fieldmark.train(birds, *settings, out=tmp_path / "whole", quiet=True)
    parts = fieldmark.train(birds, *settings, f"train.micro_batch={micro_batch}", out=tmp_path / "parts", quiet=True)
    losses = [[row["loss"] for row in read_json_lines(run.folder.steps_file)] for run in (whole, parts)]
    assert len(losses[0]) == 10 and losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert losses[1] != losses[0]


def test_a_part_as_large_as_the_batch_is_refused():
    with pytest.raises(InputError, match=r"train\.micro_batch \(32\) has no effect beside train\.batch \(32\)"):
        load_recipe("default", ["train.micro_batch=32"])
