from __future__ import annotations

import io
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fieldmark.core.errors import InputError
from fieldmark.scoring.predictions import Predictions


def make(n: int = 7, classes: int = 3, width: int = 5, seed: int = 0) -> Predictions:
    rng = np.random.default_rng(seed)
    return Predictions(
        ids=np.array([f"test/Grünspecht no. {i}/ö {i}.jpg" for i in range(n)], dtype=np.str_),
        labels=rng.integers(-1, classes, n).astype(np.int32),
        logits=rng.normal(size=(n, classes)).astype(np.float32),
        features=rng.normal(size=(n, width)).astype(np.float32),
        class_names=tuple(f"class {i}.0" for i in range(classes)),
    )


@pytest.mark.parametrize("n", [0, 1, 7])
def test_what_is_saved_is_loaded(tmp_path: Path, n: int) -> None:
    saved = make(n)
    saved.save(tmp_path / "test.npz")
    loaded = Predictions.load(tmp_path / "test.npz")
    for name in ("ids", "labels", "logits", "features"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(saved, name))
    assert loaded.labels.dtype == np.int32 and loaded.logits.dtype == loaded.features.dtype == np.float32
    assert loaded.class_names == saved.class_names
    assert [path.name for path in tmp_path.iterdir()] == ["test.npz"]


def test_equal_predictions_give_equal_bytes(tmp_path: Path) -> None:
    make().save(tmp_path / "a.npz")
    make().save(tmp_path / "b.npz")
    make(seed=1).save(tmp_path / "c.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes() != (tmp_path / "c.npz").read_bytes()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no predictions at .*absent\.npz"):
        Predictions.load(tmp_path / "absent.npz")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.npz"
    make().save(path)
    whole = path.read_bytes()
    for size in range(0, len(whole), 37):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match="damaged"):
            Predictions.load(path)


