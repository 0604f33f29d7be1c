"""The result of a search: trials.csv, best.yaml, and the text and table for the console."""

from __future__ import annotations

import csv
import io
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import RenderableType

from fieldmark.core.console import table
from fieldmark.core.errors import InputError
from fieldmark.core.files import write_text
from fieldmark.core.recipe.values import to_yaml
from fieldmark.core.run_folder import RunFolder
from fieldmark.core.summary import SplitMetrics
from fieldmark.scoring.metrics import METRICS
from fieldmark.studies.plan import StudyDataset
from fieldmark.studies.search.proposals import Trial
from fieldmark.studies.search.section import Search
from fieldmark.studies.search.space import label

_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The trials by number. `best`: the finished one with the best val figure; None if none has finished.

    monitor: the figure of val that chooses: top1, macro_f1 or nll; `maximise`: whether more of it is better
    keys: the recipe keys that are searched over
    val, test: what `best` reached, from its summary.json; None if that has gone
    epochs, epochs_in_all: how many epochs the trials that are over were trained for, and would have been without halving
    importances: by name of dimension; empty with few trials
    """

    folder: Path
    dataset: StudyDataset
    monitor: str
    maximise: bool
    keys: tuple[str, ...]
    trials: tuple[Trial, ...]
    best: Trial | None
    val: SplitMetrics | None
    test: SplitMetrics | None
    epochs: int
    epochs_in_all: int
    importances: dict[str, float]

    @property
    def over(self) -> list[Trial]:
        """The trials that are not under way."""
        return [trial for trial in self.trials if trial.state != "running"]

    @property
    def finished(self) -> list[Trial]:
        """The best first; among equals, the earlier."""
        return _ranked(self.trials, self.maximise)

    @property
    def best_file(self) -> Path:
        return self.folder / "best.yaml"


def run_path(out: Path, dataset: StudyDataset, number: int) -> Path:
    """The run folder of a trial."""
    return out / "runs" / dataset.name / f"trial-{number:04d}"


def best_of(trials: Sequence[Trial], maximise: bool) -> Trial | None:
    """The finished trial with the best val figure; among equals, the earliest."""
    return next(iter(_ranked(trials, maximise)), None)


def _ranked(trials: Sequence[Trial], maximise: bool) -> list[Trial]:
    sign = -1 if maximise else 1
    return sorted((trial for trial in trials if trial.value is not None), key=lambda trial: sign * (trial.value or 0.0))


def read_result(search: Search, dataset: StudyDataset, out: Path, trials: Sequence[Trial], importances: dict[str, float]) -> SearchResult:
    """Every finished run has its test figures; those of the chosen trial only are read."""
    best = best_of(trials, search.maximise)
    val: SplitMetrics | None = None
    test: SplitMetrics | None = None
    if best is not None:
        with suppress(InputError):
            summary = RunFolder(run_path(out, dataset, best.number)).summary()
            val, test = summary.val, summary.test
    halved = [trial for trial in trials if trial.state in ("finished", "stopped")]
    without_halving = [trial.epochs if trial.state == "finished" else search.space.recipe(trial.settings).train.epochs for trial in halved]
    return SearchResult(
        folder=out,
        dataset=dataset,
        monitor=search.monitor,
        maximise=search.maximise,
        keys=tuple(dict.fromkeys(dimension.key for dimension in search.space.dimensions)),
        trials=tuple(trials),
        best=best,
        val=val,
        test=test,
        epochs=sum(trial.epochs for trial in halved),
        epochs_in_all=sum(without_halving),
        importances=importances,
    )


def write_trials(search: Search, dataset: StudyDataset, out: Path, trials: Sequence[Trial]) -> None:
    write_text(out / "trials.csv", _csv(search, dataset, out, trials))


def write_best(search: Search, dataset: StudyDataset, out: Path, trials: Sequence[Trial], best: Trial) -> None:
    write_text(out / "best.yaml", _best_recipe(search, dataset, out, trials, best))


def figure_title(monitor: str) -> str:
    """`val top-1 (%)`: the head of a column, or the name of an axis."""
    metric = METRICS[monitor]
    return f"val {metric.name} ({metric.unit})"


def figure_text(monitor: str, value: float | None, split: str = "val") -> str:
    """`val top-1 93.1 %`."""
    metric = METRICS[monitor]
    return f"{split} {metric.name} {'not finite' if value is None else f'{value:.{metric.digits}f} {metric.unit}'}"


def settings_text(settings: dict[str, Any]) -> str:
    return ", ".join(f"{key} {_short(value)}" for key, value in settings.items())


def failure_text(what: str, failures: Mapping[int, str]) -> str:
    """Why a search has failed: `what`, then each reason with the numbers of its trials."""
    trials: dict[str, list[str]] = {}
    for number, reason in sorted(failures.items()):
        trials.setdefault(reason, []).append(str(number))
    told = [f"  {reason} (trial{'s' * (len(numbers) > 1)} {', '.join(numbers)})" for reason, numbers in trials.items()]
    return "\n".join([f"{what}:", *told, "Once this is fixed, the same command continues the search."])


def result_text(result: SearchResult) -> list[RenderableType]:
    """The best ten trials, which of them is chosen, and how far its figure can be trusted."""
    counted = _counted(result.trials)
    if result.best is None or result.best.value is None:
        return [f"no trial has finished yet ({counted})"]
    digits = METRICS[result.monitor].digits
    shown = result.finished[:_SHOWN]
    shown += [trial for trial in result.finished[_SHOWN:] if trial.is_base]
    rows = [
        (
            f"{trial.number}{', the base' if trial.is_base else ''}",
            f"{trial.value:.{digits}f}",
            trial.epochs,
            *(_short(trial.settings[key]) if key in trial.settings else "" for key in result.keys),
        )
        for trial in shown
    ]
    said: list[RenderableType] = [
        "",
        table(f"the best trials ({counted})", ("trial", figure_title(result.monitor), "epochs", *result.keys), rows),
        "",
    ]
    if result.epochs < result.epochs_in_all:
        said.append(f"halving saved {result.epochs_in_all - result.epochs:,} of {result.epochs_in_all:,} epochs")
    value = result.best.value if result.val is None else result.val.estimate(result.monitor)[0]
    val = f"{figure_text(result.monitor, value)}{_interval(result, result.val)}"
    said.append(f"chosen on val: trial {result.best.number}, {val}")
    alike = _alike(result)
    if alike and result.val is not None:
        said.append(f"{alike} more trials lie within that interval: val, with {result.val.n:,} images, hardly distinguishes them")
    if result.test is not None:
        test = figure_text(result.monitor, result.test.estimate(result.monitor)[0], "test")
        said.append(
            f"{test}{_interval(result, result.test)}: reported for this trial only. Its val figure, the best of many, is "
            "optimistically biased"
        )
    if result.importances:
        shares = sorted(result.importances.items(), key=lambda pair: -pair[1])
        said.append(f"what distinguishes the best trials (PED-ANOVA): {', '.join(f'{key} {share:.0%}' for key, share in shares)}")
    said.append(f"its recipe is {result.best_file}: {_command(result.dataset, result.best_file)}")
    said.append(f"all trials are in {result.folder / 'trials.csv'} and {result.folder / 'figures' / 'search.png'}")
    return said


def _interval(result: SearchResult, metrics: SplitMetrics | None) -> str:
    if metrics is None:
        return ""
    digits = METRICS[result.monitor].digits
    _, low, high = metrics.interval(result.monitor)
    return "" if low is None or high is None else f" [{low:.{digits}f}, {high:.{digits}f}]"


def _alike(result: SearchResult) -> int:
    """How many other finished trials have a val figure within the interval of the best."""
    if result.val is None:
        return 0
    _, low, high = result.val.interval(result.monitor)
    end = low if result.maximise else high
    if end is None:
        return 0
    sign = 1 if result.maximise else -1
    return sum(sign * (trial.value or 0.0) >= sign * end for trial in result.finished) - 1


def _counted(trials: Sequence[Trial]) -> str:
    words = {"finished": "finished", "stopped": "stopped early", "failed": "failed", "running": "under way"}
    counts = Counter[str](trial.state for trial in trials)
    return ", ".join(f"{counts[state]} {word}" for state, word in words.items() if counts[state]) or "none begun"


def _csv(search: Search, dataset: StudyDataset, out: Path, trials: Sequence[Trial]) -> str:
    keys = list(dict.fromkeys(dimension.key for dimension in search.space.dimensions))
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["trial", "state", f"val_{search.monitor}", "epochs", "base", *keys, "reason", "run"])
    for trial in trials:
        values = ["" if trial.settings.get(key, ...) is ... else label(trial.settings[key]) for key in keys]
        run = run_path(out, dataset, trial.number).relative_to(out)
        figure = "" if trial.figure is None else repr(trial.figure)
        writer.writerow([trial.number, trial.state, figure, trial.epochs, "yes" if trial.is_base else "", *values, trial.reason, run])
    return stream.getvalue()


def _best_recipe(search: Search, dataset: StudyDataset, out: Path, trials: Sequence[Trial], best: Trial) -> str:
    """The whole recipe of a trial, with a header that says where it comes from. It is independent of presets, which may change."""
    searched = "".join(f"#   {key}: {_short(value)}\n" for key, value in best.settings.items())
    return (
        f"# best: {figure_text(search.monitor, best.value)}, trial {best.number} of a search on {dataset.name} ({_counted(trials)})\n"
        "#\n"
        "# The figure is the best of many and therefore optimistically biased; trust test.\n"
        "#\n"
        f"{searched}"
        "#\n"
        f"#   {_command(dataset, out / 'best.yaml')}\n"
        f"{to_yaml(search.space.recipe(best.settings))}"
    )


def _command(dataset: StudyDataset, recipe: Path) -> str:
    return f"fieldmark train {shlex.quote(dataset.given)} --recipe {shlex.quote(str(recipe))}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else label(value)
