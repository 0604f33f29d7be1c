"""Cached features: if a stage does not change the first part of the network, that part runs once for each view of an image.

Training starts from its output, which is stored bit for bit. The result is therefore the same as on the images of the same views, up to
rounding: the last bits of an image's features depend on its batch and its place in it, because vectorised kernels compute the last few
elements of a tensor with other instructions, and batches of other sizes use other kernels. If the same batches go through the network, on
the same machine with as many threads, the result is the same bit for bit.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fieldmark.batches.train_batches import Batch, TrainBatches
from fieldmark.core.console import Console
from fieldmark.core.errors import Interrupted
from fieldmark.core.randomness import key
from fieldmark.core.recipe.augment import Augment, NoCrop, NoMixing
from fieldmark.core.recipe.stages import Stage
from fieldmark.datasets.content import file_hash
from fieldmark.evaluation.split import SplitPixels
from fieldmark.models.execution import Execution
from fieldmark.models.factory import Classifier
from fieldmark.models.prefix import Prefix, find_prefix
from fieldmark.training.feature_store import Form, StoredFeatures, recording
from fieldmark.training.interrupt import Interrupt
from fieldmark.training.objective import Network

_SPARE_BYTES = 2**30
"""Left free on the disk for checkpoints and predictions."""


@dataclass(frozen=True)
class FeaturePlan:
    """What is computed once: `prefix`, for each of `views` views of `images` images."""

    prefix: Prefix
    views: int
    images: int

    @property
    def bytes(self) -> int:
        return self.views * self.images * self.prefix.like.nbytes

    @property
    def text(self) -> str:
        views = "one view" if self.views == 1 else f"each of {self.views} views"
        share = f"{self.prefix.share:.0%} of the network's multiply-adds"
        return f"{self.prefix.text} ({share}) runs once for {views} of {self.images:,} images; its output takes {_size(self.bytes)}"


class CachedFeatures:
    """A stage's features: `batches` to train on, the `network` that continues from them, and `predict` for the prediction pass over val."""

    def __init__(self, batches: CachedBatches, prefix: Prefix, model: Classifier, execution: Execution, folder: Path):
        self.batches = batches
        self.network = Network(prefix.resume_with_features, execution)
        self._prefix, self._model, self._execution, self._folder = prefix, model, execution, folder
        self._predicted: tuple[SplitPixels, int, str] | None = None
        self._features: StoredFeatures | None = None

    def predict(self, split: SplitPixels, batch: int, console: Console) -> tuple[np.ndarray, np.ndarray]:
        """Logits and features of a split, as SplitPixels.logits_and_features returns them.

        The first call runs the whole network and stores the prefix's output if the disk has room for it. Later calls start from it as long
        as split, batch and the weights of the prefix are the same; a run that averages its weights may swap in others.
        """
        asked = (split, batch, self._prefix.digest())
        if self._features is not None and asked == self._predicted:
            return self._resumed(self._features, len(split.sound), batch)
        needed = len(split.sound) * self._prefix.like.nbytes
        if self._features is not None or not len(split.sound) or needed > _room(self._folder):
            return split.logits_and_features(self._model, self._execution, batch, console)
        path = self._folder / "split.npy"
        with recording(path, len(split.sound)) as recorder, self._prefix.watching(recorder.add):
            answers = split.logits_and_features(self._model, self._execution, batch, console)
        self._predicted, self._features = asked, StoredFeatures(path, recorder.form, self._execution.device)
        return answers

    def _resumed(self, features: StoredFeatures, count: int, batch: int) -> tuple[np.ndarray, np.ndarray]:
        parts = []
        for start in range(0, count, batch):
            with self._execution.autocast():
                answers = self._prefix.resume_in_evaluation(features.take(np.arange(start, min(start + batch, count))))
            parts.append([answer.float().cpu().numpy() for answer in answers])
        logits, pooled = (np.concatenate(each) for each in zip(*parts, strict=True))
        return logits, pooled


@dataclass(frozen=True)
class WholeNetwork:
    """The usual case: images and the whole network. Attributes as in CachedFeatures."""

    batches: TrainBatches
    model: Classifier
    execution: Execution

    @property
    def network(self) -> Network:
        return Network(self.model.forward_with_features, self.execution)

    def predict(self, split: SplitPixels, batch: int, console: Console) -> tuple[np.ndarray, np.ndarray]:
        return split.logits_and_features(self.model, self.execution, batch, console)


Route = WholeNetwork | CachedFeatures
"""How a stage runs the network: on images, or from cached features."""
Predict = Callable[[SplitPixels, int, Console], tuple[np.ndarray, np.ndarray]]
"""Logits and features of a split, from batches of the given size."""


class CachedBatches:
    """Batches of features instead of images: of the same rows, in the same order, as TrainBatches gives them."""

    def __init__(self, batches: TrainBatches, features: StoredFeatures, views: int):
        self.batch, self.steps_per_epoch = batches.batch, batches.steps_per_epoch
        self._features, self._views, self._places = features, views, batches.places
        self._labels = batches.labels[batches.rows].astype(np.int64)

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        """The batches of an epoch from `first_step` on; their images are features."""
        count = len(self._labels)
        for chosen in self._places(epoch, first_step):
            images = self._features.take(epoch % self._views * count + chosen)
            yield Batch(images, torch.from_numpy(self._labels[chosen]).to(images.device))


