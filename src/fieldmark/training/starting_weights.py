"""What a reader has to know of the weights that a training starts from: images that they know, and whether they are still the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fieldmark.core.errors import InputError
from fieldmark.core.manifest import StartingWeights
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.run_folder import RunFolder
from fieldmark.datasets.loading import LoadedData
from fieldmark.datasets.split_file import read_split
from fieldmark.models.weights_file import is_file, recorded, weights_file


def known_images(weights: StartingWeights | None, loaded: LoadedData, split_seed: int) -> list[str]:
    """A sentence or two on images of test and val that the run of these weights, or one that it started from in turn, was trained on.

    None if there are none, or the weights are not in a run folder. An image is known by its bytes.
    """
    said = []
    for folder in _runs_behind(weights):
        try:
            trained, seed = _trained_on(folder), folder.recipe().data.split_seed
        except InputError as error:
            said.append(f"Whether test and val are new to the weights of {folder.path} cannot be known: {error.problems[0]}.")
            continue
        counts = {split: [loaded.content.hashes[row] in trained for row in loaded.rows(split)] for split in ("test", "val")}
        found = [f"{sum(known):,} of the {len(known):,} images of {split}" for split, known in counts.items() if any(known)]
        if not found:
            continue
        was = "was" if sum(map(sum, counts.values())) == 1 else "were"
        instead = f"data.split_seed={seed}, as in that run" if seed != split_seed else "a test folder that both runs have"
        said.append(
            f"{' and '.join(found)} {was} in the training of {folder.path}, whose weights this run starts from, "
            f"so the figures are optimistically biased. The same data with {instead}, or other weights, avoid that."
        )
    return said


def _runs_behind(weights: StartingWeights | None) -> Iterator[RunFolder]:
    """The run in whose folder the weights are, the run that it started from, and so on, as far as they are still there."""
    seen = set()
    while weights is not None:
        file = Path(weights.file)
        folder = RunFolder(file.parent.parent)
        if folder.path in seen or file != folder.best_weights or not folder.split_file.is_file():
            return
        try:
            if recorded(file) != weights:
                return
            seen.add(folder.path)
            yield folder
            weights = folder.manifest().weights
        except (OSError, InputError):
            return


def _trained_on(folder: RunFolder) -> set[str]:
    """The hashes of the images that a run's weights have learnt. Raises InputError if its recipe or split table is damaged."""
    stored = read_split(folder.split_file)
    learnt = ("train", "val") if folder.recipe().train.refit else ("train",)
    return {digest for digest, split in zip(stored["hash"], stored["split"], strict=True) if digest and split in learnt}


def changed_weights(recipe_file: Path, recipe: Recipe) -> list[str]:
    """A sentence if `recipe_file` is that of a run, and `recipe`, read from it, names a file that has changed since the run began."""
    folder = RunFolder(recipe_file.parent)
    if recipe_file.name != folder.recipe_file.name or not folder.manifest_file.is_file() or not is_file(recipe.model.weights):
        return []
    try:
        before = folder.manifest().weights
        if before is None or recipe.model.weights != folder.recipe().model.weights:
            return []
        now = recorded(weights_file(recipe.model.weights))
    except (OSError, InputError):  # the training itself says what is wrong
        return []
    if now.sha256 == before.sha256:
        return []
    return [f"caution: {now.file} has changed since {folder.path} began with it, so this training does not repeat that run"]
