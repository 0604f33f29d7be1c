"""Policies against torchvision's classes: what they draw, how often, and what comes of it."""

import numpy as np
import pytest
import scipy.stats
import torch
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as tvf

from fieldmark.batches import geometry, policies, view_operations
from fieldmark.batches.geometry import OUTSIDE, Frame
from fieldmark.batches.policies import Drawn, Operation
from fieldmark.core.randomness import uniform
from fieldmark.core.recipe.augment import Augment, AutoAugment, NoCrop, RandAugment, TrivialAugment

SIZE = 64
GREY = [OUTSIDE] * 3
NAMES = {operation.name.replace("_", "").lower(): operation for operation in Operation}
PAIRS = [
    (TrivialAugment(), v2.TrivialAugmentWide),
    (RandAugment(), v2.RandAugment),
    (RandAugment(operations=3, magnitude=22), lambda **how: v2.RandAugment(3, 22, **how)),
    (AutoAugment(), v2.AutoAugment),
]


def drawn_by_us(policy, count: int, size: int = SIZE, seed: int = 0) -> Drawn:
    return policies.draw(policy, size, uniform(seed, np.arange(count), policies.draws_of(policy)))


def drawn_by_torchvision(kind, count: int, size: int = SIZE) -> list[tuple[tuple[Operation, float], ...]]:
    """The operations and strengths of so many images, recorded in place of being applied."""
    transform, found = kind(), []

    def record(image, name, magnitude, **_):
        found[-1].append((NAMES[name.lower()], magnitude))
        return image

    transform._apply_image_or_video_transform = record
    torch.manual_seed(0)
    for _ in range(count):
        found.append([])
        transform(torch.empty(3, size, size, dtype=torch.uint8))
    return [tuple(each) for each in found]


def table(rows) -> dict[tuple[int, float], int]:
    """How often each operation came with each strength; what does nothing is left out, since AutoAugment has no such operation."""
    counts: dict[tuple[int, float], int] = {}
    for row in rows:
        for operation, strength in row:
            if operation != Operation.IDENTITY:
                place = (int(operation), round(float(strength), 6) + 0.0)
                counts[place] = counts.get(place, 0) + 1
    return counts


def as_rows(drawn: Drawn):
    return [list(zip(*row, strict=True)) for row in zip(drawn.operations.tolist(), drawn.strengths.tolist(), strict=True)]


@pytest.mark.parametrize(("policy", "kind"), PAIRS, ids=lambda each: getattr(each, "name", ""))
def test_operations_and_strengths_are_drawn_as_often_as_by_torchvision(policy, kind):
    """The same set of (operation, strength, sign), and the same frequencies by a chi-square test."""
    ours, theirs = table(as_rows(drawn_by_us(policy, 20_000))), table(drawn_by_torchvision(kind, 3_000))
    # Every strength that we draw is one of theirs; with fewer draws, theirs may lack a few of ours.
    assert set(theirs) <= set(ours)
    places = [place for place in ours if ours[place] > 250]
    assert scipy.stats.chi2_contingency([[ours[place] for place in places], [theirs.get(place, 0) for place in places]]).pvalue > 1e-4
    by_operation = [
        [sum(count for (kind_, _), count in counts.items() if kind_ == operation) for operation in {kind_ for kind_, _ in ours}]
        for counts in (ours, theirs)
    ]
    assert scipy.stats.chi2_contingency(by_operation).pvalue > 1e-4


@pytest.mark.parametrize("size", [32, 112, 160, 224])
@pytest.mark.parametrize(
    ("strengths", "bins", "kind"),
    [
        (lambda size, bins: policies._wide_strengths(), 31, v2.TrivialAugmentWide),
        (policies._milder_strengths, 31, v2.RandAugment),
        (policies._milder_strengths, 10, v2.AutoAugment),
    ],
)
def test_strengths_equal_torchvisions(size, strengths, bins, kind):
    ours = strengths(size, bins)
    for name, (magnitudes, signed) in kind._AUGMENTATION_SPACE.items():
        theirs = magnitudes(bins, size, size)
        operation = NAMES[name.lower()]
        assert (operation <= policies._LAST_SIGNED and operation != Operation.IDENTITY) == signed
        assert np.array_equal(ours[operation], np.zeros(bins) if theirs is None else theirs.double().numpy())


def test_autoaugments_pairs_equal_torchvisions():
    kinds, probabilities, strengths = policies._auto_tables(SIZE)
    by_bin = policies._milder_strengths(SIZE, 10)
    theirs = v2.AutoAugment()._policies
    assert len(theirs) == len(kinds)
    for row, pair in enumerate(theirs):
        for column, (name, probability, bin_) in enumerate(pair):
            assert kinds[row, column] == NAMES[name.lower()] and probabilities[row, column] == probability
            assert bin_ is None or strengths[row, column] == by_bin[kinds[row, column], bin_]


def smooth(count: int, side: int) -> torch.Tensor:
    coarse = torch.rand(count, 3, 6, 6, generator=torch.Generator().manual_seed(0)) * 255
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False).clamp(0, 255).byte()


def identity(count: int) -> np.ndarray:
    return np.tile(np.eye(3), (count, 1, 1))


def seen_by_cpu(tiles: torch.Tensor, matrices: np.ndarray) -> torch.Tensor:
    interleaved = tiles.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    return torch.from_numpy(geometry.look(interleaved.numpy(), np.arange(len(tiles)), matrices, SIZE))