def begin_stage(
    stage: Stage, epochs: int, whole: WholeNetwork, folder: Path, console: Console, interrupt: Interrupt, micro_batch: int | None
) -> Route:
    """How the stage is trained; if it freezes something but still runs the whole network, the console says why.

    Features of other stages are deleted. Arguments and errors as in cached_features.
    """
    model = whole.model
    if trains_all(model):
        found: CachedFeatures | str = ""
    else:
        found = cached_features(stage, epochs, whole.batches, model, whole.execution, folder, console, interrupt, micro_batch)
    if isinstance(found, CachedFeatures):
        return found
    shutil.rmtree(folder, ignore_errors=True)
    if found:
        console.say(f"the whole network runs each time: {found}")
    return whole


def cached_features(
    stage: Stage,
    epochs: int,
    batches: TrainBatches,
    model: Classifier,
    execution: Execution,
    folder: Path,
    console: Console,
    interrupt: Interrupt,
    micro_batch: int | None = None,
) -> CachedFeatures | str:
    """Compute a stage's features, or reuse those that an interrupted run left in `folder`; or return why the stage has none.

    Args:
        epochs: how long the stage is.
        model: on its device, with the stage applied, and with the weights that the stage begins or continues with.
        folder: for features alone; any of another stage in it are deleted.
        micro_batch: images per forward pass, if fewer than the batch.

    Raises Interrupted if a stop is requested meanwhile, and InputError if the folder cannot be written.
    """
    plan = plan_features(stage, epochs, batches, model, execution)
    if isinstance(plan, str):
        return plan
    size = min(micro_batch or batches.batch, batches.batch)
    path = folder / f"{_identity(plan, batches, execution, size):016x}.npy"
    if not path.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        if plan.bytes > (room := _room(folder.parent)):
            return f"the features need {_size(plan.bytes)}, but only {_size(room)} is free on the disk of {folder.parent}"
        folder.mkdir(exist_ok=True)
    console.say(f"{plan.text} in {folder}")
    features = _features(plan, batches, execution, size, path, console, interrupt)
    return CachedFeatures(CachedBatches(batches, features, plan.views), plan.prefix, model, execution, folder)


def plan_features(stage: Stage, epochs: int, batches: TrainBatches, model: Classifier, execution: Execution) -> FeaturePlan | str:
    """The features that a stage computes only once, or why there are none; arguments as in cached_features. Nothing is written."""
    prefix = find_prefix(model, batches.size, execution)
    if isinstance(prefix, str):
        return prefix
    if not isinstance(batches.augment.mix, NoMixing):
        return "images are mixed before the network sees them; augment.mix.name=none turns that off"
    views = 1 if draws_nothing(batches) else stage.views
    if views is None:
        return "each epoch draws new views; set views in the stage to train on a fixed number of them"
    if epochs <= views:
        shown = "its only epoch sees no view twice" if epochs == 1 else f"its {epochs} epochs see none of {views} views twice"
        return f"{shown}; more epochs, or fewer views in the stage, would"
    return FeaturePlan(prefix, views, len(batches.rows))


def trains_all(model: Classifier) -> bool:
    """Whether the stage applied to the model freezes nothing."""
    return all(parameter.requires_grad for parameter in model.parameters())


def draws_nothing(batches: TrainBatches) -> bool:
    """Whether every epoch shows the same view of an image."""
    still = batches.augment.model_copy(update={"mix": NoMixing()}) == Augment(crop=NoCrop(), flip=0.0)
    windows = batches.frame.windows
    return still and (windows is None or not windows.reach.any())


def _identity(plan: FeaturePlan, batches: TrainBatches, execution: Execution, size: int) -> int:
    """Hash of everything that a run's features depend on and that may differ between stages and phases, or if resumed elsewhere."""
    rows, kind = file_hash(batches.rows.tobytes()), f"{execution.device.type} {execution.precision} {execution.layout}"
    return key(plan.prefix.digest(), plan.prefix.boundary, plan.views, rows, batches.seed, kind, size, torch.__version__)


def _features(
    plan: FeaturePlan, batches: TrainBatches, execution: Execution, size: int, path: Path, console: Console, interrupt: Interrupt
) -> StoredFeatures:
    """The prefix's output for `size` images at a time, view after view, each in the order of the rows: stored already, or computed now."""
    count = len(batches.rows)

    def computed(view: int, start: int) -> Tensor:
        rows = batches.rows[start : start + size]
        images = batches.make_view(np.resize(rows, size), view).images  # padded: kernels differ by batch size
        with execution.autocast():
            return plan.prefix.compute(images)[: len(rows)]

    if path.is_file():
        first = computed(0, 0)
        features = StoredFeatures(path, Form.of(first), execution.device)
        if torch.equal(features.take(np.arange(len(first))), first):
            return features
    with recording(path, plan.views * count) as recorder, console.progress("computing features", "images") as advance:
        for view in range(plan.views):
            for start in range(0, count, size):
                if interrupt.requested:
                    raise Interrupted("stopped while features were computed; they will be computed again")
                recorder.add(computed(view, start))
                advance(view * count + min(start + size, count), plan.views * count)
    return StoredFeatures(path, recorder.form, execution.device)


def _room(folder: Path) -> int:
    """Bytes that features may take on the disk that holds the folder."""
    return max(shutil.disk_usage(folder).free - _SPARE_BYTES, 0)


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
