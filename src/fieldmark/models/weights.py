"""Weights files: safetensors, read strictly, written whole.

A file uses Fieldmark's own names (`backbone.*`, `head.*`, a metadata key `fieldmark` holding JSON) or those of the architecture's library.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor

from fieldmark.core.errors import InputError
from fieldmark.core.files import whole_file
from fieldmark.core.recipe.model import WEIGHTS
from fieldmark.models.tensor_names import Located, locate, named

if TYPE_CHECKING:
    from fieldmark.models.factory import Classifier

_ENOUGH = 0.75
"""The share of the backbone's tensors that weights from elsewhere must hold."""
_OTHER_TOOLS = (
    (r"(^|\.)(features\.\d+\.(\d+|conv|block)|encoder\.layers\.encoder_layer_\d+|trunk_output)\.", "torchvision"),
    (r"(^|\.)(embedder|embeddings|encoder\.layer\.\d+|encoder\.stages\.\d+)\.", "Hugging Face transformers"),
)
"""Signs of names of libraries that build the same networks under names of their own."""


def read_weights(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a safetensors file, on the CPU, and Fieldmark's metadata (empty for a file from elsewhere).

    Raises InputError for a missing file, a pickle and a damaged file.
    """
    path = Path(path)
    try:
        path.open("rb").close()  # which says what is wrong with a path better than the reader does
        with safetensors.safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it cannot be iterated)
            metadata = json.loads((file.metadata() or {}).get("fieldmark", "{}"))
    except FileNotFoundError:
        raise InputError(f"there is no weights file {path}", hint=WEIGHTS) from None
    except OSError as error:
        raise InputError(f"the weights file {path} cannot be read: {error.strerror or error}") from error
    except (safetensors.SafetensorError, ValueError) as error:
        if is_pickle(path):
            raise InputError(f"{path} is a pickle, and Fieldmark writes safetensors", hint="Restore it from a copy.") from None
        raise InputError(
            f"{path} is not a complete safetensors file: {error}",
            hint="Copy or download it again; other formats than safetensors and PyTorch's .pth, .pt, .ckpt and .bin are not read.",
        ) from error
    return tensors, metadata if isinstance(metadata, dict) else {}


def is_pickle(path: Path) -> bool:
    """Whether a file is a pickle, as PyTorch writes them, and not a safetensors file, which may begin with the same bytes."""
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
    except OSError:
        return False
    if start != b"PK\x03\x04" and start[:1] != b"\x80":
        return False
    try:
        with safetensors.safe_open(path, "pt"):
            return False
    except (safetensors.SafetensorError, ValueError):
        return True


def save_weights(model: Classifier, path: Path | str, metadata: Mapping[str, Any]) -> None:
    """Write the model's tensors, and `metadata` as JSON, whole or not at all; equal weights and metadata give equal bytes."""
    path = Path(path)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    content = safetensors.torch.save(tensors, {"fieldmark": json.dumps(metadata, ensure_ascii=False, sort_keys=True)})
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def load_weights(model: Classifier, path: Path | str) -> tuple[str, ...]:
    """Load a weights file that was saved from such a model; returns notes on what was done.

    Raises InputError, with the model unchanged, for any difference between the file and the model, and as `read_weights` does.
    """
    tensors, _ = read_weights(path)
    return load_tensors(model, tensors, str(path))


def load_tensors(
    model: Classifier,
    tensors: Mapping[str, Tensor],
    origin: str,
    *,
    metadata: Mapping[str, Any] | None = None,
    class_names: Sequence[str] = (),
) -> tuple[str, ...]:
    """Load tensors in memory; `origin` names their source in notes and errors. Returns notes on what was done.

    A classifier of another size or kind is left out, and the model keeps its fresh head. Where the metadata and `class_names`, those of
    the model, say which classes the classifiers have, rows are matched by name.

    With metadata, which may be empty, the tensors are from elsewhere: a few may be missing, and others are left out. Raises InputError,
    with the model unchanged, for any other difference between the tensors and the model.
    """
    located = locate(model, tensors)
    found, notes = located.tensors, [f"weights: {origin}", *located.notes()]
    dropped = sorted(name for name in found if name.removeprefix("backbone.") in (model.native_head.dropped or ()))
    fresh = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("head.")}
    if (reason := _why_fresh_head(model, located)) is None:
        head, reason = _head(model, found, metadata or {}, class_names)
    else:
        head = {}
    notes.append(reason)
    found = {name: tensor for name, tensor in found.items() if not name.startswith("head.") and name not in dropped} | (head or fresh)
    if dropped:
        notes.append(f"left out for model.pooling=average: {named([name.removeprefix('backbone.') for name in dropped])}")
    if resampled := _resampled_position(model, found):
        found["backbone.pos_embed"] = resampled[0]
        notes.append(resampled[1])
    differences = _Differences.between(model.state_dict(), found)
    if differences.problems and (metadata is None or not differences.few):
        recorded = (metadata or {}).get("architecture")
        if isinstance(recorded, str) and recorded.partition(".")[0] != model.architecture:
            raise InputError(f"{origin} holds weights of {recorded}, and not of {model.architecture}: set model.name={recorded}")
        raise InputError(
            f"{origin} does not hold the weights of {model.architecture}: {differences.matched:,} of {differences.wanted:,} tensors match",
            *differences.problems,
            hint=_remedy(model, tensors),
        )
    if differences.problems:
        notes.append(f"{differences.matched:,} of {differences.wanted:,} tensors of {model.architecture} match:")
        notes += (f"  {problem}" for problem in differences.problems)
    model.load_state_dict({name: tensor for name, tensor in found.items() if name not in differences.unusable}, strict=False)
    return tuple(notes)


