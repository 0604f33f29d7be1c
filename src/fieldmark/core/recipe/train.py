"""The section `train`: the loop."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from fieldmark.core.recipe.section import Conflict, Positive, Section, setting


class Train(Section):
    epochs: Annotated[int, Field(ge=1)] = setting(30, "passes over the training images")
    batch: Annotated[int, Field(ge=1)] = setting(64, "images per step, over all devices together")
    micro_batch: Annotated[int, Field(ge=1)] | None = setting(
        None, "images per forward pass; gradients are accumulated over the batch; the whole batch by default"
    )
    seed: Annotated[int, Field(ge=0)] = setting(0, "seed of the initial weights, order, augmentation and dropout")
    patience: Annotated[int, Field(ge=1)] | None = setting(
        None, "in the last stage, stop after this many epochs without a better val metric", "epochs"
    )
    refit: bool = setting(False, "afterwards train again on train and val together, for the number of epochs that val chose")
    clip_norm: Positive | None = setting(None, "scale gradients down to at most this norm")
    checkpoint_minutes: Positive = setting(5.0, "time between checkpoints within an epoch", "minutes")
    keep_checkpoints: Annotated[int, Field(ge=0)] = setting(
        0, "how many of the newest training checkpoints a finished run keeps; until then at least two are kept, for resume"
    )
    log_every: Annotated[int, Field(ge=1)] = setting(10, "interval between lines of steps.jsonl", "steps")
    precision: Literal["auto", "float32", "bfloat16"] = setting("auto", "precision of the network; auto measures which is faster")
    memory_format: Literal["auto", "contiguous", "channels-last"] = setting("auto", "tensors in memory; auto measures which is faster")
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where to train; auto uses a GPU if there is one")
    threads: Annotated[int, Field(ge=1)] | None = setting(None, "CPU threads; all cores by default")
    tensorboard: bool = setting(False, "also write TensorBoard events (needs the extra fieldmark[tensorboard])")

    @model_validator(mode="after")
    def _micro_batch(self) -> Train:
        if self.micro_batch is not None and self.micro_batch >= self.batch:
            what = f"train.micro_batch ({self.micro_batch}) has no effect unless it is smaller than train.batch ({self.batch})"
            raise Conflict(what, "train.micro_batch", "train.batch")
        return self
