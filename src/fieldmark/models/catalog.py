"""Models by name: a stored table of well-known small and mid-size models, and every name that the factory can build.

`benchmarks/catalog.py` writes the table by building and counting every model in it. Reading it imports no network library.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from fieldmark.core.errors import InputError
from fieldmark.core.names import suggest


@dataclass(frozen=True)
class ModelInfo:
    name: str
    parameters: int | None
    """With 1,000 classes; None if the model is not in the table."""
    macs: int | None
    """Multiply-accumulates of one image at `size`, with 1,000 classes."""
    size: int
    """Usual side of the image, in pixels."""
    pretrained: bool
    """Whether there are pretrained weights for `model.weights=pretrained`."""
    line: str

    def figures(self) -> tuple[str, str, str, str]:
        """Parameters, multiply-accumulates, size and pretrained, as text."""
        parameters = "" if self.parameters is None else f"{self.parameters / 1e6:.2f} M"
        macs = "" if self.macs is None else f"{self.macs / 1e6:,.0f} M"
        return parameters, macs, str(self.size), "yes" if self.pretrained else "no"

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def known_models() -> tuple[ModelInfo, ...]:
    """The stored models, fewest parameters first."""
    stored = (resources.files("fieldmark.models") / "catalog.json").read_text(encoding="utf-8")
    return tuple(ModelInfo(**row) for row in json.loads(stored))


def matching_models(pattern: str) -> tuple[ModelInfo, ...]:
    """Every model whose name contains `pattern`, or matches it if it has a wildcard. Raises InputError if there is none."""
    from fieldmark.models.factory import describe, model_names

    known = {model.name: model for model in known_models()}
    names = model_names(pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*")
    if not names:
        raise InputError(f"no model matches {pattern!r}{suggest(pattern, model_names(), most=3)}")
    return tuple(known.get(name) or ModelInfo(name, None, None, *describe(name), "") for name in names)