def _head(
    model: Classifier, found: Mapping[str, Tensor], metadata: Mapping[str, Any], class_names: Sequence[str]
) -> tuple[dict[str, Tensor], str]:
    """Tensors of the classifier, and a note on them; those that are left out stay fresh."""
    theirs = {name: tensor for name, tensor in found.items() if name.startswith("head.")}
    rows, fresh = theirs["head.weight"], f"a fresh one of {model.num_classes:,}"
    names = metadata.get("class_names")
    if rows.shape[1:] != model.head.weight.shape[1:]:  # of another network, which is refused
        return theirs, ""
    if not class_names or not isinstance(names, list) or len(names) != len(rows):
        if len(rows) != model.num_classes:
            return {}, f"its classifier of {len(rows):,} classes is replaced by {fresh}"
        unnamed = "; the file does not say which classes they are" if class_names else ""
        return theirs, f"its classifier of {len(rows):,} classes is kept{unnamed}"
    if list(class_names) == names:
        return theirs, f"its classifier of {len(rows):,} classes is kept"
    places = {name: place for place, name in enumerate(names)}
    known = [index for index, name in enumerate(class_names) if name in places]
    if not known:
        return {}, f"its classifier is of {len(rows):,} other classes ({named(names, 3)}) and is replaced by {fresh}"
    for part in ("head.weight", "head.bias"):
        if part in theirs:
            matched = model.state_dict()[part].clone()
            matched[known] = theirs[part][[places[class_names[index]] for index in known]].to(matched.dtype)
            theirs[part] = matched
    new = [name for name in class_names if name not in places]
    gone = [name for name in names if name not in set(class_names)]
    said = f"its classifier is matched by the names of the classes: kept for {len(known):,}"
    said += f", fresh for {len(new):,} ({named(new, 3)})" if new else ""
    return theirs, said + (f"; {len(gone):,} of its own left out ({named(gone, 3)})" if gone else "")


