"""Runs without their tables, charts and report, which take four fifths of the time of a tiny one."""

from pathlib import Path

from fieldmark.core.console import Console
from fieldmark.core.recipe.load import load_recipe
from fieldmark.ensembles.ensemble import make_ensemble
from fieldmark.ensembles.members import open_members
from fieldmark.ensembles.method import method_of
from fieldmark.evaluation.run import Run
from fieldmark.training.train import resume_run, train_run


def train(data: str | Path, *settings: str, recipe: str | Path = "default", out: Path) -> Run:
    return train_run(data, load_recipe(recipe, settings), out, Console(quiet=True))


def resume(path: str | Path) -> Run:
    return resume_run(path, Console(quiet=True))


def ensemble(*paths: str | Path, method: str = "mean", out: Path, **options: str) -> Run:
    return make_ensemble(open_members(paths), method_of(method, **options), out, Console(quiet=True))
