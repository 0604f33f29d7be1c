from collections.abc import Callable

import pytest

from fieldmark.core.errors import InputError, Problem
from fieldmark.core.recipe.load import load_recipe


@pytest.fixture(scope="session")
def refused() -> Callable[..., tuple[Problem, ...]]:
    """The problems of a recipe with settings that must be refused."""

    def problems(*settings, recipe="default"):
        with pytest.raises(InputError) as caught:
            load_recipe(recipe, settings)
        return caught.value.problems

    return problems


@pytest.fixture(scope="session")
def problems(refused) -> Callable[..., list[str]]:
    """The same as the user reads them."""
    return lambda *settings, **more: [str(problem) for problem in refused(*settings, **more)]
