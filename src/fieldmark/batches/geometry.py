"""Geometry of a batch: crop, flip, rotate, zoom, shift, shear and perspective as one matrix per image, resampled once.

Three frames, all with the origin in the middle and y downwards. *View*: what the model sees, [-1, 1] on both sides. *Image*: the same units
with the image's own proportions as `data.resize` keeps them. *Tile*: the stored square, [-1, 1], which holds the whole image squashed or,
if images are cropped to boxes that move, the box and its surroundings; the box then takes the image's place. A matrix maps view coordinates
to tile coordinates, so that no image is resampled twice, whatever the changes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from fieldmark.batches.matrices import homography, identity, scaling, translation
from fieldmark.batches.windows import Windows
from fieldmark.core.recipe.augment import Augment, NoPolicy, PaddedCrop, RandomResizedCrop
from fieldmark.runtime.opencv import opencv

_TRIES = 10
DRAWS = 4 * _TRIES + 20
OUTSIDE = 128.0
"""Grey level outside the image."""
_SHRINK_WITHOUT_FILTER = 1.25
_NEARLY = 1e-6
"""Tolerance for rounding errors, in pixels."""


@dataclass(frozen=True)
class Frame:
    """Half width and half height of each image in view units, shape (n,), for one way of resizing."""

    half_width: np.ndarray
    half_height: np.ndarray
    crop_whole: bool
    """Random crops are taken from the whole image (else from the view)."""
    windows: Windows | None = None
    """Set if the images do not fill their tiles."""

    @classmethod
    def of(cls, resize: str, widths: np.ndarray, heights: np.ndarray, windows: Windows | None = None) -> Frame:
        width, height = np.asarray(widths, np.float64), np.asarray(heights, np.float64)
        if resize == "squash":
            return cls(np.ones_like(width), np.ones_like(height), True, windows)
        side = np.minimum(width, height) if resize == "shorter-side" else np.maximum(width, height)
        return cls(width / side, height / side, resize == "shorter-side", windows)

    def __getitem__(self, rows: np.ndarray) -> Frame:
        windows = None if self.windows is None else self.windows[rows]
        return Frame(self.half_width[rows], self.half_height[rows], self.crop_whole, windows)


def leaves_image(augment: Augment, resize: str) -> bool:
    """Whether a view may show anything outside the image."""
    moved = augment.rotate or augment.translate or augment.shear or augment.perspective or augment.zoom[0] < 1
    return bool(moved) or not isinstance(augment.policy, NoPolicy) or isinstance(augment.crop, PaddedCrop) or resize == "letterbox"


def view_matrices(frame: Frame, draws: np.ndarray | None = None) -> np.ndarray:
    """The evaluation view: float64 (n, 3, 3) from view to tile coordinates; with `draws`, windows are moved as in Windows.matrices."""
    matrices = scaling(1 / frame.half_width, 1 / frame.half_height)
    return matrices if frame.windows is None else frame.windows.matrices(draws) @ matrices


def random_matrices(augment: Augment, frame: Frame, draws: np.ndarray) -> np.ndarray:
    """One random view per image.

    Args:
        augment: which changes, and how large.
        frame: of n images.
        draws: float64 (n, DRAWS) in [0, 1).

    Returns:
        float64 (n, 3, 3), from view to tile coordinates.
    """
    crop_draws, rest = draws[:, : 4 * _TRIES], draws[:, 4 * _TRIES :]
    matrix = view_matrices(frame, rest[:, 14:18]) @ _crop(augment, frame, crop_draws)
    flipped = np.where(rest[:, 0] < augment.flip, -1.0, 1.0)
    matrix = matrix @ scaling(flipped, np.ones_like(flipped))
    matrix = matrix @ np.linalg.inv(_affine(augment, rest[:, 1:6]))
    if augment.perspective:
        matrix = matrix @ _perspective(augment.perspective, rest[:, 6:14])
    return matrix


def are_upright(matrices: np.ndarray) -> np.ndarray:
    """Which views are upright boxes, mirrored at most: bool (n,)."""
    return (matrices[:, [0, 1, 2, 2], [1, 0, 0, 1]] == 0).all(axis=1) & (matrices[:, 1, 1] > 0)


def look(tiles: np.ndarray, rows: np.ndarray, matrices: np.ndarray, size: int) -> np.ndarray:
    """Views as uint8, antialiased, grey outside the tiles; as `resample` returns them, but faster on a CPU.

    Upright boxes are cut at whole pixels and resized, the others sampled on a grid. Everything runs in one thread, so that a network can
    use all cores meanwhile.

    Args:
        tiles: uint8 (all, 3, side, side); fastest with channels last in memory.
        rows: int64 (n,), the tiles to look at.
        matrices: (n, 3, 3), from view to tile coordinates.

    Returns:
        uint8 (n, 3, size, size), channels last in memory.
    """
    result = np.empty((len(rows), size, size, 3), np.uint8)
    upright = are_upright(matrices)
    for chosen, take in ((upright, _cut), (~upright, _warp)):
        if chosen.any():
            take(tiles, rows[chosen], matrices[chosen], result, np.flatnonzero(chosen))
    return result.transpose(0, 3, 1, 2)


def _cut(tiles: np.ndarray, rows: np.ndarray, matrices: np.ndarray, result: np.ndarray, places: np.ndarray) -> None:
    """Write upright views into `result`, uint8 (all, size, size, 3), at these places."""
    size, side = result.shape[1], tiles.shape[-1]
    scale, shift = matrices[:, [0, 1], [0, 1]], matrices[:, :2, 2]
    breadth = np.abs(scale)
    # The range of view pixels whose centres are within the tile.
    start = np.ceil(((-1 - shift) / breadth + 1) * size / 2 - 0.5 - _NEARLY).astype(int).clip(0, size)
    stop = np.floor(((1 - shift) / breadth + 1) * size / 2 + 0.5 + _NEARLY).astype(int).clip(0, size)
    first = np.rint((shift + breadth * (2 * start / size - 1) + 1) * side / 2).astype(int).clip(0, side - 1)
    last = np.rint((shift + breadth * (2 * stop / size - 1) + 1) * side / 2).astype(int).clip(first + 1, side)
    mirrored, whole = scale[:, 0] < 0, ((start == 0) & (stop == size)).all(axis=1)
    for index, (place, row) in enumerate(zip(places, rows, strict=True)):
        (x, y), (x_stop, y_stop) = start[index], stop[index]
        view = result[place, :, ::-1] if mirrored[index] else result[place]
        if not whole[index]:
            view[:] = OUTSIDE
            if x_stop <= x or y_stop <= y:
                continue
        seen = _resized(tiles[row].transpose(1, 2, 0), first[index], last[index], x_stop - x, y_stop - y)
        if mirrored[index]:
            for colour in range(3):  # four times as fast as all at once, and torch's flip would start threads
                view[y:y_stop, x:x_stop, colour] = seen[:, :, colour]
        else:
            view[y:y_stop, x:x_stop] = seen


def _resized(tile: np.ndarray, low: np.ndarray, high: np.ndarray, width: int, height: int) -> np.ndarray:
    """A box of uint8 (side, side, 3), from x and y to x and y, antialiased: uint8 (height, width, 3)."""
    (left, top), (right, bottom) = low, high
    # The leading axis of one tells the operator that channels are last in memory, so that it keeps them last.
    box = torch.from_numpy(tile[None, top:bottom, left:right].copy()).permute(0, 3, 1, 2)
    return F.interpolate(box, size=(height, width), mode="bilinear", antialias=True)[0].permute(1, 2, 0).numpy()


def _warp(tiles: np.ndarray, rows: np.ndarray, matrices: np.ndarray, result: np.ndarray, places: np.ndarray) -> None:
    """Write any views, sampled bilinearly, into `result`, uint8 (all, size, size, 3), at these places.

    If the view shrinks the tile (by area: a shear does not), the part that it covers, or the whole tile if a perspective folds the view
    over, is first resized, antialiased, to about the view's resolution. The border of the tile is blended with the grey outside over one
    pixel.
    """
    cv2 = opencv()
    size, side = result.shape[1], tiles.shape[-1]
    corners = matrices @ np.array([[-1, 1, 1, -1], [-1, -1, 1, 1], [1, 1, 1, 1]])
    pixels = (corners[:, :2] / corners[:, 2:] + 1) * side / 2
    behind = (corners[:, 2] <= 0).any(axis=1)
    pixels[behind] = np.array([[0, side, side, 0], [0, 0, side, side]])
    ahead = np.roll(pixels, -1, axis=2)
    area = np.abs((pixels[:, 0] * ahead[:, 1] - pixels[:, 1] * ahead[:, 0]).sum(axis=1)) / 2
    shrink = np.sqrt(area) / size
    shrunk = shrink[:, None] > _SHRINK_WITHOUT_FILTER
    low = np.where(shrunk, (np.floor(pixels.min(axis=2)) - 2).clip(0, side - 1), 0).astype(int)
    high = np.where(shrunk, (np.ceil(pixels.max(axis=2)) + 2).clip(low + 1, side), side).astype(int)
    sides = np.where(shrunk, np.ceil((high - low) / shrink[:, None]), side).astype(int)
    # From view pixels, whose centres are whole numbers, to pixels of `seen`.
    to_tile, to_view = (
        np.array([[scale, 0, shift], [0, scale, shift], [0, 0, 1]]) for scale, shift in ((side / 2, side / 2), (2 / size, 1 / size - 1))
    )
    ratio = sides / (high - low)
    steps = translation(*(-low * ratio - 0.5).T) @ scaling(*ratio.T) @ (to_tile @ matrices @ to_view)
    flat = bool((matrices[:, 2] == [0, 0, 1]).all())
    how = {"flags": cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, "borderMode": cv2.BORDER_CONSTANT, "borderValue": (OUTSIDE,) * 4}
    for index, (place, row) in enumerate(zip(places, rows, strict=True)):
        tile = tiles[row].transpose(1, 2, 0)
        seen = _resized(tile, low[index], high[index], *sides[index].tolist()) if shrunk[index] else tile
        seen = cv2.cvtColor(seen, cv2.COLOR_RGB2RGBA)  # four bytes per pixel: twice as fast as three
        if flat:
            view = cv2.warpAffine(seen, steps[index, :2], (size, size), **how)
        else:
            view = cv2.warpPerspective(seen, steps[index], (size, size), **how)
        cv2.cvtColor(view, cv2.COLOR_RGBA2RGB, result[place])


def resample(tiles: torch.Tensor, matrices: np.ndarray, size: int, fill: bool) -> torch.Tensor:
    """Look at each tile through its matrix, sampling bilinearly.

    If the view shrinks the tile, several points per pixel are averaged, spread over the pixel's footprint (a rook pattern: each tap has a
    row and a column of its own), so that fine detail does not alias.

    Args:
        tiles: uint8 (n, 3, side, side).
        matrices: (n, 3, 3), from view to tile coordinates.
        size: side of the result in pixels.
        fill: paint the outside of the image grey; otherwise its edge is repeated.

    Returns:
        float32 (n, 3, size, size) in 0 … 255, on the device of the tiles.
    """
    taps = _taps(matrices, tiles.shape[-1], size)
    result = torch.empty((len(tiles), 3, size, size), device=tiles.device)
    for count in np.unique(taps):
        chosen = np.flatnonzero(taps == count)
        places = torch.from_numpy(chosen).to(tiles.device)
        source = tiles[places].float()
        total = None
        for column, row in _rook_pattern(int(count)):
            shift = translation(np.full(len(chosen), column * 2 / size), np.full(len(chosen), row * 2 / size))
            seen = _sample(source, matrices[chosen] @ shift, size, fill)
            total = seen if total is None else total.add_(seen)
        assert total is not None
        result[places] = total if count == 1 else total.mul_(1 / int(count))
    return result


def _taps(matrices: np.ndarray, side: int, size: int) -> np.ndarray:
    """How many points per pixel must be averaged: about the number of tile pixels that a view pixel spans."""
    shrink = np.linalg.norm(matrices[:, :2, :2], axis=1).max(axis=1) * side / size
    return np.where(shrink <= _SHRINK_WITHOUT_FILTER, 1, np.ceil(shrink).clip(1, 8)).astype(int)


def _rook_pattern(count: int) -> list[tuple[float, float]]:
    """Offsets in view pixels, each row and each column used once."""
    positions = (np.arange(count) + 0.5) / count - 0.5
    step = next(s for s in (2, 3, 5, 7, 11) if np.gcd(s, count) == 1) if count > 3 else 1
    return [(float(positions[i]), float(positions[(i * step) % count])) for i in range(count)]


def _sample(tiles: torch.Tensor, matrices: np.ndarray, size: int, fill: bool) -> torch.Tensor:
    grid = _grid(torch.from_numpy(matrices.astype(np.float32)).to(tiles.device), size)
    seen = F.grid_sample(tiles, grid, mode="bilinear", padding_mode="border", align_corners=False)
    if fill:
        outside = (grid.abs().amax(dim=-1) > 1).unsqueeze(1)
        seen.masked_fill_(outside, OUTSIDE)
    return seen


def _grid(matrices: torch.Tensor, size: int) -> torch.Tensor:
    """Tile coordinates (n, size, size, 2) of every view pixel's centre."""
    centres = (torch.arange(size, device=matrices.device, dtype=matrices.dtype) * 2 + 1) / size - 1
    x, y = centres.view(1, 1, size), centres.view(1, size, 1)
    grid = matrices.new_empty((len(matrices), size, size, 2))
    cells = matrices[:, :, :, None, None]
    for axis in (0, 1):
        torch.add(cells[:, axis, 0] * x + cells[:, axis, 2], cells[:, axis, 1] * y, out=grid[..., axis])
    flat = matrices.new_tensor([0.0, 0.0, 1.0])
    if not torch.equal(matrices[:, 2], flat.expand(len(matrices), 3)):
        grid /= (cells[:, 2, 0] * x + cells[:, 2, 1] * y + cells[:, 2, 2]).unsqueeze(-1)
    return grid


