"""OpenCV, imported when an image needs it."""

from __future__ import annotations

from functools import cache
from types import ModuleType


@cache
def opencv() -> ModuleType:
    """The module, limited to one thread in this process: threads that a background thread starts compete with the model's for the cores."""
    import cv2

    cv2.setNumThreads(1)
    return cv2
