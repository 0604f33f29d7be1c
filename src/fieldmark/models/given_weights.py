"""Weights as people have them: a run folder, a folder of the hub, a safetensors file, or a checkpoint of PyTorch.

Checkpoints are pickles. PyTorch reads them with its restricted unpickler, which makes nothing but tensors and plain values.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fieldmark.core.errors import InputError
from fieldmark.models.weights import is_pickle, read_weights
from fieldmark.models.weights_file import weights_file

_DEEPEST = 8


@dataclass(frozen=True)
class GivenWeights:
    """Tensors on the CPU, by name; entries of nested mappings have dotted names. `metadata` is Fieldmark's, empty for others' files."""

    file: Path
    tensors: dict[str, Tensor]
    metadata: dict[str, Any]


def read_given_weights(given: str) -> GivenWeights:
    """What `model.weights` names. Raises InputError if it is missing, or holds what cannot or may not be read."""
    file = weights_file(given)
    if not is_pickle(file):
        return GivenWeights(file, *read_weights(file))
    tensors = dict(_flat(_unpickled(file)))
    if not tensors:
        raise InputError(f"{file} holds no tensors", hint="Choose the file with the network's weights.")
    return GivenWeights(file, tensors, {})


def _unpickled(file: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a TorchScript program was given is said below
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refused(file, str(error)) from None
    except Exception as error:  # damaged or made to do harm: anything may be raised
        if "TorchScript" in str(error):
            raise InputError(
                f"{file} is a TorchScript program and not a file of weights",
                hint="Where you trust it: torch.save(torch.jit.load(FILE).state_dict(), 'weights.pth').",
            ) from None
        raise InputError(
            f"{file} is not a complete checkpoint of PyTorch ({(str(error) or type(error).__name__).splitlines()[0][:200]})",
            hint="Copy or download it again; safetensors and PyTorch's .pth, .pt, .ckpt and .bin are read.",
        ) from None


def _refused(file: Path, reason: str) -> InputError:
    match = re.search(r"GLOBAL ([\w.]+)", reason)
    what = f"objects of Python as well as tensors ({match[1]})" if match else "more than tensors"
    return InputError(
        f"{file} holds {what}; making those can run any code, so Fieldmark does not",
        hint="If you trust where it comes from, save its tensors alone with\n"
        f"  python -c \"import torch; c = torch.load({str(file)!r}, map_location='cpu', weights_only=False); "
        "c = c.state_dict() if hasattr(c, 'state_dict') else c.get('state_dict', c.get('model', c)); "
        "c = c.state_dict() if hasattr(c, 'state_dict') else c; torch.save(dict(c), 'weights.pth')\"\n"
        "and give model.weights=weights.pth.",
    )


def _flat(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Tensor]]:
    """The dense tensors in nested mappings and lists, with the keys that lead to them."""
    if isinstance(value, Tensor):
        if value.layout is torch.strided and not value.is_quantized:
            yield name or "tensor", value.detach()
        return
    items: Sequence[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, list | tuple):
        items = list(enumerate(value))
    if depth < _DEEPEST:
        for key, item in items:
            yield from _flat(item, f"{name}.{key}" if name else str(key), depth + 1)
