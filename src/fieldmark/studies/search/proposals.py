"""What a search tries next: Optuna's samplers and pruner, with what they know kept in a journal of whole steps.

The journal is a file of Optuna's operations, one a line as JSON, with nothing pickled in it. What belongs to one step of the search (a
trial with all of its settings, a figure with the decision on it) is written at once, and its last line says so; a step that was cut
short by a crash is dropped and done again. A proposal is a function of (seed, number of the trial, what the journal holds).
"""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from fieldmark.core.errors import InputError
from fieldmark.core.files import storage_error, whole_file
from fieldmark.core.randomness import key
from fieldmark.studies.search.section import Halving, Sampler
from fieldmark.studies.search.space import Choices, Dimension, Space

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages.journal import BaseJournalBackend
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as Asked

_NAME = "search"
_END = "end"
_FEWEST_FOR_IMPORTANCE = 20

State = Literal["running", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class Trial:
    """A trial as the journal knows it.

    number: from 1
    settings: the dotted recipe keys that were proposed
    values: val figures by epoch, of those epochs that counted; NaN where one was not finite
    value: the val figure of a finished one, that of its best epoch
    reason: why it failed
    """

    number: int
    state: State
    settings: dict[str, Any]
    is_base: bool
    values: dict[int, float]
    value: float | None
    reason: str | None

    @property
    def epochs(self) -> int:
        return max(self.values, default=0)

    @property
    def figure(self) -> float | None:
        """The val figure that it came to: its value, or that of its last epoch where it did not finish."""
        return self.value if self.value is not None or not self.values else self.values[self.epochs]


class Proposals:
    """The trials of one search: asks for the next, learns what they gave.

    One process at a time; the caller holds a lock.
    """

    def __init__(
        self, file: Path, space: Space, sampler: Sampler, halving: Halving | None, seed: int, maximise: bool, identity: dict[str, Any]
    ):
        """Open the journal in `file`, or begin one that records `identity`, what may not change while the search goes on.

        Raises InputError where Optuna is missing, or the journal is damaged in other places than its end.
        """
        optuna = import_optuna()
        self._space, self._sampler_name, self._seed = space, sampler, seed
        self._journal = Journal(file)
        self.was_cut = self._journal.was_cut
        with _quietly(), _readable(file):
            self._storage = optuna.storages.JournalStorage(cast("BaseJournalBackend", self._journal))
            if self._storage.get_all_studies():
                self._study = optuna.load_study(study_name=_NAME, storage=self._storage, pruner=_pruner(halving))
            else:
                with self._journal.step():
                    direction = "maximize" if maximise else "minimize"
                    self._study = optuna.create_study(storage=self._storage, study_name=_NAME, direction=direction, pruner=_pruner(halving))
                    self._study.set_user_attr("identity", identity)
            self._study_id = self._storage.get_study_id_from_name(_NAME)
            self.identity: dict[str, Any] = dict(self._study.user_attrs["identity"])
            self.all()

    def ask(self) -> Trial:
        """The next trial. The first one is the base where the space holds it."""
        number = len(self._trials())
        with _quietly(), self._journal.step():
            base = self._space.base_settings() if number == 0 else None
            if base is not None:
                in_base = [dimension for dimension in self._space.dimensions if dimension.key in base]
                self._study.enqueue_trial({each.name: _parameter(each, base[each.key]) for each in in_base if each.applies(base)})
            self._study.sampler = self._sampler(number)
            trial = self._study.ask()
            trial.set_user_attr("settings", self._space.settings(lambda dimension: _suggest(trial, dimension)))
            trial.set_user_attr("is_base", base is not None)
        return self.one(number + 1)

    def report(self, number: int, epoch: int, value: float, last: bool) -> bool:
        """Learn the val figure of an epoch. True: the trial is stopped here, since others were better. `last`: it is over anyway."""
        at = self._id(number)
        with _quietly(), self._journal.step():
            self._storage.set_trial_intermediate_value(at, epoch, value)
            stopped = not last and self._study.pruner.prune(self._study, self._storage.get_trial(at))
            if stopped:
                from optuna.trial import TrialState

                self._study.tell(number - 1, state=TrialState.PRUNED)
        return stopped

    def finish(self, number: int, value: float) -> None:
        with _quietly(), self._journal.step():
            self._study.tell(number - 1, value)

    def fail(self, number: int, reason: str) -> None:
        from optuna.trial import TrialState

        with _quietly(), self._journal.step():
            self._storage.set_trial_user_attr(self._id(number), "reason", reason)
            self._study.tell(number - 1, state=TrialState.FAIL)

    def one(self, number: int) -> Trial:
        return self._trial(self._storage.get_trial(self._id(number)))

    def all(self) -> list[Trial]:
        """Every trial in the order of numbers."""
        return [self._trial(trial) for trial in self._trials()]

    def importances(self) -> dict[str, float]:
        """Share of each dimension, by name, in what sets the best trials apart (PED-ANOVA, Watanabe et al., IJCAI 2023).

        Empty where too few trials have finished to say.
        """
        from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

        if sum(trial.state == "finished" for trial in self.all()) < _FEWEST_FOR_IMPORTANCE:
            return {}
        with _quietly():
            found = get_param_importances(self._study, evaluator=PedAnovaImportanceEvaluator())
        return {
            dimension.name: found[dimension.name]
            for dimension in self._space.dimensions
            if math.isfinite(found.get(dimension.name, math.nan))
        }

    def _trials(self) -> list[FrozenTrial]:
        return self._storage.get_all_trials(self._study_id, deepcopy=False)

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number - 1)

    def _trial(self, trial: FrozenTrial) -> Trial:
        states: dict[str, State] = {"RUNNING": "running", "COMPLETE": "finished", "PRUNED": "stopped", "FAIL": "failed"}
        attributes = trial.user_attrs
        state = states[trial.state.name]
        value = trial.value if state == "finished" else None
        return Trial(
            trial.number + 1,
            state,
            attributes["settings"],
            attributes["is_base"],
            dict(trial.intermediate_values),
            value,
            attributes.get("reason"),
        )

    def _sampler(self, number: int) -> BaseSampler:
        """A fresh one for each trial: what it proposes does not depend on what this process asked it before."""
        from optuna.samplers import RandomSampler, TPESampler

        seed = key(self._seed, "search", number) % 2**32
        if self._sampler_name == "random":
            return RandomSampler(seed=seed)
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