@pytest.mark.parametrize(
    ("operation", "strengths"),
    [
        (Operation.SHEAR_X, [-0.99, -0.3, 0.0, 0.1, 0.66, 0.99]),
        (Operation.SHEAR_Y, [-0.99, -0.3, 0.0, 0.1, 0.66, 0.99]),
        (Operation.TRANSLATE_X, [-32.0, -7.9, 0.0, 1.07, 14.9, 32.0]),
        (Operation.TRANSLATE_Y, [-32.0, -7.9, 0.0, 1.07, 14.9, 32.0]),
        (Operation.ROTATE, [-135.0, -30.0, 0.0, 4.5, 90.0, 120.0]),
    ],
    ids=lambda each: each.name.lower() if isinstance(each, Operation) else "",
)
def test_moves_agree_with_torchvision(operation, strengths):
    """Within one grey level, on images without fine detail; shifts exactly."""
    tiles = smooth(len(strengths), SIZE)
    drawn = Drawn(np.full((len(strengths), 1), operation), np.array(strengths)[:, None])
    ours = seen_by_cpu(tiles, policies.moved(identity(len(strengths)), drawn, SIZE))
    name = next(name for name in v2.TrivialAugmentWide._AUGMENTATION_SPACE if NAMES[name.lower()] == operation)
    transform = v2.TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR, fill=GREY)
    for tile, view, strength in zip(tiles, ours, strengths, strict=True):
        theirs = transform._apply_image_or_video_transform(tile, name, strength, transform.interpolation, transform._fill)
        within = transform._apply_image_or_video_transform(
            torch.ones(tile.shape), name, strength, transform.interpolation, {torch.Tensor: [0.0] * 3}
        )
        # At the border torchvision weighs the fill twice, with the image and against it.
        difference = (view.int() - theirs.int()).abs()[(within == 0) | (within > 0.9999)]
        assert difference.max() <= (0 if operation in (Operation.TRANSLATE_X, Operation.TRANSLATE_Y) else 1), strength


def test_moves_follow_one_another():
    """A shear, then a turn: two resamplings of torchvision's, one of ours; on smooth images alike but for what left the view between."""
    tiles = smooth(4, SIZE)
    kinds, strengths = np.tile([Operation.SHEAR_X, Operation.ROTATE], (4, 1)), np.tile([0.2, 20.0], (4, 1))
    ours = seen_by_cpu(tiles, policies.moved(identity(4), Drawn(kinds, strengths), SIZE))
    bilinear = {"interpolation": InterpolationMode.BILINEAR, "fill": GREY}
    sheared = tvf.affine(tiles, 0.0, [0, 0], 1.0, [float(np.degrees(np.arctan(0.2))), 0.0], center=[0, 0], **bilinear)
    theirs = tvf.rotate(sheared, 20.0, **bilinear)
    middle = (..., slice(16, 48), slice(16, 48))
    assert (ours[middle].int() - theirs[middle].int()).abs().max() <= 3


@pytest.mark.parametrize(("policy", "kind"), PAIRS[:1] + PAIRS[3:], ids=lambda each: getattr(each, "name", ""))
def test_images_come_out_with_torchvisions_distribution(policy, kind):
    """Mean and standard deviation of an image, over many draws, by a two-sample Kolmogorov-Smirnov test."""
    count = 600
    image = smooth(3, SIZE)[2:]
    drawn = drawn_by_us(policy, count, seed=5)
    matrices = policies.moved(geometry.random_matrices(Augment(crop=NoCrop(), flip=0.0), frame(count), draws(count)), drawn, SIZE)
    views = seen_by_cpu(image.expand(count, -1, -1, -1), matrices).numpy()
    interleaved = np.ascontiguousarray(views.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    view_operations.change_views(interleaved, drawn)
    transform = kind(interpolation=InterpolationMode.BILINEAR, fill=GREY)
    torch.manual_seed(1)
    theirs = torch.stack([transform(image[0]) for _ in range(count)]).numpy()
    for statistic in (np.mean, np.std):
        of_ours, of_theirs = (np.round(statistic(each.astype(float), axis=(1, 2, 3)), 1) for each in (interleaved, theirs))
        assert scipy.stats.ks_2samp(of_ours, of_theirs).pvalue > 1e-3


def frame(count: int) -> Frame:
    return Frame.of("squash", np.full(count, 100), np.full(count, 100))


def draws(count: int) -> np.ndarray:
    return uniform(1, np.arange(count), geometry.DRAWS)


def test_views_of_a_policy_have_operations_of_their_own():
    drawn = drawn_by_us(TrivialAugment(), 2000)
    assert len({*zip(drawn.operations[:, 0].tolist(), drawn.strengths[:, 0].tolist(), strict=True)}) > 400
    several = drawn_by_us(RandAugment(operations=2), 5000)
    assert 0.05 < (several.operations[:, 0] == several.operations[:, 1]).mean() < 0.1  # 1 in 14: independent of one another


def test_matrices_stay_as_they_are_where_nothing_moves():
    matrices = np.random.default_rng(0).random((5, 3, 3))
    drawn = Drawn(np.full((5, 2), Operation.EQUALIZE), np.zeros((5, 2)))
    assert policies.moved(matrices, drawn, SIZE) is matrices
