"""Parts of a network, chosen by word, name or pattern in stages and learning-rate factors; a description of what is trained.

A name is that of a module or parameter in the architecture's library, with or without the prefix `backbone.`; it selects everything below
it. A pattern with * or ? is matched against the names of parameters. Words take precedence: if a backbone has its own module `head` or
`norm`, use `backbone.head` or `backbone.norm`.
"""

from __future__ import annotations

import fnmatch
import itertools
import re
from collections.abc import Iterator, Sequence

from timm.layers import evo_norm, filter_response_norm, grn, inplace_abn, norm, norm_act
from torch import nn

from fieldmark.core.errors import InputError
from fieldmark.core.names import suggest
from fieldmark.models.factory import Classifier

WORDS = ("all", "head", "norm", "last-block")
"""Every parameter, the classifier, scales and shifts of all normalisation layers, the last block of the backbone."""
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_TIMM_NORMS = frozenset(module.__name__ for module in (evo_norm, filter_response_norm, grn, inplace_abn, norm, norm_act))
_STAGE = re.compile(r"(?!pos_)(\w+_)?(block|stage|layer|level|cell|feature|network|transformer)s?_?\d*(_\w+)?|s\d+")
_BLOCK = re.compile(r"(b|block|stage|layer|level)_?\d+")
_WILDCARDS = "*?["
_LISTED = 12


def named_parts(model: Classifier, words: Sequence[str], key: str) -> frozenset[str]:
    """Names of the parameters (`backbone.*`, `head.*`) that any of the words selects.

    Raises one InputError for all words that select nothing in this model; `key` is the setting they come from.
    """
    found: set[str] = set()
    problems = []
    for word in words:
        names = _find(model, word)
        found |= names
        if not names:
            problems.append(f"{key}: {_why_nothing(model, word)}")
    if problems:
        parts = [_shown(name) for name in _opened(model)]
        raise InputError(*problems, hint=f"The parts of {model.architecture}: {', '.join(parts)}. Words: {', '.join(WORDS)}.")
    return frozenset(found)


def norm_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The normalisation layers by name, those of timm with an activation included."""
    return {name: module for name, module in model.named_modules() if _is_norm(module)}


def last_block(backbone: nn.Module) -> str | None:
    """Name of the last block of the last stage, or None if none is recognised.

    A block has more than one convolution or linear layer: a last 1 x 1 convolution is not one, wherever the library puts it. If the stages
    hold only plain layers, as in VGG, it is the last of these. A dense block of DenseNet is one block, like a fire module.
    """
    stages = [name for name, child in backbone.named_children() if _STAGE.fullmatch(name) and _layers(child) > 1]
    if not stages:
        return None
    name, module = stages[-1], backbone.get_submodule(stages[-1])
    if _members(module) and not _blocks(module):
        return next(f"{name}.{each}" for each, layer in reversed(_members(module)) if _layers(layer))
    while blocks := _blocks(module):
        name, module = f"{name}.{blocks[-1][0]}", blocks[-1][1]
    return name


def describe_trainable(model: Classifier) -> str:
    """The trained and the held parts in one line, as short as the names of modules allow."""
    parameters = dict(model.named_parameters())
    trained = {name for name, parameter in parameters.items() if parameter.requires_grad}
    total, count = sum(p.numel() for p in parameters.values()), sum(parameters[name].numel() for name in trained)
    if count == total:
        return f"all {total:,} parameters are trained"
    shown, held = _whole(model, "", trained, set(parameters)), _whole(model, "", set(parameters) - trained, set(parameters))
    norms = [{f"{name}.{each}" for each, _ in layer.named_parameters(recurse=False)} for name, layer in norm_layers(model).items()]
    affine = set().union(*norms)
    if affine <= trained:
        rest = set(parameters) - affine
        others = _whole(model, "", trained - affine, rest)
        if len(others) + 1 < len(shown):
            held = _whole(model, "", rest - trained, rest)
            held = ["the rest of the backbone" if name == "backbone" else name for name in held]
            shown = [*others, f"all {sum(map(bool, norms))} norms"]
    return f"{count:,} of {total:,} parameters are trained: {_listed(shown)}; held: {_listed(held)}"


def _find(model: Classifier, word: str) -> set[str]:
    names = [name for name, _ in model.named_parameters()]
    if word == "all":
        return set(names)
    if word == "norm":
        layers = norm_layers(model).items()
        return {f"{layer}.{name}" for layer, module in layers for name, _ in module.named_parameters(recurse=False)}
    if word == "last-block":
        block = last_block(model.backbone)
        return set() if block is None else {name for name in names if name.startswith(f"backbone.{block}.")}
    if word == "head":
        return {name for name in names if name.startswith("head.")}
    return {name for name in names if any(_matches(each, word) for each in (name, name.removeprefix("backbone.")))}


def _matches(name: str, word: str) -> bool:
    if any(sign in word for sign in _WILDCARDS):
        return fnmatch.fnmatchcase(name, word)
    return name == word or name.startswith(f"{word}.")


def _why_nothing(model: Classifier, word: str) -> str:
    if word == "norm":
        return f"{model.architecture} has no normalisation layers with parameters, so 'norm' selects nothing"
    if word == "last-block":
        return f"{model.architecture} has no recognisable last block; name its modules instead"
    if any(sign in word for sign in _WILDCARDS):
        return f"no parameter of {model.architecture} matches {word!r}"
    if {word, f"backbone.{word}"} & dict(model.named_modules()).keys():
        return f"{word!r} of {model.architecture} has no parameters"
    known = dict.fromkeys(WORDS)
    for name, _ in model.named_parameters():
        known |= dict.fromkeys(itertools.accumulate(name.removeprefix("backbone.").split("."), "{}.{}".format))
    return f"{model.architecture} has no {word!r}{suggest(word, list(known))}"


def _is_norm(module: nn.Module) -> bool:
    return isinstance(module, _NORMS) or any(kind.__module__ in _TIMM_NORMS for kind in type(module).__mro__)


def _layers(module: nn.Module) -> int:
    """Number of weights of convolutions and linear layers."""
    return sum(parameter.ndim > 1 for parameter in module.parameters())


def _blocks(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The members with more than one layer, and others of the same class as these."""
    members = _members(module)
    classes = {type(member) for _, member in members if _layers(member) > 1} - {nn.Sequential, nn.ModuleList}
    return [(name, member) for name, member in members if _layers(member) > 1 or (_layers(member) and type(member) in classes)]