def test_a_flipped_bit_in_the_arrays_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.npz"
    predictions = make()
    predictions.save(path)
    content = bytearray(path.read_bytes())
    content[content.index(predictions.logits.tobytes()) + 3] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match="damaged"):
        Predictions.load(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "test.npz"
    np.savez(path, a=np.zeros(3))
    with pytest.raises(InputError, match="damaged"):
        Predictions.load(path)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(InputError, match="damaged"):
        Predictions.load(path)
    path.write_bytes(pickle.dumps({"ids": 1}))
    with pytest.raises(InputError, match="damaged"):
        Predictions.load(path)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "test.npz"
    arrays = {name: getattr(make(), name) for name in ("labels", "logits", "features")}
    np.savez(path, ids=np.array([object()] * 7), class_names=np.array(["a", "b", "c"]), **arrays)
    with pytest.raises(InputError, match="damaged"):
        Predictions.load(path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"labels": np.zeros(6, np.int32)}, "labels has shape"),
        ({"logits": np.zeros((7, 4), np.float32)}, "logits has shape"),
        ({"features": np.zeros(7, np.float32)}, "features has shape"),
        ({"labels": np.full(7, 3, np.int32)}, "labels go from 3 to 3"),
        ({"logits": np.zeros((7, 3))}, "logits is float64"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    parts = {name: getattr(make(), name) for name in ("ids", "labels", "logits", "features", "class_names")}
    with pytest.raises(ValueError, match=message):
        Predictions(**parts | change)


def test_probabilities_are_a_softmax_that_survives_large_logits() -> None:
    import torch

    predictions = make(50)
    predictions.logits[0] += 1000
    expected = torch.from_numpy(predictions.logits).double().softmax(dim=1).float().numpy()
    np.testing.assert_allclose(predictions.probabilities(), expected, rtol=1e-6)
    assert predictions.probabilities().dtype == np.float32


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_probabilities_of_a_row_that_is_not_finite_are_nan(bad: float) -> None:
    predictions = make(2)
    predictions.logits[0, 1] = bad
    probabilities = predictions.probabilities()
    assert np.isnan(probabilities[0]).all()
    assert probabilities[1].sum() == pytest.approx(1)


def test_features_may_be_left_unread(tmp_path: Path) -> None:
    saved = make()
    saved.save(tmp_path / "test.npz")
    loaded = Predictions.load(tmp_path / "test.npz", features=False)
    for name in ("ids", "labels", "logits"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(saved, name))
    assert loaded.features.shape == (7, 0) and loaded.class_names == saved.class_names


def test_class_names_that_are_no_text_are_refused(tmp_path: Path) -> None:
    arrays = {name: getattr(make(), name) for name in ("ids", "labels", "logits", "features")}
    for names in (np.arange(3), np.array([["a"], ["b"], ["c"]])):
        np.savez(tmp_path / "test.npz", class_names=names, **arrays)
        with pytest.raises(InputError, match="class_names are not a list of text"):
            Predictions.load(tmp_path / "test.npz")


@pytest.mark.parametrize("damage", [(b"'<f4'", b"'<04'"), (b"'<f4'", b"',,,,'"), (b"(7, 3)", b"(7, 3e")])
def test_damaged_headers_of_arrays_are_refused(tmp_path: Path, damage: tuple[bytes, bytes]) -> None:
    path = tmp_path / "test.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("ids", "labels", "logits", "features", "class_names"):
            stream = io.BytesIO()
            np.save(stream, np.array(getattr(make(), name)))
            archive.writestr(f"{name}.npy", stream.getvalue().replace(*damage))
    with pytest.raises(InputError, match="damaged"):
        Predictions.load(path)


GROUPS = np.array([3, -1, 0, 3, 2**31 - 1, -1, 0], np.int32)


@pytest.mark.parametrize("features", [True, False])
def test_groups_are_saved_and_loaded(tmp_path: Path, features: bool) -> None:
    saved = replace(make(), groups=GROUPS)
    saved.save(tmp_path / "test.npz")
    loaded = Predictions.load(tmp_path / "test.npz", features)
    assert loaded.groups is not None and loaded.groups.dtype == np.int32
    np.testing.assert_array_equal(loaded.groups, GROUPS)
    np.testing.assert_array_equal(loaded.logits, saved.logits)


def test_no_groups_are_none_and_leave_no_trace_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "test.npz"
    make().save(path)
    assert Predictions.load(path).groups is None and Predictions.load(path, features=False).groups is None
    with np.load(path) as stored:
        assert set(stored) == {"ids", "labels", "logits", "features", "class_names"}
    without = path.read_bytes()
    replace(make(), groups=np.full(7, -1, np.int32)).save(path)
    assert path.read_bytes() != without


@pytest.mark.parametrize(
    "groups, message",
    [
        (np.zeros(6, np.int32), r"groups has shape \(6,\)"),
        (np.zeros((7, 1), np.int32), r"groups has shape \(7, 1\)"),
        (np.zeros(7, np.int64), "groups is int64, not int32"),
        (np.zeros(7, np.float32), "groups is float32, not int32"),
        (np.array(["a"] * 7), "groups is <U1, not int32"),
    ],
)
def test_groups_that_do_not_fit_are_refused(tmp_path: Path, groups: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(make(), groups=groups)
    arrays = {name: getattr(make(), name) for name in ("ids", "labels", "logits", "features", "class_names")}
    np.savez(tmp_path / "test.npz", groups=groups, **arrays)
    with pytest.raises(InputError, match=f"damaged.*{message}"):
        Predictions.load(tmp_path / "test.npz")


@pytest.mark.parametrize("groups", [None, GROUPS])
@pytest.mark.parametrize("rows", [[], [4], [6, 0, 3, 3], np.arange(7) % 2 == 0], ids=["none", "one", "some twice", "a mask"])
def test_take_gives_rows_in_their_order(rows: list[int] | np.ndarray, groups: np.ndarray | None) -> None:
    whole, chosen = replace(make(), groups=groups), np.array(rows, None if len(rows) else np.int64)
    part = whole.take(chosen)
    expected = np.arange(7)[chosen].tolist()
    assert len(part) == len(expected) and part.class_names == whole.class_names and (part.groups is None) == (groups is None)
    for name in ("ids", "labels", "logits", "features", *(() if groups is None else ("groups",))):
        assert getattr(part, name).tolist() == [getattr(whole, name)[row].tolist() for row in expected]


def test_labelled_leaves_out_what_has_no_label() -> None:
    whole = replace(make(), labels=np.array([-1, 2, 0, -1, 1, 0, -1], np.int32), groups=GROUPS)
    part = whole.labelled()
    assert part.labels.tolist() == [2, 0, 1, 0] and part.ids.tolist() == whole.ids[[1, 2, 4, 5]].tolist()
    assert part.groups is not None and part.groups.tolist() == [-1, 0, 2**31 - 1, -1]
    np.testing.assert_array_equal(part.logits, whole.logits[[1, 2, 4, 5]])
    none = replace(whole, labels=np.full(7, -1, np.int32)).labelled()
    assert len(none) == 0 and none.logits.shape == (0, 3) and none.features.shape == (0, 5)
