"""Training that starts from the weights of another run: what they know of classes and images is used."""

import shutil

import pytest
import torch

import fieldmark
from fieldmark.core.errors import InputError
from fieldmark.datasets.split_file import read_split
from fieldmark.models.weights import load_weights, read_weights, save_weights
from fieldmark.reports.comparison.entries import open_entries
from fieldmark.reports.comparison.settings import differing_conditions, seed_alone
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


@pytest.fixture
def undivided(birds, tmp_path):
    """Copies of the birds without a test of their own, in two places."""
    for place in ("here", "there"):
        for split in ("train", "test"):
            shutil.copytree(birds / split, tmp_path / place, dirs_exist_ok=True)
    return tmp_path / "here", tmp_path / "there"


def by_hash(run, *splits):
    stored = read_split(run.folder.split_file)
    return [digest for digest, split in zip(stored["hash"], stored["split"], strict=True) if split in splits]


def test_images_of_test_and_val_that_the_weights_know_are_said_before_the_first_epoch(undivided, tiny, tmp_path, capsys):
    here, there = undivided
    one = train(here, *tiny("train.epochs=1"), out=tmp_path / "one")
    settings = tiny(f"model.weights={one.path}", "data.split_seed=5", "train.epochs=1")
    two = fieldmark.train(there, *settings, out=tmp_path / "two")
    trained = set(by_hash(one, "train"))
    tested, chosen = (sum(digest in trained for digest in by_hash(two, split)) for split in ("test", "val"))
    assert tested
    assert chosen
    sentence = (
        f"{tested} of the {len(by_hash(two, 'test'))} images of test and {chosen} of the {len(by_hash(two, 'val'))} images of val were "
        f"in the training of {one.path}, whose weights this run starts from, so the figures are optimistically biased. "
        "The same data with data.split_seed=0, as in that run, or other weights, avoid that."
    )
    assert sentence in two.folder.manifest().cautions
    said = " ".join(capsys.readouterr().err.split())
    assert f"caution: {sentence}" in said
    assert said.index(sentence) < said.index("after each epoch")
    assert sentence in two.folder.report_file.read_text()

    again = train(here, *tiny(f"model.weights={one.path}", "train.epochs=1"), out=tmp_path / "again")
    assert not any("whose weights" in caution for caution in again.folder.manifest().cautions)
    third = train(here, *tiny(f"model.weights={two.path}", "data.split_seed=5", "train.epochs=1"), out=tmp_path / "third")
    assert [str(one.path) in caution for caution in third.folder.manifest().cautions if "whose weights" in caution] == [True]


def test_what_a_refit_learnt_of_val_counts(undivided, tiny, tmp_path):
    here, _ = undivided
    one = train(here, *tiny("train.epochs=1", "train.refit=true"), out=tmp_path / "one")
    two = train(here, *tiny(f"model.weights={one.path}", "train.epochs=1"), out=tmp_path / "two")
    val = len(by_hash(two, "val"))
    assert any(caution.startswith(f"{val} of the {val} images of val were in the training") for caution in two.folder.manifest().cautions)


def test_the_starting_weights_are_recorded_and_a_change_of_their_file_is_said(birds, first, tiny, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(first.folder.best_weights, "start.safetensors")
    one = train(birds, *tiny("model.weights=start.safetensors", "train.epochs=1"), out=tmp_path / "one")
    assert one.recipe.model.weights == str(tmp_path / "start.safetensors")
    assert one.folder.manifest().weights.file == str(tmp_path / "start.safetensors")
    recipe = one.folder.recipe_file
    fieldmark.train(birds, recipe=recipe, out=tmp_path / "same")
    assert "has changed since" not in capsys.readouterr().err
    model = one.model
    load_weights(model, first.folder.best_weights)
    with torch.no_grad():
        model.head.weight.mul_(2)
    save_weights(model, tmp_path / "start.safetensors", {"architecture": "test_efficientnet"})
    other = fieldmark.train(birds, {"train.seed": 1}, recipe=recipe, out=tmp_path / "other")
    said = " ".join(capsys.readouterr().err.split())
    changed = "start.safetensors has changed since"
    assert f"{changed} {one.path} began with it, so this training does not repeat that run" in said
    entries = open_entries([one, other])
    (digests,) = [cells for name, cells in differing_conditions(entries) if name.startswith("starting weights")]
    assert digests == [run.folder.manifest().weights.sha256 for run in (one, other)]
    assert not seed_alone(*entries)
