"""Weights files: safetensors, read strictly, written whole.

A file uses Fieldmark's own names (`backbone.*`, `head.*`, a metadata key `fieldmark` holding JSON) or those of the architecture's library.
Pickles are never opened.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch
from timm.layers.pos_embed import resample_abs_pos_embed
from torch import Tensor

from fieldmark.core.errors import InputError
from fieldmark.core.files import whole_file

if TYPE_CHECKING:
    from fieldmark.models.factory import Classifier

_SHOWN = 10


def read_weights(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a safetensors file, on the CPU, and Fieldmark's metadata (empty for a file from elsewhere).

    Raises InputError for a missing file, a pickle and a damaged file.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            start = stream.read(4)
        with safetensors.safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (it cannot be iterated)
            metadata = json.loads((file.metadata() or {}).get("fieldmark", "{}"))
    except FileNotFoundError:
        raise InputError(
            f"there is no weights file {path}", hint="model.weights is pretrained, none, or the path of a safetensors file."
        ) from None
    except OSError as error:
        raise InputError(f"the weights file {path} cannot be read: {error.strerror or error}") from error
    except (safetensors.SafetensorError, ValueError) as error:
        if start == b"PK\x03\x04" or start[:1] == b"\x80":  # checked only now: a safetensors file may begin with these bytes too
            raise InputError(
                f"{path} is a pickle (PyTorch's .pth, .pt or .bin); opening one can run any code, so Fieldmark does not",
                hint="Load it once where you trust it and write it with safetensors.torch.save_file.",
            ) from None
        raise InputError(
            f"{path} is not a complete safetensors file: {error}", hint="Copy or download it again; other formats are not read."
        ) from error
    return tensors, metadata


def save_weights(model: Classifier, path: Path | str, metadata: Mapping[str, Any]) -> None:
    """Write the model's tensors, and `metadata` as JSON, whole or not at all; equal weights and metadata give equal bytes."""
    path = Path(path)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    content = safetensors.torch.save(tensors, {"fieldmark": json.dumps(metadata, ensure_ascii=False, sort_keys=True)})
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


def load_weights(model: Classifier, path: Path | str) -> tuple[str, ...]:
    """Load a weights file into the model; returns notes on what was done.

    A classifier of another size or kind is left out, and the model keeps its fresh head. Raises InputError, with the model unchanged, for
    any other difference between the file and the model, and as `read_weights` does.
    """
    tensors, _ = read_weights(path)
    return load_tensors(model, tensors, str(path))


def load_tensors(model: Classifier, tensors: Mapping[str, Tensor], origin: str) -> tuple[str, ...]:
    """`load_weights` for tensors in memory; `origin` names their source in notes and errors."""
    notes = [f"weights: {origin}"]
    own = model.state_dict()
    found = dict(tensors) if any(name.startswith("backbone.") for name in tensors) else _renamed(model, tensors)
    dropped = sorted(name for name in found if name.removeprefix("backbone.") in (model.native_head.dropped or ()))
    if (reason := _why_fresh_head(model, tensors, found)) is None:
        notes.append(f"its classifier of {model.num_classes:,} classes is kept")
    else:
        notes.append(reason)
        found = {name: tensor for name, tensor in found.items() if not name.startswith("head.")}
        found |= {name: tensor for name, tensor in own.items() if name.startswith("head.")}
    if dropped:
        found = {name: tensor for name, tensor in found.items() if name not in dropped}
        notes.append(f"left out for model.pooling=average: {_named([name.removeprefix('backbone.') for name in dropped])}")
    if resampled := _resampled_position(model, found):
        found["backbone.pos_embed"] = resampled[0]
        notes.append(resampled[1])
    if problems := _differences(own, found):
        raise InputError(
            f"{origin} does not hold the weights of {model.architecture}",
            *problems,
            hint="Choose the model.name that the weights were made for, and the data.size, model.width and so on if it depends on them.",
        )
    model.load_state_dict(found, strict=False)
    return tuple(notes)


def _why_fresh_head(model: Classifier, tensors: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """A note on why the file's classifier is replaced by the model's fresh one; None if it fits."""
    native, instead = model.native_head, f"a fresh one of {model.num_classes:,} classes is added"
    if "head.weight" not in found and native.names.isdisjoint(tensors):
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
    if found["head.weight"].shape[1:] == model.head.weight.shape[1:] and len(found["head.weight"]) != model.num_classes:
        return f"its classifier of {len(found['head.weight']):,} classes is replaced by a fresh one of {model.num_classes:,}"
    return None


def _renamed(model: Classifier, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in the naming of the architecture's library under Fieldmark's names, with its classifier only if it fits `head`."""
    renamed = {f"backbone.{name}": tensor for name, tensor in tensors.items() if name not in model.native_head.names}
    if linear := model.native_head.linear:
        if (weight := tensors.get(f"{linear}.weight")) is not None:
            renamed["head.weight"] = weight.flatten(1)  # some are 1 x 1 convolutions
        if (bias := tensors.get(f"{linear}.bias")) is not None:
            renamed["head.bias"] = bias
    return renamed


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


def _differences(own: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> list[str]:
    # Counters of batches play no part in evaluation or training, and some exporters leave them out.
    missing = [name for name in own if name not in found and not name.endswith("num_batches_tracked")]
    unexpected = [name for name in found if name not in own]
    wrong = [
        f"{name} ({_kind(found[name])} instead of {_kind(tensor)})"
        for name, tensor in own.items()
        if name in found and (found[name].shape != tensor.shape or found[name].is_floating_point() != tensor.is_floating_point())
    ]
    groups = (("missing", missing), ("unexpected", unexpected), ("of the wrong shape", wrong))
    return [f"{len(names):,} {kind}: {_named(names)}" for kind, names in groups if names]


def _named(names: Sequence[str]) -> str:
    return ", ".join([*names[:_SHOWN], *(["..."] if len(names) > _SHOWN else [])])


def _kind(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
