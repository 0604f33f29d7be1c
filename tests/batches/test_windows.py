from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.batches.geometry import DRAWS, Frame, random_matrices, view_matrices
from fieldmark.batches.windows import windows
from fieldmark.core.recipe.augment import Augment, NoCrop
from fieldmark.core.recipe.data import BoxCrop, WholeImage
from fieldmark.datasets.regions import seen_regions, tile_margin_of

WIDTH, HEIGHT = 300, 200
STILL = Augment(crop=NoCrop(), flip=0.0)
BOX = st.tuples(*[st.floats(0, 1)] * 4).map(
    lambda corners: [
        min(corners[0], corners[1]) * (WIDTH - 2),
        min(corners[2], corners[3]) * (HEIGHT - 2),
        max(corners[0], corners[1]) * (WIDTH - 2) + 2,
        max(corners[2], corners[3]) * (HEIGHT - 2) + 2,
    ]
)


@given(BOX, st.floats(0, 0.5), st.floats(0.01, 0.5), st.sampled_from(["squash", "shorter-side", "letterbox"]))
def test_a_tile_with_jitter_still_shows_the_box_in_evaluation(box, margin, jitter, resize):
    """The evaluation view through the larger tile looks at the same pixels as the crop alone."""
    crop = BoxCrop(margin=margin, jitter=jitter)
    sides = np.array([WIDTH]), np.array([HEIGHT])
    seen = seen_regions(np.array([box], np.float32), *sides, margin)
    tile = seen_regions(np.array([box], np.float32), *sides, tile_margin_of(crop))
    width, height = seen[0, 2:] - seen[0, :2]
    direct = view_matrices(Frame.of(resize, [width], [height]))[0]
    through = view_matrices(Frame.of(resize, [width], [height], windows(tile, seen, crop)))[0]
    for corner in ([-1, -1, 1], [1, -1, 1], [0.3, 0.7, 1]):
        in_crop, in_tile = (direct @ corner)[:2], (through @ corner)[:2]
        from_crop = seen[0, :2] + (in_crop + 1) / 2 * [width, height]
        from_tile = tile[0, :2] + (in_tile + 1) / 2 * (tile[0, 2:] - tile[0, :2])
        np.testing.assert_allclose(from_tile, from_crop, atol=1e-3)


def test_jitter_moves_each_edge_by_up_to_its_share_and_stays_on_the_tile():
    box = np.tile(np.array([[100, 50, 200, 150]], np.float32), (4000, 1))
    crop = BoxCrop(margin=0.1, jitter=0.2)
    sides = np.full(4000, WIDTH), np.full(4000, HEIGHT)
    seen, tile = seen_regions(box, *sides, 0.1), seen_regions(box, *sides, tile_margin_of(crop))
    frame = Frame.of("squash", *(seen[:, 2:] - seen[:, :2]).T, windows(tile, seen, crop))
    draws = np.random.default_rng(0).random((4000, DRAWS))
    matrices = random_matrices(STILL, frame, draws)
    corners = matrices @ np.array([[-1, 1], [-1, 1], [1, 1]])
    np.testing.assert_allclose(tile[0], [70, 20, 230, 180])
    edges = tile[:, :2, None] + (corners[:, :2] + 1) / 2 * 160
    moves = edges - np.array([[90, 210], [40, 160]])
    assert np.abs(moves).max() <= 20 + 1e-6 and np.abs(moves).max() > 19.9
    np.testing.assert_allclose(moves.mean(axis=0), 0, atol=0.7)
    assert np.abs(np.corrcoef(moves.reshape(4000, 4).T) - np.eye(4)).max() < 0.06


def test_without_jitter_or_box_nothing_moves():
    seen = np.array([[0.0, 0, 10, 10]])
    assert windows(seen, seen, WholeImage()) is None and windows(seen, seen, BoxCrop(margin=0.3)) is None
    assert windows(seen, seen, BoxCrop(jitter=0.3)).reach.tolist() == [[0, 0]]
