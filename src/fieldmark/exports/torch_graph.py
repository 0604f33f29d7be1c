"""Bundles for PyTorch: weights as safetensors and what builds the network for them; nothing is unpickled."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field

from fieldmark.bundles.graph_session import Run as GraphRun
from fieldmark.bundles.record import BundleRecord
from fieldmark.core.ensemble_record import EnsembleRecord
from fieldmark.core.errors import InputError
from fieldmark.core.manifest import Preprocessing
from fieldmark.core.recipe.model import Model
from fieldmark.core.record import Record, RecordFile
from fieldmark.exports.exporter import Exporter, Source
from fieldmark.exports.network import Deployed, DeployedEnsemble, DeployedNetwork
from fieldmark.models.factory import build_model
from fieldmark.models.process import borrowed_process
from fieldmark.models.weights import load_weights
from fieldmark.runtime.preprocess import Preprocess
from fieldmark.scoring.combination import load_combination

_STACK = "stack.safetensors"


class _Member(Record):
    """weights: the name of their file."""

    weights: str
    model: Model
    preprocess: Preprocessing


class NetworkFile(RecordFile):
    """network.json: the members, of which there is one if `ensemble` is None, and how their logits become one."""

    REMEDY = BundleRecord.REMEDY

    members: Annotated[tuple[_Member, ...], Field(min_length=1)]
    ensemble: EnsembleRecord | None = None


class TorchExporter(Exporter):
    format = "torch"
    packages = ("torch", "timm")

    def require(self) -> None:
        """Whoever has a run that can be loaded has PyTorch."""

    def write(self, source: Source, batch: int, folder: Path) -> list[str]:
        run, members = source.run, []
        for place, member in enumerate(run.members):
            name = "model.safetensors" if len(run.members) == 1 else f"model-{place}.safetensors"
            shutil.copyfile(member.folder.best_weights, folder / name)
            settings = member.recipe.model.structure()
            members.append(_Member(weights=name, model=settings, preprocess=member.preprocess.record()))
        files = [member.weights for member in members]
        if run.is_combined and run.folder.stack_weights.is_file():
            shutil.copyfile(run.folder.stack_weights, folder / _STACK)
            files.append(_STACK)
        NetworkFile(members=tuple(members), ensemble=run.ensemble if run.is_combined else None).write(folder / "network.json")
        return ["network.json", *files]


def open_torch(path: Path, record: BundleRecord, threads: int) -> GraphRun:
    """Raises InputError if the file does not describe the network of its weights."""
    with borrowed_process():
        network = _built(path, record)

    def run(images: np.ndarray) -> list[np.ndarray]:
        with borrowed_process(), torch.inference_mode():
            torch.set_num_threads(threads)
            return [output.numpy() for output in network(torch.from_numpy(images))]

    return run


def _built(path: Path, record: BundleRecord) -> Deployed:
    file, classes, members = NetworkFile.read(path), len(record.class_names), []
    for member in file.members:
        if Path(member.weights).name != member.weights or member.weights not in record.files:
            raise InputError(f"{path} names weights that are not in the bundle: {member.weights}", hint=NetworkFile.REMEDY)
        model = build_model(member.model, classes, record.preprocess.size, seed=0).model
        load_weights(model, path.parent / member.weights)
        members.append(DeployedNetwork(model, Preprocess.of(member.preprocess)))
    if file.ensemble is None:
        return members[0].eval()
    if len(file.ensemble.members) != len(members):
        raise InputError(f"{path} combines {len(file.ensemble.members)} networks, and holds {len(members)}", hint=NetworkFile.REMEDY)
    return DeployedEnsemble(members, load_combination(file.ensemble, path.parent / _STACK, classes)).eval()