# ---- the changes, each a stack of matrices from the view after it to the view before it -------------------------------------------------


def _crop(augment: Augment, frame: Frame, draws: np.ndarray) -> np.ndarray:
    crop, count = augment.crop, len(draws)
    if isinstance(crop, PaddedCrop):
        shift = (draws[:, :2] * 2 - 1) * 2 * crop.padding
        return translation(shift[:, 0], shift[:, 1])
    if not isinstance(crop, RandomResizedCrop):
        return np.broadcast_to(np.eye(3), (count, 3, 3))
    if frame.crop_whole:
        half_width, half_height = frame.half_width, frame.half_height
    else:
        half_width, half_height = np.ones(count), np.ones(count)
    tries = draws.reshape(count, _TRIES, 4)
    area = _between(crop.area, tries[:, :, 0]) * (half_width * half_height)[:, None]
    aspect = np.exp(_between((np.log(crop.aspect[0]), np.log(crop.aspect[1])), tries[:, :, 1]))
    width, height = np.sqrt(area * aspect), np.sqrt(area / aspect)
    fits = (width <= half_width[:, None]) & (height <= half_height[:, None])
    chosen = np.where(fits.any(axis=1), fits.argmax(axis=1), _TRIES - 1)
    each = np.arange(count)
    width = np.minimum(width[each, chosen], half_width)
    height = np.minimum(height[each, chosen], half_height)
    left = (tries[each, chosen, 2] * 2 - 1) * (half_width - width)
    top = (tries[each, chosen, 3] * 2 - 1) * (half_height - height)
    return translation(left, top) @ scaling(width, height)


