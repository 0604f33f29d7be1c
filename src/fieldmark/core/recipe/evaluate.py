"""The section `evaluate`: validation and test."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from fieldmark.core.recipe.section import Monitor, Section, setting


class Evaluate(Section):
    batch: Annotated[int, Field(ge=1)] = setting(128, "images per step")
    monitor: Monitor = setting("top1", "the val metric that chooses the best epoch")
    resamples: Annotated[int, Field(ge=100, le=100_000)] = setting(1000, "bootstrap resamples behind each interval")
