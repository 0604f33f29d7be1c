"""Loading PyTorch and timm, which takes seconds, with a sign of it."""

from __future__ import annotations

import sys
from importlib import import_module

from fieldmark.core.console import Console

_NEEDS_BOTH = "fieldmark.models.factory"


def load_libraries(console: Console) -> None:
    """Import them now; without an effect if they are loaded already."""
    if _NEEDS_BOTH not in sys.modules:
        with console.waiting("loading PyTorch"):
            import_module(_NEEDS_BOTH)
