"""OpenCV, imported when an image needs it."""

from __future__ import annotations

from functools import cache
from types import ModuleType

from fieldmark.core.environment import kept_environment


def opencv() -> ModuleType:
    """The module, limited to one thread in this process: threads that a background thread starts compete with the model's for the cores."""
    cv2 = _imported()
    if cv2.getNumThreads() != 1:
        cv2.setNumThreads(1)
    return cv2


@cache
def _imported() -> ModuleType:
    with kept_environment():
        import cv2

    return cv2