def _members(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """The stages of a container or the blocks of a stage, by their names in it; empty for a block."""
    if isinstance(module, (nn.Sequential, nn.ModuleList)):
        return list(module.named_children())
    if isinstance(blocks := getattr(module, "blocks", None), (nn.Sequential, nn.ModuleList)):
        return [(f"blocks.{name}", block) for name, block in blocks.named_children()]
    return [(name, child) for name, child in module.named_children() if _BLOCK.fullmatch(name)]


def _opened(model: Classifier) -> Iterator[str]:
    """The modules of the backbone that have parameters, with containers of stages expanded."""
    for name, child in model.backbone.named_children():
        if not any(True for _ in child.parameters()):
            continue
        if isinstance(child, (nn.Sequential, nn.ModuleList)) and _STAGE.fullmatch(name) and not re.search(r"\d$", name):
            yield from (f"backbone.{name}.{index}" for index, member in child.named_children() if any(True for _ in member.parameters()))
        else:
            yield f"backbone.{name}"


def _whole(module: nn.Module, name: str, chosen: set[str], among: set[str]) -> list[str]:
    """The fewest modules and parameters, in order, that cover all `chosen` names and no others `among` the names considered."""
    inside = {f"{name}.{each}" if name else each for each, _ in module.named_parameters()} & among
    if not inside & chosen:
        return []
    if name and inside <= chosen:
        return [name]
    own = [f"{name}.{each}" if name else each for each, _ in module.named_parameters(recurse=False)]
    parts = [each for each in own if each in chosen]
    for each, child in module.named_children():
        parts += _whole(child, f"{name}.{each}" if name else each, chosen, among)
    return parts


def _listed(names: Sequence[str]) -> str:
    """Names as a user may write them, with runs of numbered siblings merged, at most _LISTED of them."""
    runs: list[tuple[str, int | None, int | None]] = []
    for name in map(_shown, names):
        stem = name.rstrip("0123456789")
        number = int(name[len(stem) :]) if len(stem) < len(name) else None
        if runs and number is not None and runs[-1][0] == stem and runs[-1][2] == number - 1:
            runs[-1] = (stem, runs[-1][1], number)
        else:
            runs.append((stem, number, number))
    texts = [f"{stem}{'' if first is None else first}{'' if first == last else f'–{last}'}" for stem, first, last in runs]
    if len(texts) > _LISTED:
        texts = [*texts[:_LISTED], f"{len(texts) - _LISTED} more"]
    return ", ".join(texts)


def _shown(name: str) -> str:
    """Without `backbone.`, unless the name would then be one of the words."""
    short = name.removeprefix("backbone.")
    return name if name != short and short.partition(".")[0] in WORDS else short
