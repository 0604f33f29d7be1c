"""Names of tensors as other tools write them: which of a file's tensors are a network's, whatever stands before their names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from fieldmark.models.factory import Classifier

_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
"""What data-parallel training, torch.compile, sharding and checkpointing of activations put into names, in any place."""
_AVERAGED = ("ema", "teacher")
"""Parts of a prefix that stand for averaged weights, which are preferred."""


@dataclass(frozen=True)
class Located:
    """A file's tensors under Fieldmark's names.

    prefix: what stood before all of their names. wrappers: words that were taken out of names. elsewhere: names of the file's other
    tensors. native_classifier: whether the classifier of the architecture's library is among them.
    """

    tensors: dict[str, Tensor]
    prefix: str
    wrappers: tuple[str, ...]
    elsewhere: tuple[str, ...]
    native_classifier: bool

    def notes(self) -> Iterator[str]:
        """What was taken off names and left out, one sentence each."""
        if self.wrappers:
            yield f"taken out of the names of its tensors: {', '.join(self.wrappers)}"
        if self.prefix:
            yield f"its tensors are those whose names begin with {self.prefix}, which is taken off"
        if self.elsewhere:
            yield f"{len(self.elsewhere):,} tensors outside of it are left out: {named(self.elsewhere)}"


def locate(model: Classifier, tensors: Mapping[str, Tensor]) -> Located:
    """Find the model's tensors among those of a file.

    The prefix is the one under which most tensors have a name and a shape of the model, and more than half of its names are found; among
    equals averaged weights win, then those that come with a classifier, then the first. Without a match all tensors are taken for the
    library's.
    """
    backbone = {name: tensor for name, tensor in model.state_dict().items() if name.startswith("backbone.")}
    native = {name.removeprefix("backbone."): tensor for name, tensor in backbone.items()}
    plain, wrappers = _unwrapped(tensors, {part for name in backbone for part in name.split(".")})
    votes = {(True, ""): [0, 0], (False, ""): [0, 0]}
    classified = set[tuple[bool, str]]()
    for name, tensor in plain.items():
        for prefix, rest in _splits(name):
            for own_names, wanted in ((True, backbone), (False, native)):
                if rest in wanted:
                    vote = votes.setdefault((own_names, prefix), [0, 0])
                    vote[0] += wanted[rest].shape == tensor.shape
                    vote[1] += 1
                elif rest in (("head.weight",) if own_names else model.native_head.names):
                    classified.add((own_names, prefix))
    votes = {way: vote for way, vote in votes.items() if not way[1] or vote[1] > len(backbone) / 2}
    order = {way: place for place, way in enumerate(votes)}
    best = max(votes, key=lambda way: (votes[way], _is_averaged(way[1]), way in classified, -order[way]))
    if not any(votes[best]):
        best = (any(name.startswith("backbone.") for name in plain), "")
    own_names, prefix = best
    inside = {name.removeprefix(prefix): tensor for name, tensor in plain.items() if name.startswith(prefix)}
    elsewhere = tuple(name for name in plain if not name.startswith(prefix))
    renamed = inside if own_names else _renamed(model, inside)
    return Located(renamed, prefix, wrappers, elsewhere, not model.native_head.names.isdisjoint(inside))


def _unwrapped(tensors: Mapping[str, Tensor], own_parts: set[str]) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors without wrappers in their names, and the words that were taken out; as they are if two names would become one."""
    unknown = _WRAPPERS - own_parts
    found, taken = dict[str, Tensor](), dict[str, None]()
    for name, tensor in tensors.items():
        parts = name.split(".")
        taken.update(dict.fromkeys(part for part in parts if part in unknown))
        found[".".join(part for part in parts if part not in unknown)] = tensor
    return (found, tuple(taken)) if len(found) == len(tensors) else (dict(tensors), ())


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """Every way of parting a dotted name into a prefix and the rest."""
    yield "", name
    for place, character in enumerate(name):
        if character == ".":
            yield name[: place + 1], name[place + 1 :]


def _is_averaged(prefix: str) -> bool:
    return any(word in prefix for word in _AVERAGED)


def _renamed(model: Classifier, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in the naming of the architecture's library under Fieldmark's names, with its classifier only if it fits `head`."""
    renamed = {f"backbone.{name}": tensor for name, tensor in tensors.items() if name not in model.native_head.names}
    if linear := model.native_head.linear:
        if (weight := tensors.get(f"{linear}.weight")) is not None:
            renamed["head.weight"] = weight.flatten(1)  # some are 1 x 1 convolutions
        if (bias := tensors.get(f"{linear}.bias")) is not None:
            renamed["head.bias"] = bias
    return renamed


def named(names: Sequence[str], most: int = 10) -> str:
    """The first of the names, and a sign that there are more."""
    return ", ".join([*names[:most], *(["..."] if len(names) > most else [])])
