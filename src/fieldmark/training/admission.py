"""What can be wrong with a training that is asked for, checked before PyTorch is imported, so that it is said at once."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.extras import Extra, how_to_install
from fieldmark.core.files import check_creatable
from fieldmark.core.recipe.model import WEIGHTS
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.run_folder import refuse_existing
from fieldmark.datasets.loading import FoundData, find_data
from fieldmark.models.catalog import refuse_unknown
from fieldmark.models.weights_file import is_file


def admit(data: str | Path, recipe: Recipe, out: Path | None, console: Console) -> FoundData:
    """DATA, found and split. Raises InputError if the training cannot begin, as far as that is known without PyTorch."""
    if out is None:
        check_creatable(Path("runs", "run"))
    else:
        refuse_existing(out)
    refuse_unknown(recipe.model.name)
    weights = recipe.model.weights
    if is_file(weights) and not Path(weights).expanduser().exists():
        raise InputError(f"there is no weights file {weights}", hint=WEIGHTS)
    require_torch()
    if recipe.train.tensorboard:
        _require("tensorboard", "tensorboard", "train.tensorboard=true")
    return find_data(data, recipe.data, console)


def require_torch() -> None:
    """Raise InputError, with the command that installs it, if PyTorch is not there."""
    _require("torch", "train", "this command")


def _require(module: str, extra: Extra, what: str) -> None:
    if find_spec(module) is None:
        raise InputError(f"{what} needs {how_to_install(extra)}")
