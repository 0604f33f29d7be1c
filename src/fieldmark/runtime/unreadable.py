"""The one error of images: which cannot be decoded, and why."""

from __future__ import annotations


class UnreadableImage(Exception):
    """An image that cannot be decoded: `path` names it, `reason` tells the user why."""

    def __init__(self, path: str, reason: str):
        self.path = path
        self.reason = reason
        super().__init__(f"{path}: {reason}")

    def __reduce__(self) -> tuple[type[UnreadableImage], tuple[str, str]]:
        return type(self), (self.path, self.reason)
