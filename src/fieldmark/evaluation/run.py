"""A run: after training it is the only argument that a command needs. It is one trained network, or an ensemble of several.

What computes is imported when something is computed, so that a run is loaded, and what is wrong with it said, without PyTorch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import safetensors

from fieldmark.answering.answerer import Answerer
from fieldmark.answering.networks import Networks
from fieldmark.answering.predictor import Identity, OnVal, Predictor
from fieldmark.core.arguments import checked
from fieldmark.core.console import Console
from fieldmark.core.ensemble_record import EnsembleRecord
from fieldmark.core.errors import InputError
from fieldmark.core.names import typed
from fieldmark.core.recipe.recipe import Recipe
from fieldmark.core.run_folder import RunFolder
from fieldmark.core.summary import Summary
from fieldmark.datasets.loading import LoadedData
from fieldmark.evaluation.session import TorchSession
from fieldmark.models.libraries import load_libraries
from fieldmark.runtime.preprocess import Preprocess
from fieldmark.scoring.combination import Combination, combined, load_combination
from fieldmark.scoring.decisions import Decisions, load_decisions
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.rejection_scores import OF_LOGITS, Score, fit_score, load_score

if TYPE_CHECKING:
    from fieldmark.evaluation.inference import Normalisation
    from fieldmark.models.execution import Execution
    from fieldmark.models.factory import Classifier

Crop = Literal["none", "box"]


class Run(Predictor):
    """A finished run, ready to be used: `Run.load(path).predict(images)`."""

    def __init__(self, folder: RunFolder):
        if not isinstance(folder, RunFolder):
            raise InputError("Run.load(path) opens a run")
        self.folder = folder
        self.path = folder.path
        self.recipe: Recipe = folder.recipe()

    def __fspath__(self) -> str:
        """The path of its folder, so that a run can be given where one is named, as in {"model.weights": run}."""
        return os.fspath(self.path)

    def __repr__(self) -> str:
        """Its path, network, classes, status and accuracy on test, as far as they can be read."""
        known = [repr(str(self.path))]
        with suppress(InputError):
            manifest, ensemble = self.folder.manifest(), self.ensemble
            network = self.recipe.model.name if ensemble is None else f"{ensemble.method} of {len(ensemble.members)} networks"
            known += [network, f"{len(manifest.class_names)} classes", manifest.status]
        with suppress(InputError):
            known.append(f"{self.summary.test.top1:.1f} % right on test")
        return f"Run({', '.join(known)})"

    @classmethod
    @checked
    def load(cls, path: Run | str | os.PathLike[str]) -> Run:
        """The run in a folder; a Run is returned as it is. Raises InputError if it is not a run or has no trained weights yet."""
        if isinstance(path, Run):
            return path
        run = cls(RunFolder.open(path))
        if not run.is_combined and not run.folder.best_weights.is_file():
            raise InputError(f"{path} has no trained weights yet", hint=f"fieldmark resume {typed(path)}")
        return run

    @property
    def identity(self) -> Identity:
        """`digest` is that of the weights of all its networks."""
        digest = hashlib.sha256()
        for member in self.members:
            digest.update(member.folder.best_weights.read_bytes())
        networks = dict.fromkeys(member.recipe.model.name for member in self.members)
        return Identity(", ".join(networks), "run", self.recipe.train.precision, digest.hexdigest())

    @property
    def on_val(self) -> OnVal:
        """From the predictions of val, unless the network has learnt them."""
        val = self.predictions("val")
        if val is None or self.has_learnt_val:
            return OnVal()
        top = self.probabilities(val.logits).max(axis=1)
        unknown = self.answerer.unknown(val.logits, val.features)
        return OnVal(float(top[np.isfinite(top)].mean()), None if unknown is None else float(unknown.mean()))

    @property
    def summary(self) -> Summary:
        return self.folder.summary()

    @cached_property
    def ensemble(self) -> EnsembleRecord | None:
        """What it is made of and how, if it is an ensemble."""
        return self.folder.manifest().ensemble

    @property
    def is_combined(self) -> bool:
        """Whether several networks answer together; a soup is one network."""
        return self.ensemble is not None and self.ensemble.method != "soup"

    @cached_property
    def members(self) -> tuple[Run, ...]:
        """The networks that answer together, as runs; the run itself if it is one network."""
        if not self.is_combined:
            return (self,)
        assert self.ensemble is not None
        members = tuple(Run.load(self.folder.members / str(member.folder)) for member in self.ensemble.members)
        for member in members:
            if member.ensemble is not None or member.class_names != members[0].class_names:
                raise InputError(f"{member.path} is not a member of {self.path}: it has other classes, or members of its own")
        return members

    @cached_property
    def combination(self) -> Combination:
        """How the members' logits become one; for ensembles of several networks."""
        assert self.ensemble is not None and self.is_combined
        return load_combination(self.ensemble, self.folder.stack_weights, len(self.class_names))

    @cached_property
    def decisions(self) -> Decisions | None:
        """Temperature, threshold and the like, fitted on val; None for a run without calibration."""
        return load_decisions(self.folder.calibration_file, len(self.class_names), self.levels)

    @cached_property
    def levels(self) -> dict[str, list[str]]:
        """The parent of each class in the taxonomy, by the name of each level."""
        return self.folder.manifest().levels

    @property
    def has_learnt_val(self) -> bool:
        """Whether its weights have seen images of val, so that what is saved of val comes from other networks."""
        if self.ensemble is None:
            return self.recipe.train.refit
        return self.ensemble.val_learnt or self.ensemble.folds

    def forget_decisions(self) -> None:
        """Read them again when they are asked for."""
        for name in ("decisions", "score", "answerer"):
            self.__dict__.pop(name, None)

    @checked
    def predictions(self, split: str, features: bool = True) -> Predictions | None:
        """What was saved for a split; None if nothing was."""
        path = self.folder.predictions / f"{split}.npz"
        return Predictions.load(path, features) if path.is_file() else None

    @cached_property
    def score(self) -> Score | None:
        """What the run rejects by; None without calibration."""
        if self.decisions is None:
            return None
        name = self.decisions.score
        if self.folder.rejection_file.is_file():
            return load_score(self.folder.rejection_file, name)
        return fit_score(name, None if name in OF_LOGITS else self.predictions("train"))

    @cached_property
    def _metadata(self) -> dict[str, Any]:
        metadata = _metadata(self.folder.best_weights)
        if not {"class_names", "preprocess"} <= set(metadata):
            raise InputError(f"{self.folder.best_weights} carries no class names or preprocessing: Fieldmark did not write it")
        return metadata

    @property
    def class_names(self) -> tuple[str, ...]:
        if self.is_combined:
            return self.members[0].class_names
        return tuple(self._metadata["class_names"])

    @cached_property
    def preprocess(self) -> Preprocess:
        """What happens to an image first; in an ensemble, for its first member."""
        if self.is_combined:
            return self.members[0].preprocess
        return Preprocess.from_dict(self._metadata["preprocess"])

    @property
    def normalisation(self) -> Normalisation:
        from fieldmark.evaluation.inference import Normalisation

        return Normalisation(self.preprocess.mean, self.preprocess.std)

    @cached_property
    def execution(self) -> Execution:
        """As it was trained, but in float32 if this processor would emulate the precision."""
        import torch

        from fieldmark.models.device import choose_device
        from fieldmark.models.execution import Execution

        train = self.recipe.train
        device = choose_device("cpu" if train.device == "cuda" and not torch.cuda.is_available() else train.device)
        return Execution.of(device, train.precision, train.memory_format).native()

    def load_runtime(self, console: Console) -> None:
        load_libraries(console)

    def in_float32(self) -> Run:
        """The same run, which computes in float32 on the CPU whatever it was trained in."""
        import torch

        from fieldmark.models.execution import Execution

        run = Run.load(self.path)
        for member in run.members:
            member.execution = Execution(torch.device("cpu"), "float32", "contiguous")
        return run

    @contextmanager
    def computing(self) -> Iterator[Execution]:
        """Inside the `with` block PyTorch has the run's number of threads; afterwards the caller's process is as it was."""
        load_libraries(Console(quiet=True))
        from fieldmark.models.device import keep_freed_memory, set_threads
        from fieldmark.models.process import borrowed_process

        with borrowed_process():
            keep_freed_memory()
            set_threads(self.recipe.train.threads)
            yield self.execution

    @cached_property
    def model(self) -> Classifier:
        """The trained model, on its device, in evaluation mode. Raises InputError for an ensemble of several networks."""
        if self.is_combined:
            raise InputError(f"{self.path} is an ensemble of {len(self.members)} networks", hint=f"They are in {self.folder.members}.")
        settings = self.recipe.model.structure()
        with self.computing() as execution:
            from fieldmark.models.factory import build_model
            from fieldmark.models.weights import load_weights

            model = build_model(settings, len(self.class_names), self.preprocess.size, seed=0).model
            load_weights(model, self.folder.best_weights)
            execution.prepare(model)
            return model.eval()

    def forget_model(self) -> None:
        """Give back the memory of the model until it is asked for again."""
        self.__dict__.pop("model", None)

    def predict_rows(
        self, loaded: LoadedData, rows: np.ndarray, console: Console, crop: Crop | None = None, corrupt: str | None = None
    ) -> Predictions:
        """Predictions of rows of a dataset, all of whose classes the run knows; what cannot be decoded is named and left out.

        `crop` and `corrupt` are as the run was trained by default. Of an ensemble, one network at a time is in memory.
        """
        if self.is_combined:
            parts = []
            for member in self.members:
                parts.append(member.predict_rows(loaded, rows, console, crop, corrupt))
                member.forget_model()
            return combined(parts, self.combination)
        preprocess = self.preprocess
        if crop is not None:
            preprocess = replace(preprocess, margin=None if crop == "none" else preprocess.margin or 0.0)
        seen = self.recipe.data.corrupt if corrupt is None else corrupt
        load_libraries(console)
        with self.computing() as execution:
            from fieldmark.evaluation.split import open_split

            split = open_split(loaded, rows, preprocess, seen, console)
            console.say(*split.remarks)
            with console.waiting(f"loading {self.recipe.model.name}"):
                model = self.model
            return split.predict(model, execution, self.recipe.evaluate.batch, console, self.class_names)

    def cautions(self, boxes: bool) -> tuple[str, ...]:
        unfinished = self._unfinished()
        return (*([] if unfinished is None else [unfinished]), *super().cautions(boxes))

    def _unfinished(self) -> str | None:
        """That the answers are not yet those of the run, if its training has not come to its end."""
        status = self.folder.manifest().status
        if status == "finished":
            return None
        uncalibrated = " and are not calibrated" if self.decisions is None else ""
        answers = f"these answers come from its best epoch so far{uncalibrated}"
        return f"the training of {self.path} is not finished ({status}): {answers}; `fieldmark resume {typed(self.path)}` completes it"

    @cached_property
    def session(self) -> TorchSession:
        """The network as a function from pixels to logits and features; for runs of one network."""
        return TorchSession(self)

    @cached_property
    def networks(self) -> Networks:
        """The networks that answer together, from images to logits and features."""
        sessions = tuple(member.session for member in self.members)
        return Networks(sessions, self.combination if self.is_combined else None, self.recipe.evaluate.batch)

    @cached_property
    def answerer(self) -> Answerer:
        """The networks with the decisions of the run."""
        return Answerer(self.networks, self.class_names, self.decisions, self.score, self.levels)


def _metadata(weights: Path) -> dict[str, Any]:
    """What `models.weights.read_weights` returns next to the tensors, read without PyTorch. Raises InputError as it does."""
    try:
        with safetensors.safe_open(weights, "np") as file:
            return json.loads((file.metadata() or {}).get("fieldmark", "{}"))
    except (OSError, safetensors.SafetensorError, ValueError):
        from fieldmark.models.weights import read_weights

        return read_weights(weights)[1]
