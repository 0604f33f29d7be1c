"""Fewer epochs than a recipe was made for: stages, warmup, steps of the rate and averaging are shortened until they fit.

That holds for what a preset or a default says. What the user wrote is never changed: if it does not fit, it is refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from fieldmark.core.recipe.ema import ExponentialAverage
from fieldmark.core.recipe.layers import Layer, Setting
from fieldmark.core.recipe.merge import merged_settings, nested
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.recipe.schedule import MultiStep, Step, Warmup
from fieldmark.core.recipe.train import Train

_ORIGIN = "shortened for train.epochs"
_WARMUP_SHARE = 0.2
"""Of the shortest stretch of the schedule, for a warmup that is longer than that."""
_TIMED = ("train", "schedule", "stages", "ema")
"""Sections that say what happens when."""


def fitted(layers: Sequence[Layer]) -> tuple[Layer, list[str]]:
    """Settings to put on top of these layers so that the recipe fits into its epochs, and a sentence on each; none if it fits already."""
    merged = merged_settings(layers, [])
    recipe = _timing(list(merged.values()))
    if recipe is None:
        return [], []
    own = {key for key, setting in merged.items() if not setting.preset}
    made_for = [setting.value for layer in layers for setting in layer if setting.key == "train.epochs" and setting.preset]
    return _Fitting(recipe, own, made_for[-1] if made_for else Train().epochs).result()


def _timing(settings: Sequence[Setting]) -> Recipe | None:
    """A recipe with the sections that say what happens when, each valid by itself; None if one is not."""
    values = nested(setting for setting in settings if setting.key.partition(".")[0] in _TIMED)
    fields = Recipe.model_fields
    try:
        found = {name: TypeAdapter(fields[name].rebuild_annotation()).validate_python(_as_tuples(values[name])) for name in values}
    except ValidationError:
        return None
    return Recipe.model_construct(**{name: found.get(name, fields[name].get_default(call_default_factory=True)) for name in _TIMED})


def _as_tuples(value: Any) -> Any:
    """Lists as the tuples that a strict schema expects."""
    if isinstance(value, dict):
        return {key: _as_tuples(item) for key, item in value.items()}
    return tuple(_as_tuples(item) for item in value) if isinstance(value, list) else value


class _Fitting:
    """`own` are the keys that the user set, which stay; the recipe was made for `made_for` epochs."""

    def __init__(self, recipe: Recipe, own: set[str], made_for: int):
        self._recipe, self._own, self._made_for = recipe, own, made_for
        self._epochs = recipe.train.epochs

    def result(self) -> tuple[Layer, list[str]]:
        settings, said = dict[str, Any](), list[str]()
        for change, sentence in (*self._stages(), *self._warmup(), *self._steps_of_the_rate()):
            settings |= change
            said.append(sentence)
        if settings:
            for change, sentence in self._average():
                settings |= change
                said.append(sentence)
        return [Setting(key, value, _ORIGIN) for key, value in settings.items()], said

    def _stages(self) -> Iterator[tuple[dict[str, Any], str]]:
        stages = self._recipe.stages
        if "stages" in self._own or not stages or all(epochs > 0 for _, epochs in self._recipe.stage_spans()):
            return
        before = self._recipe.model_copy(update={"train": Train(epochs=self._made_for)}).stage_spans()
        lengths = _shares([epochs for _, epochs in before], self._epochs)
        kept = [stage.model_copy(update={"epochs": epochs}) for stage, epochs in zip(stages, lengths, strict=True) if epochs]
        kept[0] = kept[0].model_copy(update={"restart": True})
        self._recipe = self._recipe.model_copy(update={"stages": tuple(kept)})
        words = ", ".join(str(epochs) for epochs in lengths)
        said = f"stages take {words} epochs instead of {', '.join(str(epochs) for _, epochs in before)}: {self._because}"
        yield {"stages": [stage.model_dump(mode="json", exclude_defaults=True) for stage in kept]}, said

    def _warmup(self) -> Iterator[tuple[dict[str, Any], str]]:
        schedule, shortest = self._recipe.schedule, min(epochs for _, epochs in self._recipe.schedule_spans())
        if not isinstance(schedule, Warmup) or "schedule.warmup_epochs" in self._own or not 0 < shortest <= schedule.warmup_epochs:
            return
        warmup = _WARMUP_SHARE * shortest
        self._recipe = self._recipe.model_copy(update={"schedule": schedule.model_copy(update={"warmup_epochs": warmup})})
        because = f"a stage takes {shortest} epoch{'s' * (shortest > 1)}" if self._recipe.stages else self._because
        said = f"schedule.warmup_epochs is {warmup:g} instead of {schedule.warmup_epochs:g}: {because}"
        yield {"schedule.warmup_epochs": warmup}, said

    def _steps_of_the_rate(self) -> Iterator[tuple[dict[str, Any], str]]:
        schedule, longest = self._recipe.schedule, max(epochs for _, epochs in self._recipe.schedule_spans())
        change: dict[str, Any]
        if isinstance(schedule, Step) and "schedule.every" not in self._own and schedule.every >= longest:
            every = -(-longest // 2)
            change, said = {"schedule.every": every}, f"schedule.every is {every} instead of {schedule.every}"
        elif isinstance(schedule, MultiStep) and "schedule.after" not in self._own and schedule.after[-1] >= longest:
            after = sorted({min(max(round(each * longest / self._made_for), 1), longest - 1) for each in schedule.after})
            change, said = {"schedule.after": after}, f"schedule.after is {after} instead of {list(schedule.after)}"
        else:
            return
        if longest == 1:
            if any(key.startswith("schedule.") and not key.startswith("schedule.warmup") for key in self._own):
                return
            change = {"schedule.name": "constant", "schedule.warmup_epochs": schedule.warmup_epochs}
            change |= {"schedule.warmup_factor": schedule.warmup_factor} if schedule.warmup_epochs else {}
            said = f"schedule.name is constant instead of {schedule.name}"
        yield change, f"{said}: {self._because}"

    def _average(self) -> Iterator[tuple[dict[str, Any], str]]:
        """An average that is updated often enough, and begins as averages with a warmup do, is of the trained weights."""
        ema = self._recipe.ema
        if not isinstance(ema, ExponentialAverage) or {"ema.every", "ema.warmup"} & self._own or (ema.every == 1 and ema.warmup):
            return
        every = max(1, round(ema.every * self._epochs / self._made_for))
        yield {"ema.every": every, "ema.warmup": True}, f"ema.every is {every} instead of {ema.every}, with ema.warmup: {self._because}"

    @property
    def _because(self) -> str:
        return f"train.epochs={self._epochs} leaves no room for more"


def _shares(lengths: Sequence[int], total: int) -> list[int]:
    """`total` divided in proportion to the lengths, at least 1 each; the last alone get 1 if there are more lengths than that."""
    if total < len(lengths):
        return [0] * (len(lengths) - total) + [1] * total
    exact = [length * total / sum(lengths) for length in lengths]
    shares = [max(1, int(each)) for each in exact]
    while sum(shares) != total:
        step = 1 if sum(shares) < total else -1
        able = [index for index in range(len(shares)) if shares[index] + step >= 1]
        chosen = max(able, key=lambda index: step * (exact[index] - shares[index]))
        shares[chosen] += step
    return shares
