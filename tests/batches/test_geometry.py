import math
import sys

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as tvf

from fieldmark.batches import geometry
from fieldmark.batches.geometry import Frame
from fieldmark.core.randomness import uniform
from fieldmark.core.recipe.augment import Augment, NoCrop, PaddedCrop, RandomResizedCrop, TrivialAugment


def smooth_tiles(count: int, side: int) -> torch.Tensor:
    """Low-frequency images, on which interpolation rules hardly differ."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, 3, 6, 6, generator=generator) * 255
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False).clamp(0, 255)


def resample(tiles: torch.Tensor, matrices: np.ndarray, size: int, fill: bool) -> torch.Tensor:
    if geometry.are_upright(matrices).all():
        return torch.from_numpy(geometry.look(tiles.byte().numpy(), np.arange(len(tiles)), matrices, size)).float()
    return geometry.resample(tiles.byte(), matrices, size, fill)


def draws(count: int, seed: int = 0) -> np.ndarray:
    return uniform(seed, np.arange(count), geometry.DRAWS)


def square(count: int) -> Frame:
    return Frame.of("squash", np.full(count, 100), np.full(count, 100))


def augment(**values) -> Augment:
    return Augment(**{"crop": NoCrop(), "flip": 0.0, **values})


def test_doing_nothing_changes_nothing():
    tiles = smooth_tiles(3, 48)
    seen = resample(tiles, geometry.random_matrices(augment(), square(3), draws(3)), 48, fill=False)
    assert torch.equal(seen, tiles.byte().float())


def test_flip_is_exact():
    tiles = smooth_tiles(8, 32)
    matrices = geometry.random_matrices(augment(flip=1.0), square(8), draws(8))
    assert torch.equal(resample(tiles, matrices, 32, fill=False), tiles.byte().float().flip(-1))
    flipped = geometry.random_matrices(augment(flip=0.5), square(4000), draws(4000))[:, 0, 0] < 0
    assert 0.46 < flipped.mean() < 0.54


def test_crops_agree_with_torchvision_on_the_same_box():
    tiles = smooth_tiles(4, 96)
    boxes = [(0, 0, 96, 96), (10, 5, 60, 80), (40, 30, 50, 40), (3, 50, 90, 45)]
    matrices = np.array(
        [[[w / 96, 0, (2 * left + w) / 96 - 1], [0, h / 96, (2 * top + h) / 96 - 1], [0, 0, 1]] for top, left, h, w in boxes]
    )
    seen = resample(tiles, matrices, 64, fill=False)
    for tile, ours, box in zip(tiles, seen, boxes, strict=True):
        theirs = tvf.resized_crop(tile, *box, size=[64, 64], antialias=True)
        assert (ours - theirs).abs().mean() < 0.6


def test_cutting_agrees_with_sampling():
    """The two ways of taking an upright crop: within two grey levels on average, shrinking and enlarging alike."""
    tiles = smooth_tiles(30, 96)
    matrices = geometry.random_matrices(augment(crop=RandomResizedCrop(area=(0.1, 1.0)), flip=0.5), square(30), draws(30))
    cut = resample(tiles, matrices, 48, fill=False)
    sampled = geometry.resample(tiles.byte(), matrices, 48, fill=False)
    assert not torch.equal(cut, sampled)
    assert (cut - sampled).abs().mean() < 2


def test_crops_stay_within_the_settings():
    crop = RandomResizedCrop(area=(0.3, 0.8), aspect=(0.8, 1.25))
    matrices = geometry.random_matrices(augment(crop=crop), square(2000), draws(2000))
    width, height = matrices[:, 0, 0], matrices[:, 1, 1]
    assert 0.3 <= (width * height).min() < 0.31 and 0.79 < (width * height).max() <= 0.8
    assert 0.8 <= (width / height).min() < 0.81 and 1.24 < (width / height).max() <= 1.25 + 1e-9


def test_crop_boxes_have_torchvisions_distribution():
    """Moments of area, aspect and position against 4,000 boxes of torchvision, on a wide image."""
    widths, heights = np.full(4000, 300), np.full(4000, 200)
    frame = Frame.of("shorter-side", widths, heights)
    crop = RandomResizedCrop(area=(0.08, 1.0), aspect=(0.75, 4 / 3))
    matrices = geometry.random_matrices(augment(crop=crop), frame, draws(4000))
    width, height = matrices[:, 0, 0] * 300, matrices[:, 1, 1] * 200
    left = (matrices[:, 0, 2] + 1) * 150 - width / 2
    top = (matrices[:, 1, 2] + 1) * 100 - height / 2
    torch.manual_seed(0)
    theirs = np.array(
        [
            v2.RandomResizedCrop.make_params(v2.RandomResizedCrop(10, crop.area, crop.aspect), [torch.empty(3, 200, 300)])
            for _ in range(4000)
        ]
    )
    boxes = np.array([[box["top"], box["left"], box["height"], box["width"]] for box in theirs])
    for ours, reference in zip((top, left, height, width), boxes.T, strict=True):
        assert abs(ours.mean() - reference.mean()) < 4 * reference.std() / math.sqrt(4000) * math.sqrt(2) + 0.5
        assert abs(ours.std() - reference.std()) < 0.06 * reference.std() + 0.5
    assert left.min() > -1e-6 and (left + width).max() < 300 + 1e-6 and top.min() > -1e-6 and (top + height).max() < 200 + 1e-6


@pytest.mark.parametrize(
    ("values", "parameters"),
    [
        ({"rotate": 30.0}, lambda d: {"angle": (d[0] * 2 - 1) * 30}),
        ({"zoom": (0.5, 2.0)}, lambda d: {"scale": math.exp(math.log(0.5) + math.log(4) * d[1])}),
        ({"shear": 20.0}, lambda d: {"shear": [(d[2] * 2 - 1) * 20, 0.0]}),
        ({"translate": 0.25}, lambda d: {"translate": [(d[3] * 2 - 1) * 16, (d[4] * 2 - 1) * 16]}),
        (
            {"rotate": 30.0, "zoom": (0.5, 2.0), "shear": 20.0, "translate": 0.25},
            lambda d: {
                "angle": (d[0] * 2 - 1) * 30,
                "scale": math.exp(math.log(0.5) + math.log(4) * d[1]),
                "shear": [(d[2] * 2 - 1) * 20, 0.0],
                "translate": [(d[3] * 2 - 1) * 16, (d[4] * 2 - 1) * 16],
            },
        ),
    ],
)
def test_affine_changes_agree_with_torchvision(values, parameters):
    """Same parameters, same image: 94 % of pixels within 2 grey levels (theirs blends the image's border with the fill)."""
    count, side = 6, 64
    tiles, drawn = smooth_tiles(count, side), draws(count)
    matrices = geometry.random_matrices(augment(**values), square(count), drawn)
    taken = geometry._sample(tiles, matrices, side, True)
    for tile, ours, row in zip(tiles, taken, drawn[:, 4 * geometry._TRIES + 1 :], strict=True):
        settings_ = {"angle": 0.0, "translate": [0.0, 0.0], "scale": 1.0, "shear": [0.0, 0.0]} | parameters(row)
        theirs = tvf.affine(tile, **settings_, interpolation=InterpolationMode.BILINEAR, fill=[geometry.OUTSIDE] * 3)
        assert torch.quantile((ours - theirs).abs(), 0.94) < 2


def test_perspective_agrees_with_torchvision():
    side, distortion = 64, 0.5
    tiles, drawn = smooth_tiles(5, side), draws(5)
    matrices = geometry.random_matrices(augment(perspective=distortion), square(5), drawn)
    taken = geometry._sample(tiles, matrices, side, True)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    for tile, ours, row in zip(tiles, taken, drawn[:, 4 * geometry._TRIES + 6 :], strict=True):
        moved = corners * (1 - row[:8].reshape(4, 2) * distortion)
        pixels = lambda points: ((points + 1) / 2 * side).tolist()  # noqa: E731
        theirs = tvf.perspective(
            tile, pixels(corners), pixels(moved), interpolation=InterpolationMode.BILINEAR, fill=[geometry.OUTSIDE] * 3
        )
        assert (ours - theirs).abs().mean() < 3


@pytest.mark.parametrize("resize", ["squash", "shorter-side", "letterbox"])
def test_the_view_without_augmentation_is_the_evaluation_view(resize):
    """A tile seen through the plain view equals what evaluation makes of the same wide image."""
    from PIL import Image

    from fieldmark.runtime.preprocess import Preprocess

    wide = Image.fromarray(tvf.resize(smooth_tiles(1, 96)[0].byte(), [80, 160]).permute(1, 2, 0).numpy())
    from io import BytesIO

    buffer = BytesIO()
    wide.save(buffer, "PNG")
    evaluation = Preprocess(64, resize, (0, 0, 0), (1, 1, 1)).pixels(buffer.getvalue())
    tile = Preprocess(96, "squash", (0, 0, 0), (1, 1, 1)).pixels(buffer.getvalue())
    frame = Frame.of(resize, np.array([160]), np.array([80]))
    seen = resample(torch.from_numpy(tile.copy())[None].float(), geometry.view_matrices(frame), 64, fill=True)[0]
    difference = np.abs(seen.numpy() - evaluation)
    assert np.median(difference) < 2 and difference.mean() < 4


def test_shrinking_does_not_alias():
    """Stripes of one pixel shrunk threefold become grey, as an antialiased resize makes them, and not wide stripes."""
    stripes = (torch.arange(96) % 2 * 255.0).expand(1, 3, 96, 96).contiguous()
    seen = geometry.resample(stripes.byte(), np.eye(3)[None], 32, fill=False)
    plain = geometry._sample(stripes, np.eye(3)[None], 32, False)
    assert (plain - 127.5).abs().min() > 100
    assert (seen - 127.5).abs().max() < 50


@pytest.mark.parametrize("count", range(2, 9))
def test_a_rook_pattern_uses_each_row_and_column_once(count):
    pattern = geometry._rook_pattern(count)
    assert len({x for x, _ in pattern}) == len({y for _, y in pattern}) == count
    assert abs(sum(x for x, _ in pattern)) < 1e-9 and abs(sum(y for _, y in pattern)) < 1e-9


def test_outside_the_image_is_grey():
    tiles = torch.zeros(1, 3, 32, 32)
    matrices = geometry.random_matrices(augment(zoom=(0.5, 0.5)), square(1), draws(1))
    seen = resample(tiles, matrices, 32, fill=True)
    assert seen[0, 0, 0, 0] == geometry.OUTSIDE and seen[0, 0, 16, 16] == 0


def test_leaves_image_says_when_grey_can_show():
    assert not geometry.leaves_image(Augment(), "squash")
    assert geometry.leaves_image(Augment(), "letterbox")
    for values in (
        {"rotate": 5.0},
        {"zoom": (0.9, 1.0)},
        {"translate": 0.1},
        {"shear": 3.0},
        {"perspective": 0.2},
        {"crop": PaddedCrop()},
        {"policy": TrivialAugment()},
    ):
        assert geometry.leaves_image(Augment(**values), "squash")


def test_a_padded_crop_shifts_by_at_most_its_padding():
    shifts = geometry.random_matrices(augment(crop=PaddedCrop(padding=0.125)), square(2000), draws(2000))[:, :2, 2]
    assert np.abs(shifts).max() <= 0.25 and np.abs(shifts).max() > 0.24


MOVES = {
    "rotate": {"rotate": 40.0},
    "zoomed out": {"zoom": (0.5, 0.9)},
    "zoomed in": {"zoom": (1.1, 2.0)},
    "shift": {"translate": 0.4},
    "padded": {"crop": PaddedCrop(padding=0.25)},
    "shear": {"shear": 30.0},
    "perspective": {"perspective": 0.6},
    "all": {
        "crop": RandomResizedCrop(area=(0.2, 1.0)),
        "rotate": 30.0,
        "zoom": (0.7, 1.4),
        "translate": 0.2,
        "shear": 20.0,
        "perspective": 0.2,
        "flip": 0.5,
    },
}


@pytest.mark.parametrize("side", [48, 96, 150])
@pytest.mark.parametrize("values", MOVES.values(), ids=MOVES)
def test_looking_agrees_with_sampling_whatever_is_done(values, side):
    """Enlarging and shrinking: within three grey levels on average; the edges of upright boxes are moved to whole pixels."""
    tiles, size, count = smooth_tiles(20, side), 48, 20
    matrices = geometry.random_matrices(augment(**values), square(count), draws(count))
    looked = geometry.look(tiles.byte().numpy(), np.arange(count), matrices, size)
    sampled = geometry.resample(tiles.byte(), matrices, size, fill=True)
    assert (torch.from_numpy(looked).float() - sampled).abs().mean() < 3
    assert ((looked == geometry.OUTSIDE).mean() - (sampled == geometry.OUTSIDE).float().mean()).abs() < 0.05


def test_views_beyond_the_image_are_grey():
    tiles = smooth_tiles(3, 32).byte().numpy()
    away = np.tile(np.eye(3), (3, 1, 1))
    away[0, 0, 2], away[1, 1, 2], away[2, :2, 2], away[2, 0, 1] = 2.5, -2.0, 9.0, 0.5
    assert (geometry.look(tiles, np.arange(3), away, 16) == geometry.OUTSIDE).all()


def test_a_view_that_perspective_folds_over_sees_the_whole_tile():
    """Corners behind the eye bound nothing: what is sampled must not be cut off by them."""
    tiles = smooth_tiles(1, 64)
    folded = np.array([[[0.5, 0.0, 0.0], [0.0, 0.5, 0.0], [0.9, 0.4, 1.0]]])
    looked = torch.from_numpy(geometry.look(tiles.byte().numpy(), np.arange(1), folded, 48)).float()
    sampled = geometry._sample(tiles.byte().float(), folded, 48, True)
    assert (
        ((looked == geometry.OUTSIDE) != (sampled == geometry.OUTSIDE)).float().mean() < 0.03 < (sampled != geometry.OUTSIDE).float().mean()
    )


def test_whole_pixels_of_a_shift_are_copied():
    tiles = smooth_tiles(1, 32)
    matrix = np.eye(3)[None].copy()
    matrix[0, :2, 2] = -2 * 5 / 32, 2 * 3 / 32
    for flip in (1, -1):
        matrix[0, 0, 0] = flip
        expected = torch.full((3, 32, 32), geometry.OUTSIDE).byte()
        expected[:, :29, 5:] = tiles.byte()[0, :, 3:, :27]
        seen = geometry.look(tiles.byte().numpy(), np.arange(1), matrix, 32)[0]
        assert np.array_equal(seen, expected.numpy()[..., ::flip])


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts threads in /proc")
def test_looking_starts_no_threads(threads_started):
    """Views are taken in a background thread: operators that start threads there fight with the model's for the cores."""
    tiles = smooth_tiles(8, 256).byte().permute(0, 2, 3, 1).contiguous().numpy().transpose(0, 3, 1, 2)

    def work() -> None:
        for values in ({"flip": 0.0}, {"flip": 1.0}, {"rotate": 30.0}, {"zoom": (0.8, 0.8)}, {"rotate": 30.0, "zoom": (0.6, 0.6)}):
            matrices = geometry.random_matrices(augment(**values), square(8), draws(8))
            geometry.look(tiles, np.arange(8), matrices, 224)

    assert not threads_started(work)
