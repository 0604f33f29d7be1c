"""Operations against torchvision's on uint8: equal, or where rounding errors come in, to one level and in 97 % of the values equal.

Blends of whole levels are whole numbers where the strength is a short fraction. Which of them torchvision cuts off to the level below is
decided by rounding errors; such values are not among the 97 %.
"""

import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms.v2 import functional as tvf

from fieldmark.batches import operations, policies, view_operations
from fieldmark.batches.policies import Drawn, Operation
from fieldmark.core.recipe.augment import AutoAugment, RandAugment, TrivialAugment

SIZE = 24
THEIRS = {
    Operation.BRIGHTNESS: lambda image, strength: tvf.adjust_brightness(image, 1 + strength),
    Operation.COLOR: lambda image, strength: tvf.adjust_saturation(image, 1 + strength),
    Operation.CONTRAST: lambda image, strength: tvf.adjust_contrast(image, 1 + strength),
    Operation.SHARPNESS: lambda image, strength: tvf.adjust_sharpness(image, 1 + strength),
    Operation.POSTERIZE: lambda image, strength: tvf.posterize(image, int(strength)),
    Operation.SOLARIZE: lambda image, strength: tvf.solarize(image, 255.0 * strength),
    Operation.AUTO_CONTRAST: lambda image, strength: tvf.autocontrast(image),
    Operation.EQUALIZE: lambda image, strength: tvf.equalize(image),
    Operation.INVERT: lambda image, strength: tvf.invert(image),
}
EXACT = {Operation.POSTERIZE, Operation.SOLARIZE, Operation.EQUALIZE, Operation.INVERT, Operation.BRIGHTNESS, Operation.AUTO_CONTRAST}