class Journal:
    """The storage behind Optuna's JournalStorage: its operations in a file, written a step at a time.

    Optuna's own JournalFileBackend reads the file too, and so do tools made for it.
    """

    def __init__(self, path: Path):
        """Read what there is. A cut end is dropped (`was_cut`). Raises InputError for damage elsewhere."""
        self._path = path
        self._logs, self.was_cut = _read(path)

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return self._logs[log_number_from:]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        self._logs += [json.loads(json.dumps(log)) for log in logs]

    @contextmanager
    def step(self) -> Iterator[None]:
        """What is appended inside the block reaches the disk together."""
        start = len(self._logs)
        yield
        if len(self._logs) == start:
            return
        self._logs[-1][_END] = True
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in self._logs[start:])
        try:
            with self._path.open("ab") as stream:
                stream.write(text.encode())
                stream.flush()
                os.fsync(stream.fileno())
        except OSError as error:
            raise storage_error(error, self._path) from error


def _read(path: Path) -> tuple[list[dict[str, Any]], bool]:
    """The operations up to the last whole step, and whether there was more; the file is cut to them."""
    if not path.exists():
        return [], False
    lines = path.read_bytes().split(b"\n")
    rows = [_operation(line) for line in lines[:-1]]
    ends = [number for number, row in enumerate(rows, start=1) if row is not None and row.get(_END)]
    whole = ends[-1] if ends else 0
    kept = [row for row in rows[:whole] if row is not None]
    if len(kept) < whole:
        line = next(number for number, row in enumerate(rows, start=1) if row is None)
        raise _damaged(path, f"line {line} is no step of a search")
    if whole == len(lines) - 1 and lines[-1] == b"":
        return kept, False
    with whole_file(path) as temporary:
        temporary.write_bytes(b"".join(line + b"\n" for line in lines[:whole]))
    return kept, True


def _operation(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and "op_code" in row else None


def _damaged(path: Path, why: str) -> InputError:
    return InputError(f"{path} is damaged: {why}", hint="Search anew with another --out; the runs of the trials are still in this folder.")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever Optuna stumbles over in a journal is damage to it."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise _damaged(path, f"{type(error).__name__}: {error}") from None


def import_optuna() -> Any:
    """Optuna, imported when a search begins. Raises InputError where it is not installed."""
    try:
        import optuna
    except ImportError:
        raise InputError("a search needs Optuna", hint="pip install 'fieldmark[search]'") from None
    return optuna


@contextmanager
def _quietly() -> Iterator[None]:
    """Optuna without its log and warnings, which are for those who write programs with it."""
    from optuna import logging

    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)


def _pruner(halving: Halving | None) -> BasePruner:
    from optuna.pruners import NopPruner, SuccessiveHalvingPruner

    if halving is None:
        return NopPruner()
    return SuccessiveHalvingPruner(min_resource=halving.min_epochs, reduction_factor=halving.factor)


def _suggest(trial: Asked, dimension: Dimension) -> Any:
    domain = dimension.domain
    if isinstance(domain, Choices):
        chosen = trial.suggest_categorical(dimension.name, domain.labels)
        return domain.values[domain.labels.index(chosen)]
    if domain.whole:
        return trial.suggest_int(dimension.name, int(domain.low), int(domain.high), step=int(domain.step or 1), log=domain.log)
    return trial.suggest_float(dimension.name, domain.low, domain.high, step=domain.step, log=domain.log)


def _parameter(dimension: Dimension, value: Any) -> Any:
    domain = dimension.domain
    return domain.labels[domain.values.index(value)] if isinstance(domain, Choices) else value
