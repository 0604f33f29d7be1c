"""Which runs may answer together, and which are refused, with the reason."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fieldmark.core.errors import InputError
from fieldmark.ensembles.members import open_members
from fieldmark.scoring.predictions import Predictions
from runs import train


@pytest.fixture
def copies(members, tmp_path):
    """Two members to spoil."""
    return [shutil.copytree(path, tmp_path / path.name) for path in members[:2]]


def change_split(run, **columns) -> None:
    """Change columns of a run's split table by functions of the list of its values."""
    table = pq.read_table(run / "split.parquet").to_pydict()
    pq.write_table(pa.table(table | {name: change(table[name]) for name, change in columns.items()}), run / "split.parquet")


def refused(*paths) -> str:
    with pytest.raises(InputError) as caught:
        open_members(paths)
    return str(caught.value)


def test_runs_on_one_split_are_members_of_their_own(members):
    found = open_members(members)
    assert found.names == ("a", "b", "c") and found.inputs == (0, 1, 2) and not found.folds
    assert [len(each) for each in found.predictions("test")] == [12] * 3


def test_names_are_as_long_as_tells_runs_apart(copies, members):
    assert open_members([members[0], copies[0]]).names == (f"{members[0].parent.name}/a", f"{copies[0].parent.name}/a")


def test_another_split_is_refused(members, birds, tiny, tmp_path):
    other = train(birds, *tiny("data.split_seed=5"), out=tmp_path / "other").path
    said = refused(members[0], other)
    assert (
        "different splits" in said
        and "are in another split, such as train/" in said
        and "(train and val)" in said.replace("val and train", "train and val")
    )


def test_other_images_labels_bytes_and_test_are_refused(copies):
    one, other = copies
    pristine = (other / "split.parquet").read_bytes()
    spoilt = {
        "2 images are known to only one of them": {"path": lambda paths: ["new.png", *paths[1:]]},
        "1 images have other bytes": {"hash": lambda hashes: ["0" * len(hashes[0]), *hashes[1:]]},
        "images have another label": {"label": lambda labels: labels[::-1]},
        "are in another split": {"split": lambda splits: ["train" if split == "test" else split for split in splits]},
    }
    for reason, change in spoilt.items():
        change_split(other, **change)
        assert reason in refused(one, other)
        (other / "split.parquet").write_bytes(pristine)
    assert open_members(copies)


def test_too_few_unfinished_repeated_and_other_classes_are_refused(copies):
    one, other = copies
    assert "at least two" in refused(one)
    assert "more than once" in refused(one, one.parent / "." / one.name)
    predictions = Predictions.load(other / "predictions" / "test.npz")
    Predictions(predictions.ids, predictions.labels, predictions.logits, predictions.features, ("x", "y", "z")).save(
        other / "predictions" / "test.npz"
    )
    with pytest.raises(InputError, match="predictions for other classes"):
        open_members(copies).predictions("test")
    manifest = json.loads((other / "manifest.json").read_text())
    (other / "manifest.json").write_text(json.dumps(manifest | {"status": "interrupted"}))
    (one / "summary.json").write_text("{}")
    said = refused(one, other)
    assert "not finished" in said and f"{one}/summary.json is damaged: status is missing" in said
    (one / "split.parquet").write_bytes(b"PAR1")
    (other / "manifest.json").write_text(json.dumps(manifest))
    shutil.copy(other / "summary.json", one / "summary.json")
    assert "split.parquet cannot be read" in refused(one, other)


def test_runs_with_other_classes_are_refused(members, tmp_path, tiny):
    from fieldmark.datasets.birds.folder import write_birds

    write_birds(tmp_path / "four", species=4, per_class=20, size=32, seed=1)
    other = train(tmp_path / "four", *tiny(), out=tmp_path / "other").path
    assert "trained on different classes, such as" in refused(members[0], other)


def test_folds_are_the_inputs_of_their_recipes(folds):
    found = open_members(folds)
    assert found.folds and found.inputs == (0, 0, 0, 1, 1, 1)
    unseen = found.unseen()
    assert [len(each) for each in unseen] == [48, 48] and unseen[0].ids.tolist() == sorted(set(unseen[1].ids.tolist()))
    by_run = {each: row for run in found.predictions("val")[:3] for each, row in zip(run.ids.tolist(), run.logits, strict=True)}
    assert all(np.array_equal(by_run[each], row) for each, row in zip(unseen[0].ids.tolist(), unseen[0].logits, strict=True))


def test_folds_that_lack_one_or_have_one_twice_are_refused(folds):
    assert "no run leaves out fold 2" in refused(*folds[:2])
    assert "no run leaves out fold 0" in refused(*folds[:3], *folds[4:])


def test_whole_images_and_boxes_do_not_go_together(copies):
    one, other = copies
    from safetensors.numpy import load_file, save_file

    from fieldmark.models.weights import read_weights

    weights = other / "checkpoints" / "best.safetensors"
    metadata = read_weights(weights)[1]
    metadata["preprocess"]["margin"] = 0.1
    save_file(load_file(weights), weights, {"fieldmark": json.dumps(metadata)})
    assert "cropped to boxes" in refused(one, other)


def test_the_same_network_twice_is_said(copies, members):
    (caution,) = open_members([*members[:2], copies[0]]).identical()
    names = open_members([members[0], copies[0]]).names
    assert caution.startswith(f"The weights of {names[1]} are bit for bit those of {names[0]}")
    assert open_members(members).identical() == []
