import numpy as np
import pytest
import torch

from fieldmark.batches import erasing, geometry, mixing, operations, photometric, policies, view_operations
from fieldmark.batches.geometry import Frame
from fieldmark.batches.train_batches import Batch, TrainBatches
from fieldmark.core.randomness import key, permutation, uniform
from fieldmark.core.recipe.augment import (
    Augment,
    AutoAugment,
    Cutmix,
    MixupOrCutmix,
    NoCrop,
    NoiseErasing,
    NoMixing,
    RandAugment,
    TrivialAugment,
)

EVERYTHING = Augment(
    brightness=0.3, lighting=0.1, rotate=10.0, policy=RandAugment(operations=3), erase=NoiseErasing(probability=0.5), mix=MixupOrCutmix()
)


def loader(augment: Augment | None = None, **changes) -> TrainBatches:
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
    return TrainBatches(
        tiles, np.arange(2, count), np.arange(count) % 4, frame, augment or Augment(brightness=0.3), **{**values, **changes}
    )


def test_an_epoch_holds_full_batches_of_different_images():
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


def test_an_image_is_augmented_alike_whatever_batch_it_is_in():
    for batches in (loader(), loader(EVERYTHING), loader(Augment(policy=TrivialAugment())), loader(Augment(policy=AutoAugment()))):
        alone, together = batches.make_view(np.array([7]), 1).images, batches.make_view(np.array([3, 7, 9]), 1).images
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


def test_fewer_images_than_a_batch_make_one_batch():
    small = loader(batch=100)
    assert small.steps_per_epoch == 1
    assert len(next(iter(small.epoch(0))).labels) == 21


def test_every_augmentation_starts_in_the_middle_and_repeats():
    whole, rest = list(loader(EVERYTHING).epoch(2)), list(loader(EVERYTHING).epoch(2, first_step=2))
    for a, b in zip(whole[2:], rest, strict=True):
        assert torch.equal(a.images, b.images) and torch.equal(a.shares, b.shares) and torch.equal(a.other_labels, b.other_labels)


def test_images_of_a_batch_differ_in_what_is_done_to_them():
    same = loader(EVERYTHING.model_copy(update={"crop": NoCrop(), "flip": 0.0, "rotate": 0.0, "brightness": 0.0, "lighting": 0.0}))
    same.tiles[:] = same.tiles[:1].clone()
    views = same.make_view(same.rows, 0).images
    assert len(views.flatten(1).unique(dim=0)) > 0.8 * len(views)
    assert (views != same.make_view(same.rows, 1).images).flatten(1).any(dim=1).float().mean() > 0.8


@pytest.mark.parametrize("lighting", [0.0, 0.1], ids=["operations in the background", "operations after jitter"])
def test_the_order_is_jitter_policy_normalise_erase_mix(lighting):
    """Against the parts, put together by hand."""
    augment = Augment(
        crop=NoCrop(), flip=0.0, lighting=lighting, policy=TrivialAugment(), erase=NoiseErasing(probability=0.5), mix=Cutmix()
    )
    batches = loader(augment, size=24, fill=True)
    rows, epoch = np.arange(2, 20), 4
    seen = batches.make(rows, epoch)
    drawn = policies.draw(augment.policy, 24, uniform(key(3, "policy", epoch), rows, policies.draws_of(augment.policy)))
    images = []
    for row, kind, strength in zip(rows, drawn.operations, drawn.strengths, strict=True):
        one = policies.Drawn(kind[None], strength[None])
        view = geometry.look(batches.tiles.numpy(), np.array([row]), policies.moved(np.eye(3)[None], one, 24), 24)
        if lighting:
            image = photometric.lighting(torch.from_numpy(view).float(), lighting, uniform(key(3, "lighting", epoch), np.array([row]), 3))
            images.append(operations.change_images(image, one))
        else:
            view_operations.change_views(view, one)
            images.append(torch.from_numpy(view).float())
    expected = torch.cat(images) / 255
    expected = (expected - torch.tensor([0.4, 0.5, 0.6]).view(3, 1, 1)) / torch.tensor([0.2, 0.3, 0.25]).view(3, 1, 1)
    stream = key(3, "erase", epoch)
    erasing.cover(expected, erasing.patches(augment.erase, 24, uniform(stream, rows, erasing.DRAWS), stream, rows))
    mixture = mixing.draw(augment.mix, 24, uniform(key(3, "mix", epoch), rows, mixing.DRAWS))
    expected = mixing.mix_images(expected, mixture)
    assert torch.allclose(seen.images, expected, atol=1e-4)
    assert torch.equal(seen.labels, torch.from_numpy(rows % 4)) and torch.equal(seen.other_labels, seen.labels.roll(-1))
    assert torch.equal(seen.shares, torch.from_numpy(mixture.shares))


def test_so_many_views_come_again_in_other_orders():
    batches = loader(EVERYTHING.model_copy(update={"mix": NoMixing()}), views=2)

    def shown(epoch: int) -> dict[int, torch.Tensor]:
        order = batches.rows[permutation(key(3, "order", epoch), len(batches.rows))]
        return dict(zip(order.tolist(), torch.cat([batch.images for batch in batches.epoch(epoch)]), strict=False))

    first, second, third = shown(0), shown(1), shown(2)
    assert list(first) != list(third)
    common = first.keys() & second.keys() & third.keys()
    assert all(torch.allclose(first[row], third[row], atol=1e-5) for row in common)
    assert not any(torch.equal(first[row], second[row]) for row in common)
    rows = np.array(sorted(common))
    assert torch.allclose(batches.make_view(rows, 0).images, torch.stack([first[row] for row in rows]), atol=1e-5)
    assert torch.equal(batches.make(rows, 3).images, batches.make_view(rows, 1).images)


def test_a_view_is_not_mixed():
    batches = loader(EVERYTHING)
    view, plain = batches.make_view(np.arange(3, 9), 1), loader(EVERYTHING.model_copy(update={"mix": NoMixing()})).make(np.arange(3, 9), 1)
    assert view.shares is None and view.other_labels is None and torch.equal(view.images, plain.images)


def test_what_is_not_drawn_costs_nothing(monkeypatch):
    for module in (policies, erasing, mixing):
        monkeypatch.setattr(module, "draw" if module is not erasing else "patches", None)
    monkeypatch.setattr(photometric, "lighting", None)
    monkeypatch.setattr(view_operations, "change_views", None)
    monkeypatch.setattr(operations, "change_images", None)
    assert len(list(loader(Augment(rotate=5.0, hue=0.1)).epoch(0))) == 4


@pytest.mark.parametrize(("count", "size", "expected"), [(9, 8, [5, 4]), (8, 3, [3, 3, 2]), (8, 8, [8]), (3, 1, [1, 1, 1]), (5, 9, [5])])
def test_a_batch_is_split_in_order_into_parts_alike_in_size(count, size, expected):
    labels = torch.arange(count)
    mixed = Batch(labels.float(), labels, labels.roll(-1), labels / count)
    parts = list(mixed.split(size))
    assert [len(part.labels) for part in parts] == expected
    for name in ("images", "labels", "other_labels", "shares"):
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(mixed, name))
    assert all(part.shares is None and part.other_labels is None for part in Batch(labels.float(), labels).split(size))
