"""Loading PyTorch and timm, which takes seconds, with a sign of it."""

from __future__ import annotations

from importlib import import_module

from fieldmark.core.console import Console


def load_libraries(console: Console) -> None:
    """Import them now; without an effect if they are loaded already."""
    with console.waiting("loading PyTorch"):
        import_module("fieldmark.models.factory")