def _why_fresh_head(model: Classifier, located: Located) -> str | None:
    """A note on why the file's classifier is replaced by the model's fresh one; None if it fits, up to its classes."""
    native, found, instead = model.native_head, located.tensors, f"a fresh one of {model.num_classes:,} classes is added"
    if "head.weight" not in found and not located.native_classifier:
        return f"it has no classifier; {instead}"
    if native.dropped is not None and ("head.weight" not in found or any(f"backbone.{name}" in found for name in native.dropped)):
        return f"its classifier is for features that are pooled differently; {instead}"
    if "head.weight" not in found:
        return f"its classifier is not one linear layer; {instead}"
    own, theirs = model.state_dict().get("head.hidden.weight"), found.get("head.hidden.weight")
    if own is None or theirs is None:
        if own is not None or theirs is not None:
            return f"its classifier has {'no' if theirs is None else 'a'} hidden layer; {instead}"
    elif len(own) != len(theirs):
        return f"its classifier has a hidden layer of {len(theirs):,} units instead of {len(own):,}; {instead}"
    return None


def _module(name: str) -> str:
    """The outermost module that a tensor belongs to: `layer1` of backbone.layer1.0.conv1.weight."""
    return name.removeprefix("backbone.").partition(".")[0]


def _remedy(model: Classifier, tensors: Mapping[str, Tensor]) -> str:
    for sign, tool in _OTHER_TOOLS:
        if sum(re.search(sign, name) is not None for name in tensors) > len(tensors) / 3:
            return (
                f"The file has {tool}'s names, and {model.architecture} here is timm's, with other names for the same layers. "
                "Use timm's own weights (model.weights=pretrained), or a file that was saved from a model of timm."
            )
    return "Choose the model.name that the weights were made for, and the data.size, model.width and so on if it depends on them."


def _resampled_position(model: Classifier, found: Mapping[str, Tensor]) -> tuple[Tensor, str] | None:
    """A vision transformer's position embedding, made for another image size, resampled to the model's, and a note on it."""
    old, own = found.get("backbone.pos_embed"), getattr(model.backbone, "pos_embed", None)
    grid = getattr(getattr(model.backbone, "patch_embed", model.backbone), "grid_size", None)
    if old is None or own is None or grid is None or old.ndim != 3 or old.shape[1] == own.shape[1] or old.shape[2] != own.shape[2]:
        return None
    prefix = own.shape[1] - grid[0] * grid[1]
    side = math.isqrt(max(old.shape[1] - prefix, 0))
    if prefix < 0 or side * side + prefix != old.shape[1]:
        return None
    resampled = resample_abs_pos_embed(old, list(grid), [side, side], num_prefix_tokens=prefix)
    return resampled, f"its position embedding is resampled from {side} x {side} to {grid[0]} x {grid[1]} patches"


@dataclass(frozen=True)
class _Differences:
    """How tensors differ from those of a model.

    wanted, matched: tensors of the backbone, and how many of them are there. unusable: names of those that do not fit. problems: a line
    for each kind of difference. strangers: how many are of modules that the model has, and yet not its own.
    """

    wanted: int
    matched: int
    unusable: frozenset[str]
    problems: tuple[str, ...]
    strangers: int

    @classmethod
    def between(cls, own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> _Differences:
        # Counters of batches play no part in evaluation or training, and some exporters leave them out.
        counted = [name for name in own if not name.endswith("num_batches_tracked")]
        missing = [name for name in counted if name not in found]
        unexpected = [name for name in found if name not in own]
        wrong = {
            name: f"{name} ({_kind(found[name])} instead of {_kind(tensor)})"
            for name, tensor in own.items()
            if name in found and (found[name].shape != tensor.shape or found[name].is_floating_point() != tensor.is_floating_point())
        }
        groups = (("missing", missing), ("unexpected", unexpected), ("of the wrong shape", [*wrong.values()]))
        problems = tuple(f"{len(names):,} {kind}: {named(names)}" for kind, names in groups if names)
        modules = {_module(name) for name in own}
        strangers = sum(_module(name) in modules for name in unexpected)
        backbone = [name for name in counted if name.startswith("backbone.")]
        matched = sum(name in found and name not in wrong for name in backbone)
        return cls(len(backbone), matched, frozenset({*unexpected, *wrong}), problems, strangers)

    @property
    def few(self) -> bool:
        """Whether so few are missing, and so few superfluous, that the tensors are those of this network."""
        return self.matched >= _ENOUGH * self.wanted and self.strangers <= (1 - _ENOUGH) * self.wanted


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
