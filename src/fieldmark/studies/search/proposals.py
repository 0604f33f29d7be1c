"""What a search tries next: Optuna's samplers and pruner, with what they know kept in a journal.

A proposal is a function of (seed, number of the trial, what the journal holds).
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from fieldmark.core.errors import InputError
from fieldmark.core.extras import needed_for
from fieldmark.core.randomness import key
from fieldmark.studies.search.identity import Identity
from fieldmark.studies.search.journal import Journal, damaged
from fieldmark.studies.search.section import Halving, Search
from fieldmark.studies.search.space import Choices, Dimension

if TYPE_CHECKING:
    from optuna.pruners import BasePruner
    from optuna.samplers import BaseSampler
    from optuna.storages.journal import BaseJournalBackend
    from optuna.trial import FrozenTrial
    from optuna.trial import Trial as Asked

_NAME = "search"
_FEWEST_FOR_IMPORTANCE = 20

State = Literal["running", "finished", "stopped", "failed"]


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A trial as the journal records it.

    number: from 1
    settings: the dotted recipe keys that were proposed
    values: val figures by epoch, of those epochs that counted; NaN if one was not finite
    value: the val figure of a finished trial, that of its best epoch
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
        """The val figure that it reached: its value, or that of its last epoch if it did not finish."""
        return self.value if self.value is not None or not self.values else self.values[self.epochs]


class Proposals:
    """The trials of one search: proposes the next, and learns how they went.

    One process at a time; the caller holds a lock.
    """

    def __init__(self, file: Path, search: Search, identity: Identity):
        """Open the journal in `file`, or begin one that records `identity`.

        Raises InputError if Optuna is missing, or the journal is damaged anywhere except at its end.
        """
        optuna = import_optuna()
        self._space, self._sampler_name, self._seed = search.space, search.sampler, search.seed
        pruner = _pruner(search.halving)
        self._journal = Journal(file)
        self.was_cut = self._journal.was_cut
        with _quietly(), _readable(file):
            self._storage = optuna.storages.JournalStorage(cast("BaseJournalBackend", self._journal))
            if self._storage.get_all_studies():
                self._study = optuna.load_study(study_name=_NAME, storage=self._storage, pruner=pruner)
            else:
                with self._journal.step():
                    direction = "maximize" if search.maximise else "minimize"
                    self._study = optuna.create_study(storage=self._storage, study_name=_NAME, direction=direction, pruner=pruner)
                    self._study.set_user_attr("identity", identity.model_dump(mode="json"))
            self._study_id = self._storage.get_study_id_from_name(_NAME)
            self.identity = Identity.model_validate(self._study.user_attrs["identity"])
            self.all()

    def ask(self) -> Trial:
        """The next trial. The first is the base, if the space holds it."""
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
        """Learn the val figure of an epoch. Returns whether the trial is stopped here, because others were better; never at its `last`."""
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
        """Every trial in order of number."""
        return [self._trial(trial) for trial in self._trials()]

    def importances(self) -> dict[str, float]:
        """Share of each dimension, by name, in what sets the best trials apart (PED-ANOVA, Watanabe et al., IJCAI 2023).

        Empty if too few trials have finished.
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
            number=trial.number + 1,
            state=state,
            settings=attributes["settings"],
            is_base=attributes["is_base"],
            values=dict(trial.intermediate_values),
            value=value,
            reason=attributes.get("reason"),
        )

    def _sampler(self, number: int) -> BaseSampler:
        """A fresh one for each trial: what it proposes does not depend on what this process asked before."""
        from optuna.samplers import RandomSampler, TPESampler

        seed = key(self._seed, "search", number) % 2**32
        if self._sampler_name == "random":
            return RandomSampler(seed=seed)
        return TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Any error of Optuna while it reads a journal means that the journal is damaged."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        raise damaged(path, f"{type(error).__name__}: {error}") from None


def import_optuna() -> Any:
    """Optuna, imported when a search begins. Raises InputError if it is not installed."""
    with needed_for("a search"):
        import optuna
    return optuna


@contextmanager
def _quietly() -> Iterator[None]:
    """Optuna without its log and warnings, which are for developers."""
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
