"""The part of a network that training does not change: found for any architecture, run on its own, and resumed from.

A boundary is a module of the backbone that is frozen, like everything that runs before it: no weights are trained, no running statistics
adapt, nothing is dropped at random. If the rest of the network depends on all this only through the boundary's output, that output is all
that must be stored of an image.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.flop_counter import FlopCounterMode

from fieldmark.models.evaluating import evaluating
from fieldmark.models.execution import Execution
from fieldmark.models.factory import Classifier

_RATES = ("drop_prob", "prob", "dropout")
_TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-2}
_WORTHWHILE = 0.1
"""Share of the multiply-adds. Less, such as one convolution with large maps, is read back no faster than it is computed."""


@dataclass
class _Span:
    """When a module of the backbone runs, in ticks of one forward pass, and what it returns."""

    name: str
    module: nn.Module
    start: int
    end: int = -1
    runs: int = 1
    output: Tensor | None = None
    """For one image, without values; None unless it is a single floating-point tensor."""
    work: int = 0
    """Floating-point operations of the network up to its end."""


class Prefix:
    """A network split at a boundary; it uses the current weights of the model that it was made from.

    Call its methods like the model itself, within the execution's autocast.
    """

    def __init__(self, model: Classifier, size: int, execution: Execution, boundary: _Span, before: Iterable[_Span], share: float):
        assert boundary.output is not None
        self.boundary = boundary.name
        """Name of the module in the backbone; empty if it is the whole backbone."""
        self.share = share
        """Share of the network's multiply-adds."""
        self.like = boundary.output
        """On the meta device: shape and dtype of the boundary's output for one image, (1, ...)."""
        self._model, self._module, self._unchanging = model, boundary.module, tuple(_unchanging(model.backbone))
        # NaN reveals any part that depends on the images other than through the boundary.
        self._nowhere = torch.full((1, 3, size, size), torch.nan, device=execution.device, dtype=execution.dtype)
        self._stubs = {
            span.module: torch.full_like(span.output, torch.nan, device=execution.device) for span in before if span.output is not None
        }

    @property
    def text(self) -> str:
        return f"the backbone up to {self.boundary}" if self.boundary else "the whole backbone"

    @torch.no_grad()
    def compute(self, images: Tensor) -> Tensor:
        """The boundary's output for images as the model takes them, (n, ...); nothing after the boundary is run."""
        try:
            with self.watching(_stop):
                self._model(images)
        except _Reached as reached:
            return reached.output
        raise AssertionError(f"the model does not run {self.boundary}")

    def resume(self, features: Tensor) -> Tensor:
        """Logits (n, C) from what `compute` returned, with gradients for everything after the boundary."""
        return self.resume_with_features(features)[0]

    def resume_with_features(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (n, C) and pooled features (n, D), as Classifier.forward_with_features."""
        with _giving({**self._stubs, self._module: features}):
            return self._model.forward_with_features(self._nowhere)

    @torch.inference_mode()
    def resume_in_evaluation(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """`resume_with_features` in evaluation mode, without gradients; the model returns to its earlier mode."""
        with evaluating(self._model):
            return self.resume_with_features(features)

    @contextmanager
    def watching(self, receive: Callable[[Tensor], None]) -> Iterator[None]:
        """Inside the `with` block `receive` is called with the boundary's output whenever the model runs."""
        hook = self._module.register_forward_hook(lambda _module, _inputs, output: receive(output))
        try:
            yield
        finally:
            hook.remove()

    def digest(self) -> str:
        """Hexadecimal digest of all values in the backbone that do not change in training, including the prefix's."""
        hashed, tensors = hashlib.blake2b(digest_size=16), self._model.backbone.state_dict()
        for name in self._unchanging:
            hashed.update(name.encode())
            hashed.update(tensors[name].cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return hashed.hexdigest()


def find_prefix(model: Classifier, size: int, execution: Execution) -> Prefix | str:
    """The longest prefix of a model, which is on its device and in the training mode of a stage, or why none is worth keeping.

    A parameter that requires gradients is trained; a batch norm in evaluation mode is held. Boundaries are tried on two random images,
    the last one first: resumed from there, the network must return what it returns for the images (in evaluation mode, because training
    may draw at random; within 1e-4 of the largest value in float32, 2e-2 in bfloat16). The model is not changed.
    """
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    images = images.to(execution.device, execution.dtype, memory_format=execution.memory_format)
    with torch.no_grad(), execution.autocast():
        with evaluating(model):
            spans, work = _trace(model, images[:1])
            expected = model.forward_with_features(images)
        first_change, change = _first_change(model.backbone, spans)
        candidates = [span for span in spans.values() if span.output is not None and span.end < first_change]
        candidates.sort(key=lambda span: span.end)
        while candidates and (boundary := candidates.pop()).work >= _WORTHWHILE * work:
            prefix = Prefix(model, size, execution, boundary, _outermost(spans.values(), boundary), boundary.work / work)
            if _is_sound(prefix, model, images, expected, _TOLERANCE[execution.precision]):
                return prefix
            # Whatever in a block bypasses this module also bypasses the others in it.
            block = _block_of(model.backbone, boundary.name)
            candidates = [span for span in candidates if not (block and span.name.startswith(f"{block}."))]
    return f"hardly any of the network runs before the first part that changes in training: {change}"


def _trace(model: Classifier, image: Tensor) -> tuple[dict[str, _Span], int]:
    """The modules of the backbone that run, by name, and the floating-point operations of the network, for one image."""
    clock, spans = itertools.count(), dict[str, _Span]()

    def begin(name: str, module: nn.Module) -> None:
        if name in spans:
            spans[name].runs += 1
        else:
            spans[name] = _Span(name, module, next(clock))

    def finish(name: str, output: object) -> None:
        span = spans[name]
        span.end, span.work = next(clock), counter.get_total_flops()
        span.output = None
        if span.runs == 1 and isinstance(output, Tensor) and output.is_floating_point() and output.shape[:1] == (1,):
            span.output = torch.empty_like(output, device="meta")

    hooks = []
    for name, module in model.backbone.named_modules():
        hooks.append(module.register_forward_pre_hook(lambda module, _inputs, name=name: begin(name, module)))
        hooks.append(module.register_forward_hook(lambda _module, _inputs, output, name=name: finish(name, output)))
    try:
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # fused attention is not counted on the CPU
            model(image)
    finally:
        for hook in hooks:
            hook.remove()
    return spans, counter.get_total_flops()


def _first_change(backbone: nn.Module, spans: Mapping[str, _Span]) -> tuple[int, str]:
    """The tick at which a forward pass first meets something that changes from step to step, and what that is.

    A parameter that its module's parents use directly, without running the module, is met when they begin.
    """
    first, what = spans[""].end + 1, "only the head is trained"
    for name, module in backbone.named_modules():
        if (change := _change(name, module)) is None:
            continue
        owner = name
        while owner not in spans:
            owner = owner.rpartition(".")[0]
        if spans[owner].start < first:
            first, what = spans[owner].start, change
    return first, what


def _change(name: str, module: nn.Module) -> str | None:
    """What changes from step to step in the module itself, not counting its children."""
    for own, parameter in module.named_parameters(recurse=False):
        if parameter.requires_grad:
            return f"{name}.{own} is trained" if name else f"{own} is trained"
    if module.training and any(own.startswith("running_") for own, _ in module.named_buffers(recurse=False)):
        return f"the batch norm {name} adapts to batches; frozen_norm=held in the stage would hold it"
    rates = [getattr(module, attribute, 0) for attribute in _RATES] + ([module.p] if isinstance(module, _DropoutNd) else [])
    if module.training and any(isinstance(rate, float) and rate > 0 for rate in rates):
        return f"{name} drops at random in training; model.drop_path=0 would stop it"
    return None


def _unchanging(backbone: nn.Module) -> Iterator[str]:
    """Names of frozen parameters and held buffers."""
    for name, module in backbone.named_modules():
        tensors = [own for own, parameter in module.named_parameters(recurse=False) if not parameter.requires_grad]
        if not module.training:
            tensors += [own for own, _ in module.named_buffers(recurse=False) if own not in module._non_persistent_buffers_set]
        yield from (f"{name}.{own}" if name else own for own in tensors)


def _outermost(spans: Iterable[_Span], boundary: _Span) -> Iterator[_Span]:
    """Modules that end before the boundary begins and can be replaced by their outputs; none lies inside another."""
    last_end = -1
    for span in spans:  # in the order in which they begin
        if span.output is not None and last_end < span.end < boundary.start:
            yield span
            last_end = span.end


def _block_of(backbone: nn.Module, name: str) -> str:
    """Name of the innermost module that contains another and is more than a list; empty for the backbone itself."""
    while isinstance(backbone.get_submodule(name := name.rpartition(".")[0]), (nn.Sequential, nn.ModuleList)):
        pass
    return name


def _is_sound(prefix: Prefix, model: Classifier, images: Tensor, expected: tuple[Tensor, Tensor], tolerance: float) -> bool:
    """Whether the network, resumed from the boundary, returns the expected outputs."""
    features = prefix.compute(images)
    try:
        with evaluating(model):
            found = prefix.resume_with_features(features)
    except Exception:  # architectures fail in many ways on images and parts that do not fit
        return False
    return all(
        got.shape == wanted.shape and torch.allclose(got, wanted, rtol=0, atol=tolerance * float(wanted.abs().max()))
        for got, wanted in zip(found, expected, strict=True)
    )


@contextmanager
def _giving(outputs: Mapping[nn.Module, Tensor]) -> Iterator[None]:
    """Inside the `with` block these modules only return these outputs."""
    own = {module: vars(module).get("forward") for module in outputs}
    for module, output in outputs.items():
        vars(module)["forward"] = lambda *_, output=output, **__: output
    try:
        yield
    finally:
        for module, forward in own.items():
            if forward is None:
                del vars(module)["forward"]
            else:
                vars(module)["forward"] = forward


class _Reached(Exception):
    def __init__(self, output: Tensor):
        super().__init__()
        self.output = output


def _stop(output: Tensor) -> None:
    raise _Reached(output)