def _affine(augment: Augment, draws: np.ndarray) -> np.ndarray:
    """Forward matrices: shear, then zoom, then rotation about the middle, then shift (torchvision's order)."""
    angle = np.deg2rad((draws[:, 0] * 2 - 1) * augment.rotate)
    zoom = np.exp(_between((np.log(augment.zoom[0]), np.log(augment.zoom[1])), draws[:, 1]))
    shear = np.tan(np.deg2rad((draws[:, 2] * 2 - 1) * augment.shear))
    shift = (draws[:, 3:5] * 2 - 1) * augment.translate * 2
    rotation, slant = identity(len(draws)), identity(len(draws))
    rotation[:, 0, 0] = rotation[:, 1, 1] = np.cos(angle)
    rotation[:, 0, 1], rotation[:, 1, 0] = -np.sin(angle), np.sin(angle)
    slant[:, 0, 1] = -shear
    return translation(shift[:, 0], shift[:, 1]) @ rotation @ scaling(zoom, zoom) @ slant


def _perspective(distortion: float, draws: np.ndarray) -> np.ndarray:
    """The view's corners are drawn inwards by up to `distortion` of half the side, as torchvision's RandomPerspective does."""
    inwards = draws.reshape(-1, 4, 2) * distortion
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], np.float64)
    moved = corners * (1 - inwards)
    return homography(np.broadcast_to(corners, moved.shape), moved, inverse=True)


def _between(bounds: tuple[float, float], draws: np.ndarray) -> np.ndarray:
    return bounds[0] + (bounds[1] - bounds[0]) * draws
