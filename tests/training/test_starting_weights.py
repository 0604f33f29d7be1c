"""Training that starts from the weights of another run: what they know of classes and images is used."""

import shutil

import pytest
import torch

from fieldmark.core.errors import InputError
from fieldmark.models.weights import read_weights
from runs import train

STILL = ("optim.lr=1e-12", "train.epochs=1")
"""A training that changes no weight in any digit that is looked at."""


@pytest.fixture(scope="module")
def first(birds, tiny, tmp_path_factory):
    return train(birds, *tiny("data.normalise=unit", "data.resize=letterbox"), out=tmp_path_factory.mktemp("runs") / "first")


def rows(run):
    tensors, metadata = read_weights(run.folder.best_weights)
    return dict(zip(metadata["class_names"], torch.cat([tensors["head.weight"], tensors["head.bias"][:, None]], 1), strict=True))


def test_a_run_folder_brings_its_classifier_and_its_normalisation(first, birds, tiny, tmp_path):
    run = train(birds, *tiny(f"model.weights={first.path}", *STILL), out=tmp_path / "run")
    before, after = rows(first), rows(run)
    assert before.keys() == after.keys()
    for name, row in before.items():
        torch.testing.assert_close(after[name], row, rtol=1e-4, atol=1e-6)
    assert (run.preprocess.mean, run.preprocess.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    notes = run.folder.manifest().notes
    assert notes == (
        f"weights: {first.folder.best_weights}",
        "its classifier of 3 classes is kept",
        "images are normalised as for these weights: mean 0, 0, 0, std 1, 1, 1",
        "data.resize=squash, and these weights were trained with letterbox",
    )


def test_a_normalisation_that_the_user_chose_stays_and_the_difference_is_said(first, birds, tiny, tmp_path):
    settings = tiny(f"model.weights={first.folder.best_weights}", "data.normalise=imagenet", "data.size=48", *STILL)
    run = train(birds, *settings, out=tmp_path / "run")
    assert run.preprocess.mean == (0.485, 0.456, 0.406)
    assert run.folder.manifest().notes[2:] == (
        "data.normalise=imagenet, and these weights were trained with mean 0, 0, 0, std 1, 1, 1; data.normalise=weights takes that over",
        "data.resize=squash, and these weights were trained with letterbox",
        "data.size=48, and these weights were trained on 32; that is usually fine",
    )


def test_a_species_is_added_to_a_trained_run(first, birds, tiny, tmp_path):
    """The images of one species once more, under a name that comes first; the others keep what was learnt for them."""
    shutil.copytree(birds, tmp_path / "more")
    for split in ("train", "test"):
        source = sorted((birds / split).iterdir())[1]
        shutil.copytree(source, tmp_path / "more" / split / "Aardvark")
    run = train(tmp_path / "more", *tiny(f"model.weights={first.path}", *STILL), out=tmp_path / "run")
    before, after = rows(first), rows(run)
    assert after.keys() - before.keys() == {"Aardvark"}
    for name, row in before.items():
        torch.testing.assert_close(after[name], row, rtol=1e-4, atol=1e-6)
    assert "kept for 3, fresh for 1 (Aardvark)" in run.folder.manifest().notes[1]


def test_a_run_without_weights_is_no_start(first, birds, tiny, tmp_path):
    shutil.copytree(first.path, tmp_path / "young")
    (tmp_path / "young" / "checkpoints" / "best.safetensors").unlink()
    with pytest.raises(InputError, match=r"young has no trained weights yet[\s\S]*fieldmark resume"):
        train(birds, *tiny(f"model.weights={tmp_path / 'young'}"), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
