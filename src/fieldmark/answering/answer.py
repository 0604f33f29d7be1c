"""The answer for one image: the likeliest classes, and what the decisions of a run add to them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, eq=False)
class Answer:
    """What is known about one image.

    `path` is its file as text, empty for an image given as bytes. `classes` and `probabilities` (calibrated, float32) are the likeliest,
    best first; both are empty if there is no answer, and `note` says why. `note` may also say how the image was seen. Without an answer or
    without calibration, what follows is None or empty.

    Attributes:
        unknown: the image is unlike those of val, and probably belongs to none of the classes.
        among: the classes of its conformal set, likeliest first.
        coarser: by the name of each level with back-off, what is answered there with the promised precision: the likeliest class, the
            likeliest parent, or "" for nothing.
    """

    path: str = ""
    classes: tuple[str, ...] = ()
    probabilities: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    note: str = ""
    unknown: bool | None = None
    among: tuple[str, ...] = ()
    coarser: Mapping[str, str] = field(default_factory=dict)

    @property
    def best(self) -> str | None:
        """The likeliest class; None if there is no answer."""
        return self.classes[0] if self.classes else None
