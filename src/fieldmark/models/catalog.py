"""Models by name: a stored table of well-known small and mid-size models, and every name that the factory can build.

`benchmarks/catalog.py` writes the table by building and counting every model in it. Reading it imports no network library.
"""

from __future__ import annotations

import fnmatch
import json
import re
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
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
    wanted = pattern if any(sign in pattern for sign in "*?[") else f"*{pattern}*"
    if not fnmatch.filter(registered := _registered(), wanted):
        raise InputError(f"no model matches {pattern!r}{suggest(pattern, registered, most=3)}")
    from fieldmark.models.factory import describe, model_names

    known = {model.name: model for model in known_models()}
    return tuple(known.get(name) or ModelInfo(name, None, None, *describe(name), "") for name in model_names(wanted))


def refuse_unknown(name: str) -> None:
    """Raise InputError for a name that no library registers, as far as their source tells without importing them.

    Names that say where the weights are from, such as hf-hub:owner/name, are left to whoever builds them.
    """
    architecture = name.partition(".")[0]
    if not re.fullmatch(r"[\w.-]+", name) or architecture in {model.name for model in known_models()} or _is_mentioned(architecture):
        return
    if architecture not in (registered := _registered()):
        near = suggest(name, registered, most=3)
        raise InputError(f"model.name: there is no model {name!r}{near}", hint="`fieldmark models PATTERN` lists the names.")


def _registered() -> list[str]:
    """The architectures of the table and those that timm's source registers, sorted."""
    found = re.findall(r"^@register_model\ndef (\w+)\(", _source_of_timm(), re.MULTILINE)
    return sorted({*found, *(model.name for model in known_models())})


def _is_mentioned(architecture: str) -> bool:
    """Whether timm's source has the word: it also knows names that were given up."""
    return re.search(rf"\b{re.escape(architecture)}\b", _source_of_timm()) is not None


@cache
def _source_of_timm() -> str:
    """The text of its models; nothing if it is not installed."""
    spec = find_spec("timm")
    folders = [] if spec is None else [Path(folder) / "models" for folder in spec.submodule_search_locations or ()]
    return "\n".join(file.read_text(encoding="utf-8") for folder in folders for file in sorted(folder.glob("*.py")))
