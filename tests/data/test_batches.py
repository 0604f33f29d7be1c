import numpy as np
import torch

from fieldmark.core.schema import Augment
from fieldmark.data.batches import TrainBatches
from fieldmark.data.geometry import Frame


def loader(**changes) -> TrainBatches:
    count = 23
    tiles = torch.randint(0, 256, (count, 3, 24, 24), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    values = {
        "size": 16,
        "batch": 5,
        "seed": 3,
        "mean": (0.4, 0.5, 0.6),
        "std": (0.2, 0.3, 0.25),
        "fill": False,
        "device": torch.device("cpu"),
    }
    frame = Frame.of("squash", np.full(count, 24), np.full(count, 24))
    return TrainBatches(tiles, np.arange(2, count), np.arange(count) % 4, frame, Augment(brightness=0.3), **{**values, **changes})


def test_an_epoch_holds_full_batches_of_different_pictures():
    batches = list(loader().epoch(0))
    assert [tuple(batch.images.shape) for batch in batches] == [(5, 3, 16, 16)] * 4
    assert all(batch.labels.dtype == torch.int64 for batch in batches)


def test_starting_in_the_middle_gives_the_same_batches():
    whole, rest = list(loader().epoch(2)), list(loader().epoch(2, first_step=2))
    assert len(rest) == 2
    assert all(torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) for a, b in zip(whole[2:], rest, strict=True))


def test_epochs_and_seeds_differ_and_repeat():
    def first(epoch, **changes):
        return next(iter(loader(**changes).epoch(epoch))).images

    assert torch.equal(first(0), first(0))
    assert not torch.equal(first(0), first(1))
    assert not torch.equal(first(0), first(0, seed=4))


def test_a_picture_is_augmented_alike_whatever_batch_it_is_in():
    batches = loader()
    alone, together = batches.make(np.array([7]), 1).images, batches.make(np.array([3, 7, 9]), 1).images
    assert torch.allclose(alone[0], together[1], atol=1e-5)


def test_normalisation_dtype_and_layout():
    plain = TrainBatches(
        torch.full((2, 3, 8, 8), 51, dtype=torch.uint8),
        np.arange(2),
        np.zeros(2, int),
        Frame.of("squash", np.full(2, 8), np.full(2, 8)),
        Augment(flip=0.0),
        size=8,
        batch=2,
        seed=0,
        mean=(0.1, 0.2, 0.3),
        std=(0.5, 0.5, 0.25),
        fill=False,
        device=torch.device("cpu"),
        dtype=torch.bfloat16,
        memory_format=torch.channels_last,
    )
    images = plain.make(np.arange(2), 0).images
    assert images.dtype == torch.bfloat16 and images.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(images[0, :, 0, 0].float(), torch.tensor([0.2, 0.0, -0.4]), atol=1e-2)


def test_fewer_pictures_than_a_batch_make_one_batch():
    small = loader(batch=100)
    assert small.steps_per_epoch == 1
    assert len(next(iter(small.epoch(0))).labels) == 21