def images() -> torch.Tensor:
    """Noise, constants, two levels, a narrow range, a gradient, one flat colour, and sparse highlights."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, (4, 3, SIZE, SIZE), generator=generator)
    constant = torch.tensor([0, 1, 127, 254, 255]).view(-1, 1, 1, 1).expand(-1, 3, SIZE, SIZE)
    two = torch.randint(0, 2, (2, 3, SIZE, SIZE), generator=generator) * torch.tensor([255, 1]).view(-1, 1, 1, 1)
    narrow = torch.randint(100, 110, (2, 3, SIZE, SIZE), generator=generator)
    gradient = torch.arange(SIZE * SIZE).view(1, 1, SIZE, SIZE).expand(1, 3, -1, -1) * 255 // (SIZE * SIZE - 1)
    flat = noise[:1].clone()
    flat[:, 1] = 90
    sparse = (noise[1:2] > 250) * 200
    return torch.cat([noise, constant, two, narrow, gradient, flat, sparse]).byte()


def ranges(operation: Operation) -> np.ndarray:
    """Every strength that any policy draws, both signs."""
    tables = policies._wide_strengths(), policies._milder_strengths(SIZE, 31), policies._milder_strengths(SIZE, 10)
    found = np.unique(np.concatenate([table[operation] for table in tables]))
    return np.unique(np.concatenate([-found, found])) if operation <= policies._LAST_SIGNED else found


def changed_views(tensor: torch.Tensor, drawn: Drawn) -> torch.Tensor:
    views = tensor.permute(0, 2, 3, 1).contiguous().numpy().copy().transpose(0, 3, 1, 2)
    view_operations.change_views(views, drawn)
    return torch.from_numpy(views)


def the_same(operation: Operation, strength: float, count: int) -> Drawn:
    return Drawn(np.full((count, 1), operation), np.full((count, 1), strength))


def agrees(operation: Operation, ours: torch.Tensor, theirs: torch.Tensor, undecided: torch.Tensor | bool = False) -> bool:
    difference = (ours.int() - theirs.int()).abs()
    if operation in EXACT:
        return not difference.any()
    return bool(difference.max() <= 1 and ((difference > 0) & ~torch.as_tensor(undecided)).float().mean() < 0.03)


def whole_numbers(operation: Operation, image: torch.Tensor, strength: float) -> torch.Tensor:
    """Where a blend with what is left at a strength of -1 is a whole number but for rounding errors."""
    blend = image.double() * (1 + strength) - THEIRS[operation](image, 0.0 - 1).double() * strength
    return (blend - blend.round()).abs() < 1e-3


@pytest.mark.parametrize("operation", THEIRS, ids=lambda operation: operation.name.lower())
def test_operations_agree_with_torchvision_at_every_strength(operation):
    """In OpenCV image by image, and in torch as a batch."""
    given_ = images()
    for strength in ranges(operation):
        theirs = torch.stack([THEIRS[operation](image, float(strength)) for image in given_])
        drawn = the_same(operation, strength, len(given_))
        undecided = operation == Operation.COLOR and torch.stack([whole_numbers(operation, image, strength) for image in given_])
        assert agrees(operation, changed_views(given_, drawn), theirs, undecided), strength
        assert agrees(operation, operations.change_images(given_.float(), drawn), theirs), strength


@given(st.integers(0, 2**31), st.sampled_from(list(THEIRS)), st.floats(-0.99, 0.99), st.integers(3, 40), st.integers(3, 40))
@settings(max_examples=150, deadline=None)
def test_operations_agree_with_torchvision_on_any_image(seed, operation, strength, height, width):
    if operation > policies._LAST_SIGNED:
        strength = abs(strength)
    if operation == Operation.POSTERIZE:
        strength = 2.0 + int(6 * strength)
    strength = float(np.float32(strength))
    generator = np.random.default_rng(seed)
    low, high = sorted(generator.integers(0, 256, 2).tolist())
    image = torch.from_numpy(generator.integers(low, high + 1, (1, 3, height, width)).astype(np.uint8))
    ours, theirs = changed_views(image, the_same(operation, strength, 1)), THEIRS[operation](image, strength)
    assert (ours.int() - theirs.int()).abs().max() <= (operation not in EXACT)


@pytest.mark.parametrize(
    "policy", [TrivialAugment(), RandAugment(operations=4, magnitude=20), AutoAugment()], ids=lambda policy: policy.name
)
def test_chains_are_alike_in_opencv_and_torch_and_in_torchvision(policy):
    """Each image of a batch gets its own operations, in order."""
    noise = torch.randint(0, 256, (200, 3, SIZE, SIZE), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    drawn = policies.draw(policy, SIZE, np.random.default_rng(0).random((200, policies.draws_of(policy))))
    in_opencv, in_torch = changed_views(noise, drawn), operations.change_images(noise.float(), drawn)
    for image, ours, kinds, strengths in zip(noise, in_opencv, drawn.operations.tolist(), drawn.strengths.tolist(), strict=True):
        for kind, strength in zip(kinds, strengths, strict=True):
            if kind in THEIRS:
                image = THEIRS[kind](image, strength)
        # A contrast, an equalisation or a bit less after a difference of one level makes more of it.
        assert ((ours.int() - image.int()).abs() > 2).float().mean() < 0.05
    assert ((in_torch - in_opencv).abs() > 2).float().mean() < 0.005
    assert in_torch.min() >= 0 and in_torch.max() <= 255 and torch.equal(in_torch, in_torch.round())


def test_images_without_operations_are_left_alone():
    given_ = images()
    idle = the_same(Operation.ROTATE, 20.0, len(given_))
    assert torch.equal(changed_views(given_, idle), given_)
    assert torch.equal(operations.change_images(given_.float(), idle), given_.float())


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_changing_views_starts_no_threads(threads_started):
    views = torch.randint(0, 256, (16, 224, 224, 3), dtype=torch.uint8).numpy().transpose(0, 3, 1, 2)
    kinds = np.array([*THEIRS, *THEIRS][:16])[:, None]
    drawn = Drawn(kinds, np.where(kinds == Operation.POSTERIZE, 4, 0.5))
    assert not threads_started(lambda: view_operations.change_views(views, drawn))
