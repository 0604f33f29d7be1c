"""What may not change while a search goes on: recorded in its journal, and compared whenever it is continued."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from fieldmark.core.recipe.load import recipe_from
from fieldmark.core.recipe.values import flat
from fieldmark.core.yaml_text import show
from fieldmark.studies.plan import StudyDataset
from fieldmark.studies.search.section import Sampler, Search


class Identity(BaseModel):
    """halving: its min_epochs and factor. base: the values of the base recipe. space: by name of dimension, its domain in words."""

    model_config = ConfigDict(frozen=True)

    sampler: Sampler
    seed: int
    halving: list[int] | None
    data: str
    dataset: str
    base: dict[str, Any]
    space: dict[str, str]

    @classmethod
    def of(cls, search: Search, dataset: StudyDataset) -> Identity:
        return cls(
            sampler=search.sampler,
            seed=search.seed,
            halving=None if search.halving is None else [search.halving.min_epochs, search.halving.factor],
            data=dataset.given,
            dataset=dataset.name,
            base=search.base.model_dump(mode="json"),
            space={dimension.name: dimension.domain.words for dimension in search.space.dimensions},
        )

    def changes(self, before: Identity) -> list[str]:
        """In words, how the search differs from what it was before."""
        changes = []
        for name in ("sampler", "seed", "halving", "data", "dataset"):
            was, now = (show(getattr(each, name)) for each in (before, self))
            if was != now:
                changes.append(f"{name} was {was}, and is {now}")
        old, new = (flat(recipe_from(each.base)) for each in (before, self))
        for key in dict.fromkeys([*old, *new]):
            if old.get(key) != new.get(key):
                changes.append(f"in the base, {key} was {show(old.get(key))}, and is {show(new.get(key))}")
        for name in dict.fromkeys([*before.space, *self.space]):
            was, now = before.space.get(name, "not searched over"), self.space.get(name, "not")
            if before.space.get(name) != self.space.get(name):
                changes.append(f"in the space, {name} was {was}, and is {now}")
        return changes
