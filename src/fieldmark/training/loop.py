"""The one training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fieldmark.core.console import Console
from fieldmark.core.errors import Interrupted, TrainingFailed
from fieldmark.core.files import json_text, write_text
from fieldmark.core.randomness import key
from fieldmark.core.run_folder import RunFolder, read_json_lines
from fieldmark.core.schema import Recipe
from fieldmark.data.batches import TrainBatches
from fieldmark.models.arithmetic import Arithmetic
from fieldmark.training.checkpoint import Checkpoints
from fieldmark.training.interrupt import Interrupt
from fieldmark.training.loss import loss_of
from fieldmark.training.optimizer import set_learning_rate
from fieldmark.training.schedule import factor

Validate = Callable[[], dict[str, float]]
HIGHER_IS_BETTER = {"top1": True, "macro_f1": True, "nll": False}


@dataclass
class Position:
    """Where training stands; with the weights and the optimiser it is all that the next step depends on."""

    phase: str = "fit"
    epoch: int = 0
    step: int = 0
    """Steps done in this epoch."""
    steps: int = 0
    """Steps done in all phases."""
    loss_sum: float = 0.0
    correct: float = 0.0
    samples: int = 0
    samples_in_all: int = 0
    best_epoch: int = 0
    best_value: float | None = None
    stale_epochs: int = 0
    metric_lines: int = 0
    step_lines: int = 0
    epoch_seconds: float = 0.0
    seconds: float = 0.0
    """Time spent in training steps so far."""


@dataclass
class Training:
    """Everything that one phase of training works on."""

    model: nn.Module
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
    position: Position = field(default_factory=Position)

    def state(self) -> dict[str, Any]:
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "position": asdict(self.position)}

    def load_state(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.position = Position(**state["position"])
        self.cut_records()

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
    model.train()

    while at.epoch < training.epochs and not _out_of_patience(training):
        loss_sum = torch.tensor(at.loss_sum, dtype=torch.float64, device=device)
        correct = torch.tensor(at.correct, dtype=torch.float64, device=device)
        with training.console.progress(f"epoch {at.epoch + 1}/{training.epochs}", "steps") as advance:
            started = time.perf_counter()
            for batch in training.batches.epoch(at.epoch, at.step):
                torch.manual_seed(key(settings.seed, "step", at.phase, at.epoch, at.step))
                scale = _factor(training)
                set_learning_rate(optimizer, scale)
                learning_rate = recipe.optim.lr * scale
                with training.arithmetic.autocast():
                    logits = model(batch.images)
                loss = loss_of(recipe.loss, logits, batch.labels)
                loss.backward()
                if settings.clip_norm is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
                optimizer.step()
                optimizer.zero_grad()

                count = len(batch.labels)
                loss_sum += loss.detach() * count
                correct += (logits.detach().argmax(dim=1) == batch.labels).sum()
                at.step, at.steps, at.samples, at.samples_in_all = at.step + 1, at.steps + 1, at.samples + count, at.samples_in_all + count
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
            row |= {f"val_{name}": value for name, value in training.validate().items()}
            _note_best(training, row)
        at.seconds += at.epoch_seconds
        row |= {"trainable": ["all"], "images_per_second": round(at.samples / at.epoch_seconds, 1), "seconds": round(at.epoch_seconds, 3)}
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


def _factor(training: Training, step: int | None = None) -> float:
    """The schedule at a step of this epoch, by default the next one."""
    at, steps = training.position, training.batches.steps_per_epoch
    step = at.epoch * steps + (at.step if step is None else step)
    return factor(training.recipe.schedule, step, steps, training.recipe.train.epochs)


def _note_best(training: Training, row: dict[str, Any]) -> None:
    """Keep the weights when the monitored figure is better than ever before; a figure that is not finite never is."""
    at, monitor = training.position, training.recipe.evaluate.monitor
    value = row[f"val_{monitor}"]
    better = math.isfinite(value) and (
        at.best_value is None or (value > at.best_value if HIGHER_IS_BETTER[monitor] else value < at.best_value)
    )
    if better:
        at.best_value, at.best_epoch, at.stale_epochs = value, at.epoch + 1, 0
        training.save_best(at)
    else:
        at.stale_epochs += 1


def _out_of_patience(training: Training) -> bool:
    patience = training.recipe.train.patience
    return training.validate is not None and patience is not None and training.position.stale_epochs >= patience


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
        f"{kept}. Lower optim.lr, lengthen schedule.warmup_epochs, set train.clip_norm, or use train.precision=float32, in a new run."
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
