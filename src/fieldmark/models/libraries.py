"""Loading PyTorch and timm, which takes seconds, with a sign of it."""

from __future__ import annotations

import sys
from importlib import import_module

from fieldmark.core.console import Console
from fieldmark.core.environment import kept_environment

_NEEDS_BOTH = "fieldmark.models.factory"


def load_libraries(console: Console) -> None:
    """Import them now, and leave the process as it was; without an effect if they are loaded already."""
    if _NEEDS_BOTH not in sys.modules:
        with console.waiting("loading PyTorch"), kept_environment():
            import_module(_NEEDS_BOTH)
