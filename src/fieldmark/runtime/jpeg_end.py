"""JPEGs without their last bytes: whether all pixels are there all the same."""

from __future__ import annotations

import io
from itertools import product

from PIL import Image

_END = b"\xff\xd9"
_ZEROS = bytes(16)
_GARBAGE = b"\xa5" * 64
_ALONE = (0x00, 0x01, *range(0xD0, 0xDA), 0xFF)
"""What may follow FF without a length: a stuffed zero, a marker of its own, or another FF."""
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_SCAN = 0xDA
_RESTARTS = range(0xD0, 0xD8)

MISSING_END = "no end, though its pixels are all there"


def ends_in_zeros(data: bytes) -> bool:
    """Whether a JPEG ends in zeros instead of its end: space that was reserved and never filled, which decoders take for pixels."""
    return data.endswith(_ZEROS) and not data.rstrip(b"\0").endswith(_END)


def with_end(data: bytes) -> bytes | None:
    """A JPEG that stops before its end, with an end; None if it lacks pixels.

    A decoder reads zeros where the data stop. Pixels that are missing would thus come out of zeros, and out of garbage if that came
    instead, or after the next restart; those that are there come out the same.
    """
    stops = data.rstrip(b"\0").removesuffix(_END[:1])
    try:
        restart = _next_restart(stops)
        if restart is not None:
            first, *others = (_pixels(stops + more + _END) for more in (b"", _GARBAGE, bytes([0xFF, restart]) + _GARBAGE))
            return stops + _END if all(pixels == first for pixels in others) else None
    except (OSError, ValueError, IndexError, SyntaxError):
        pass
    return None


def _pixels(data: bytes) -> bytes:
    with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
        return image.tobytes()


def _next_restart(data: bytes) -> int | None:
    """The restart marker that would come next; None unless scans have begun for every bit of every coefficient of every component."""
    missing: set[tuple[int, int]] = set()
    restart = _RESTARTS[0]
    position = 2
    while 0 <= (position := data.find(b"\xff", position)) < len(data) - 3:
        kind = data[position + 1]
        if kind in _ALONE:
            position += 1 if kind == 0xFF else 2
            restart = _RESTARTS[(kind - _RESTARTS[0] + 1) % 8] if kind in _RESTARTS else restart
            continue
        length = int.from_bytes(data[position + 2 : position + 4], "big")
        body = data[position + 4 : position + 2 + length]
        if kind in _FRAMES:
            missing = {(body[6 + 3 * index], coefficient) for index in range(body[5]) for coefficient in range(64)}
        elif kind == _SCAN:
            restart = _RESTARTS[0]
            components, (first, last, bits) = body[1 : 1 + 2 * body[0] : 2], body[1 + 2 * body[0] : 4 + 2 * body[0]]
            if bits & 15 == 0:
                missing -= set(product(components, range(first, last + 1)))
        position += 2 + length
    return None if missing else restart
