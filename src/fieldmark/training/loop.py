"""The one training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fieldmark.batches.train_batches import Batch, TrainBatches
from fieldmark.core.console import Console
from fieldmark.core.errors import Interrupted, TrainingFailed
from fieldmark.core.files import json_text, write_text
from fieldmark.core.randomness import key
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.run_folder import RunFolder, read_json_lines
from fieldmark.models.arithmetic import Arithmetic
from fieldmark.models.cost import parameters
from fieldmark.models.factory import Classifier
from fieldmark.training.average import AveragedWeights
from fieldmark.training.checkpoint import Checkpoints
from fieldmark.training.features import Feed, Infer, WholeNetwork, begin_stage
from fieldmark.training.interrupt import Interrupt
from fieldmark.training.loss import loss_of
from fieldmark.training.monitor import drops, is_better, note_best, note_plateau, out_of_patience
from fieldmark.training.optimizer import set_learning_rate
from fieldmark.training.position import Position, Weights
from fieldmark.training.schedule import factor
from fieldmark.training.stages import apply_stage, schedule_span, stage_at, stage_text, stages_of

Validate = Callable[[Infer], dict[str, float]]
"""Gives the figures of val by a prediction pass."""


@dataclass
class Training:
    """Everything that one phase of training works on."""

    model: Classifier
    optimizer: torch.optim.Optimizer
    batches: TrainBatches
    recipe: Recipe
    arithmetic: Arithmetic
    folder: RunFolder
    checkpoints: Checkpoints
    console: Console
    interrupt: Interrupt
    validate: Validate | None
    save_best: Callable[[Position], None]
    epochs: int
    """Epochs of this phase; the schedule runs over `recipe.train.epochs` whatever this is."""
    average: AveragedWeights | None
    position: Position = field(default_factory=Position)

    def state(self) -> dict[str, Any]:
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "position": asdict(self.position)}
        return state if self.average is None else state | {"average": self.average.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.position = Position(**state["position"])
        if self.average is not None:
            self.average.load_state(state["average"])
        self.cut_records()

    @contextmanager
    def weights(self, which: Weights) -> Iterator[None]:
        """Inside the `with` block the model has the trained or the averaged weights."""
        if which == "trained":
            yield
            return
        assert self.average is not None
        with self.average.in_place_of(self.model):
            yield

    def cut_records(self) -> None:
        """Cut metrics.jsonl and steps.jsonl back to the lines that the position knows of."""
        keep_lines(self.folder.metrics_file, self.position.metric_lines)
        keep_lines(self.folder.steps_file, self.position.step_lines)


def run_loop(training: Training) -> None:
    """Train until the epochs are over, patience runs out, the loss is not finite or a stop is asked for.

    Raises:
        Interrupted: a signal came; the state was saved after the step under way.
        TrainingFailed: the loss or a weight is not finite; the newest checkpoint holds the last good state.
    """
    model, optimizer, recipe, at = training.model, training.optimizer, training.recipe, training.position
    settings, device = recipe.train, training.arithmetic.device
    steps_per_epoch = training.batches.steps_per_epoch
    writer = _tensorboard(training)
    saved_at = time.monotonic()
    feed: Feed | None = None
    fed_stage = -1

    while at.epoch < training.epochs and not (training.validate is not None and out_of_patience(at, recipe)):
        stage = stage_at(recipe, at.epoch)
        apply_stage(model, stages_of(recipe)[stage])
        if feed is None or fed_stage != stage:
            feed, fed_stage = _feed(training, stage), stage
        loss_sum = torch.tensor(at.loss_sum, dtype=torch.float64, device=device)
        correct = torch.tensor(at.correct, dtype=torch.float64, device=device)
        with training.console.progress(f"epoch {at.epoch + 1}/{training.epochs}", "steps") as advance:
            started = time.perf_counter()
            for batch in feed.batches.epoch(at.epoch, at.step):
                torch.manual_seed(key(settings.seed, "step", at.phase, at.epoch, at.step))
                scale = _factor(training)
                set_learning_rate(optimizer, scale)
                learning_rate = recipe.optim.lr * scale
                count = len(batch.labels)
                loss = torch.zeros((), device=device)
                for part in batch.split(settings.micro_batch or count):
                    with training.arithmetic.autocast():
                        logits = feed.forward(part.images)
                    part_loss = loss_of(recipe.loss, logits, part.labels, part.other_labels, part.shares) * (len(part.labels) / count)
                    part_loss.backward()
                    loss += part_loss.detach()
                    correct += _right(logits.detach(), part)
                if settings.clip_norm is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
                optimizer.step()
                optimizer.zero_grad()

                loss_sum += loss * count
                at.step, at.steps, at.samples, at.samples_in_all = at.step + 1, at.steps + 1, at.samples + count, at.samples_in_all + count
                if training.average is not None and (at.epoch * steps_per_epoch + at.step) % training.average.settings.every == 0:
                    training.average.update(model)
                elapsed = time.perf_counter() - started
                line_due = at.steps % settings.log_every == 0
                save_due = training.interrupt.requested or time.monotonic() - saved_at > settings.checkpoint_minutes * 60
                if device.type == "cpu" or line_due or save_due:
                    at.loss_sum, at.correct = loss_sum.item(), correct.item()
                    _check_finite(training, at.loss_sum, learning_rate)
                if line_due:
                    rate = at.samples / (at.epoch_seconds + elapsed)
                    step_line = {"phase": at.phase, "step": at.steps, "epoch": at.epoch + at.step / steps_per_epoch, "loss": loss.item()}
                    _append(training.folder.steps_file, {**step_line, "lr": learning_rate, "images_per_second": round(rate, 1)})
                    at.step_lines += 1
                    if writer is not None:
                        writer.add_scalar(f"{at.phase}/step_loss", loss.item(), at.steps)
                if at.step % 5 == 0 or at.step == steps_per_epoch:
                    speed = at.samples / (at.epoch_seconds + elapsed)
                    advance(at.step, steps_per_epoch, f"{speed:.0f} images/s, loss {at.loss_sum / at.samples:.3f}")
                if save_due:
                    at.epoch_seconds, started = at.epoch_seconds + elapsed, time.perf_counter()
                    _save(training)
                    saved_at = time.monotonic()
                    if training.interrupt.requested:
                        raise Interrupted(f"stopped in epoch {at.epoch + 1} after step {at.step}; the state is saved")
            at.epoch_seconds += time.perf_counter() - started

        at.loss_sum, at.correct = loss_sum.item(), correct.item()
        learning_rate = recipe.optim.lr * _factor(training, at.step - 1)
        _check_finite(training, at.loss_sum, learning_rate)
        row: dict[str, Any] = {"phase": at.phase, "epoch": at.epoch + 1, "steps": at.steps, "lr": learning_rate}
        row |= {"train_loss": at.loss_sum / at.samples, "train_top1": 100 * at.correct / at.samples}
        if training.validate is not None:
            row |= _validate(training, training.validate, feed.infer)
        at.seconds += at.epoch_seconds
        row |= {"stage": stage + 1} if recipe.stages else {}
        row |= {"trainable": list(stages_of(recipe)[stage].trainable), "trainable_parameters": parameters(model)[1]}
        row |= {"images_per_second": round(at.samples / at.epoch_seconds, 1), "seconds": round(at.epoch_seconds, 3)}
        _append(training.folder.metrics_file, row)
        training.console.say(_epoch_text(row, training.epochs, best=at.best_epoch == at.epoch + 1))
        if writer is not None:
            for name, value in row.items():
                if isinstance(value, float):
                    writer.add_scalar(f"{at.phase}/{name}", value, at.epoch + 1)
            writer.flush()
        at.metric_lines, at.epoch, at.step = at.metric_lines + 1, at.epoch + 1, 0
        at.loss_sum, at.correct, at.samples, at.epoch_seconds = 0.0, 0.0, 0, 0.0
        _save(training)
        saved_at = time.monotonic()
        if training.interrupt.requested:
            raise Interrupted(f"stopped after epoch {at.epoch}; the state is saved")
    if writer is not None:
        writer.close()


def _feed(training: Training, stage: int) -> Feed:
    """What the stage begins or goes on with, said in the log where the recipe has stages; the stage is applied to the model."""
    model, recipe, at, console = training.model, training.recipe, training.position, training.console
    settings, (first, epochs) = stages_of(recipe)[stage], recipe.stage_spans()[stage]
    epochs, folder = min(epochs, training.epochs - first), training.folder.features
    whole = WholeNetwork(training.batches.with_views(settings.views), model, training.arithmetic)
    if not recipe.stages:
        return whole
    console.say(stage_text(model, recipe, stage, epochs))
    started = time.perf_counter()
    feed = begin_stage(settings, epochs, whole, folder, console, training.interrupt, recipe.train.micro_batch)
    at.epoch_seconds += time.perf_counter() - started
    return feed


def _right(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """How many images are told rightly; of one that is mixed, the share of the label that was said."""
    said = logits.argmax(dim=1)
    if batch.other_labels is None or batch.shares is None:
        return (said == batch.labels).sum()
    return (batch.shares * (said == batch.labels) + (1 - batch.shares) * (said == batch.other_labels)).sum()


def _factor(training: Training, step: int | None = None) -> float:
    """What lr is multiplied by at a step of this epoch, by default the next one: the schedule's factor and the stage's."""
    at, recipe, steps = training.position, training.recipe, training.batches.steps_per_epoch
    first, epochs = schedule_span(recipe, at.epoch)
    step = (at.epoch - first) * steps + (at.step if step is None else step)
    return stages_of(recipe)[stage_at(recipe, at.epoch)].lr_factor * factor(recipe.schedule, step, steps, epochs, drops(at, recipe))


def _validate(training: Training, validate: Validate, infer: Infer) -> dict[str, Any]:
    """The figures of val for the row of this epoch; the weights are kept when the monitored one is better than ever before.

    With an average that is used where it is better, both kinds of weights are looked at.
    """
    average, monitor = training.average, training.recipe.evaluate.monitor
    kinds: tuple[Weights, ...] = ("trained",) if average is None else ("averaged",)
    if average is not None and average.settings.use == "better":
        kinds = ("averaged", "trained")
    found: dict[Weights, dict[str, float]] = {}
    for kind in kinds:
        with training.weights(kind):
            found[kind] = validate(infer)
    chosen = kinds[0]
    for kind in kinds[1:]:
        if is_better(found[kind][monitor], found[chosen][monitor], monitor):
            chosen = kind
    row: dict[str, Any] = {f"val_{name}": value for name, value in found[chosen].items()}
    if average is not None:
        row |= {"weights": chosen} | {f"val_{monitor}_{kind}": found[kind][monitor] for kind in kinds[1:] and kinds}
    note_plateau(training.position, training.recipe, found[chosen])
    if note_best(training.position, training.recipe, found[chosen][monitor], chosen):
        with training.weights(chosen):
            training.save_best(training.position)
    return row


def _check_finite(training: Training, loss_sum: float, learning_rate: float) -> None:
    if math.isfinite(loss_sum):
        return
    _fail(training, f"the loss is not finite ({loss_sum}), at a learning rate of {learning_rate:g}")


def _save(training: Training) -> None:
    if not all(bool(torch.isfinite(parameter).all()) for parameter in training.model.parameters()):
        _fail(training, "a weight is not finite")
    training.checkpoints.save(training.position.steps, training.state())


def _fail(training: Training, what: str) -> None:
    at, newest = training.position, training.checkpoints.paths()[:1]
    kept = f"The last good state is {newest[0].name}" if newest else "No state was saved yet"
    raise TrainingFailed(
        f"{what}: epoch {at.epoch + 1}, step {at.step}.\n"
        f"{kept}. Lower optim.lr, lengthen the schedule's warmup, set train.clip_norm, or use train.precision=float32, in a new run."
    )


def _epoch_text(row: dict[str, Any], epochs: int, best: bool) -> str:
    text = f"epoch {row['epoch']:>3}/{epochs}  train loss {row['train_loss']:.3f} top-1 {row['train_top1']:5.1f} %"
    if "val_top1" in row:
        text += f"  val loss {row['val_nll']:.3f} top-1 {row['val_top1']:5.1f} %{' *' if best else '  '}"
    return f"{text}  lr {row['lr']:.2e}  {row['images_per_second']:.0f} images/s"


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json_text(row) + "\n")


def keep_lines(path: Path, count: int) -> None:
    """Cut a .jsonl file back to its first `count` lines: those that the restored state had written."""
    rows = read_json_lines(path)[:count]
    write_text(path, "".join(json_text(row) + "\n" for row in rows))


def _tensorboard(training: Training) -> Any:
    if not training.recipe.train.tensorboard:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(training.folder.tensorboard), purge_step=training.position.steps)
