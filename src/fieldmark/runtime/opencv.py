"""OpenCV, imported when an image needs it."""

from __future__ import annotations

from functools import cache
from types import ModuleType


@cache
def opencv() -> ModuleType:
    """In one thread, for all of the process: threads that a background thread starts fight with the model's for the cores."""
    import cv2

    cv2.setNumThreads(1)
    return cv2
