"""The section `train`: the loop."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from fieldmark.core.recipe.section import Positive, Section, setting


class Train(Section):
    epochs: Annotated[int, Field(ge=1)] = setting(30, "passes over the training images")
    batch: Annotated[int, Field(ge=1)] = setting(64, "images per step, over all devices together")
    micro_batch: Annotated[int, Field(ge=1)] | None = setting(
        None, "images that go through the network at a time, their gradients added up to those of the batch; all of it by default"
    )
    seed: Annotated[int, Field(ge=0)] = setting(0, "seed of initial weights, order, augmentation and dropout")
    patience: Annotated[int, Field(ge=1)] | None = setting(
        None, "stop after this many epochs without a better val figure, in the last stage", "epochs"
    )
    refit: bool = setting(False, "afterwards train once more on train and val together, for the epochs that val chose")
    clip_norm: Positive | None = setting(None, "scale gradients down to at most this norm")
    checkpoint_minutes: Positive = setting(5.0, "time between checkpoints within an epoch", "minutes")
    keep_checkpoints: Annotated[int, Field(ge=1)] = setting(2, "how many of the newest checkpoints stay")
    log_every: Annotated[int, Field(ge=1)] = setting(10, "write a line to steps.jsonl this often", "steps")
    precision: Literal["auto", "float32", "bfloat16"] = setting("auto", "arithmetic of the network; auto measures")
    memory_format: Literal["auto", "contiguous", "channels-last"] = setting("auto", "layout of tensors in memory; auto measures")
    device: Literal["auto", "cpu", "cuda"] = setting("auto", "where to train; auto takes a GPU if there is one")
    threads: Annotated[int, Field(ge=1)] | None = setting(None, "CPU threads; all cores by default")
    tensorboard: bool = setting(False, "write TensorBoard events too (needs the extra fieldmark[tensorboard])")
