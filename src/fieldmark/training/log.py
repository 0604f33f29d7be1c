"""Output during training: progress, steps.jsonl, metrics.jsonl, the console and TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fieldmark.core.console import Advance, Console
from fieldmark.core.files import json_text, write_text
from fieldmark.core.run_folder import RunFolder, read_json_lines
from fieldmark.training.meter import Meter
from fieldmark.training.pace import Pace
from fieldmark.training.position import Position

_PROGRESS_EVERY = 5
_EPOCHS_ABOUT = "after each epoch: loss and top-1 of train and of val (*: the best so far)"


class TrainingLog:
    """
    epochs, steps_per_epoch: of the phase
    every: steps between two lines of steps.jsonl
    """

    def __init__(self, folder: RunFolder, console: Console, epochs: int, steps_per_epoch: int, every: int, tensorboard: bool):
        self._folder, self._console = folder, console
        self._epochs, self._steps_per_epoch, self._every = epochs, steps_per_epoch, every
        self._tensorboard = tensorboard
        self._writer: Any = None
        self._advance: Advance | None = None
        self._pace = Pace()
        self._began: tuple[float, int] | None = None

    @contextmanager
    def epoch(self, at: Position, stage: int) -> Iterator[None]:
        """Show progress inside the `with` block, in which the steps of an epoch are taken."""
        self._pace.begin(stage)
        if self._began is None:
            self._began = time.monotonic(), self._done(at)
            self._console.say(_EPOCHS_ABOUT)
        if self._tensorboard and self._writer is None:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self._folder.tensorboard), purge_step=at.steps)
        with self._console.progress(f"epoch {at.epoch + 1}/{self._epochs}", "steps") as self._advance:
            yield

    def after_step(self, at: Position, meter: Meter, images: int) -> None:
        """`images` are those of the step. Raises TrainingFailed if a line is due and the loss is not finite."""
        if note := self._pace.after_step(images):
            self._console.say(note)
        if at.steps % self._every == 0:
            meter.settle()
            line: dict[str, Any] = {"phase": at.phase, "step": at.steps, "epoch": at.epoch + at.step / self._steps_per_epoch}
            line |= {"loss": meter.step_loss, "lr": meter.learning_rate, "images_per_second": round(meter.images_per_second, 1)}
            _append(self._folder.steps_file, line)
            at.step_lines += 1
            if self._writer is not None:
                self._writer.add_scalar(f"{at.phase}/step_loss", line["loss"], at.steps)
        if self._advance is not None and (at.step % _PROGRESS_EVERY == 0 or at.step == self._steps_per_epoch):
            self._advance(
                at.step, self._steps_per_epoch, f"{meter.images_per_second:.0f} images/s, loss {meter.mean_loss:.3f}", self._left(at)
            )

    def after_epoch(self, at: Position, row: dict[str, Any]) -> None:
        _append(self._folder.metrics_file, row)
        at.metric_lines += 1
        self._console.say(_epoch_text(row, self._epochs, best=at.best_epoch == at.epoch + 1, left=self._left(at)))
        if self._writer is not None:
            for name, value in row.items():
                if isinstance(value, float):
                    self._writer.add_scalar(f"{at.phase}/{name}", value, at.epoch + 1)
            self._writer.flush()

    def _done(self, at: Position) -> int:
        """Steps of this phase."""
        return at.epoch * self._steps_per_epoch + at.step

    def _left(self, at: Position) -> float | None:
        """Seconds until the last epoch of this phase, by the pace since it was begun or resumed, val included."""
        if self._began is None or (done := self._done(at) - self._began[1]) <= 0:
            return None
        return (time.monotonic() - self._began[0]) / done * (self._epochs * self._steps_per_epoch - self._done(at))

    def cut_back(self, at: Position) -> None:
        """Cut metrics.jsonl and steps.jsonl back to the lines that were written up to this position."""
        keep_lines(self._folder.metrics_file, at.metric_lines)
        keep_lines(self._folder.steps_file, at.step_lines)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


def _epoch_text(row: dict[str, Any], epochs: int, best: bool, left: float | None) -> str:
    """At most 80 columns; what it leaves out is in metrics.jsonl."""
    text = f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}  train {row['train_loss']:.3f} {row['train_top1']:5.1f} %"
    if "val_top1" in row:
        text += f"  val {row['val_nll']:.3f} {row['val_top1']:5.1f} %{' *' if best else '  '}"
    text += f"  {row['images_per_second']:.0f} img/s"
    return f"{text}  {_about(left)} left" if left and row["epoch"] < epochs else text


def _about(seconds: float) -> str:
    """12 s, 13 min, 2.5 h."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def _append(path: Path, row: dict[str, Any]) -> None:
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json_text(row) + "\n")


def keep_lines(path: Path, count: int) -> None:
    """Cut a .jsonl file back to its first `count` lines: those that the restored state had written."""
    rows = read_json_lines(path)[:count]
    write_text(path, "".join(json_text(row) + "\n" for row in rows))
