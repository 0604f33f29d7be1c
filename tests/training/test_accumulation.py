"""Gradients accumulated over small parts of a batch are those of the batch."""

import pytest
import torch

from fieldmark.batches.train_batches import Batch
from fieldmark.core.errors import InputError
from fieldmark.core.recipe.load import load_recipe
from fieldmark.core.run_folder import RunFolder, read_json_lines
from runs import train


@pytest.mark.parametrize("mixing", ["none", "either"])
def test_a_run_in_parts_is_the_run_in_whole_batches(mixing, birds, tiny, tmp_path, monkeypatch):
    """With layer norms: batch norms see the part alone, and so differ by intention."""
    sizes = set()
    original = Batch.split

    def noted(self, size):
        for part in original(self, size):
            sizes.add(len(part.labels))
            yield part

    monkeypatch.setattr(Batch, "split", noted)
    settings = tiny("model.name=test_convnext", "train.log_every=1", f"augment.mix={mixing}", "loss.smoothing_over=others")

    def losses(name, *changed):
        run = train(birds, *settings, *changed, out=tmp_path / name)
        return [row["loss"] for row in read_json_lines(run.folder.steps_file)]

    expected = losses("whole")
    assert len(expected) == 10
    for micro_batch, parts in ((1, {1}), (3, {2, 3}), (4, {4})):
        sizes.clear()
        assert losses(f"parts of {micro_batch}", f"train.micro_batch={micro_batch}") == pytest.approx(expected, rel=1e-3)
        assert sizes == parts


def test_a_batch_norm_that_sees_one_value_is_an_error_that_says_so(birds, tiny, tmp_path):
    with pytest.raises(InputError, match=r"train\.batch: a batch norm saw a single value"):
        train(birds, *tiny("train.micro_batch=1"), out=tmp_path / "run")
    assert RunFolder(tmp_path / "run").manifest().status == "failed"


def test_images_that_are_mixed_count_by_their_shares(birds, tiny, tmp_path):
    """One epoch at a vanishing rate: what is told rightly is then known from the network that it began with."""
    still = ("augment.crop=none", "augment.flip=0", "optim.lr=1e-12", "train.epochs=1", "schedule=constant", "schedule.warmup_epochs=0")
    settings = tiny("model.name=test_convnext", *still, "augment.mix=cutmix", "train.batch=43")
    run = train(birds, *settings, out=tmp_path / "run")
    (row,) = read_json_lines(run.folder.metrics_file)
    seen = []
    original = Batch.split

    def keep(self, size):
        seen.append(self)
        return original(self, size)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Batch, "split", keep)
        again = train(birds, *settings, out=tmp_path / "again")
    (batch,) = seen
    with torch.no_grad():
        said = again.model(batch.images).argmax(dim=1)
    expected = (batch.shares * (said == batch.labels) + (1 - batch.shares) * (said == batch.other_labels)).mean()
    assert row["train_top1"] == pytest.approx(100 * expected.item(), abs=1e-3) and 0 < row["train_top1"] < 100


def test_a_part_as_large_as_the_batch_is_refused():
    with pytest.raises(InputError, match=r"train\.micro_batch \(32\) has no effect unless it is smaller than train\.batch \(32\)"):
        load_recipe("default", ["train.micro_batch=32"])
