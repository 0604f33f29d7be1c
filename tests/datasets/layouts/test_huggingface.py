from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from miniatures import huggingface, huggingface_arrow, jpeg, put
from miniatures.huggingface import parquet

from fieldmark.core.errors import InputError
from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.images import Stamp
from fieldmark.datasets.layouts import LAYOUTS, read_dataset
from fieldmark.datasets.layouts import row_images as row_images
from fieldmark.datasets.layouts.huggingface import LAYOUT
from fieldmark.runtime.decode import UnreadableImage

IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def rows(count: int = 4, hub: Mapping[str, object] | None = None, **columns: list) -> pa.Table:
    """A table with a column of images called image; `hub` is what its schema says of columns."""
    images = pa.array([{"bytes": jpeg(row), "path": None} for row in range(count)], IMAGE)
    made = pa.table({"image": images, **columns})
    return made.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": hub}})}) if hub else made


def labels(*names: str) -> dict[str, object]:
    return {"names": list(names), "_type": "ClassLabel"}


def table(dataset: Dataset) -> dict[str, tuple[str, str]]:
    """Path → (class name, split)."""
    return dict(zip(dataset.paths, zip(dataset.label_names(), dataset.splits.tolist(), strict=True), strict=True))


def error_of(data: Path, columns: Mapping[str, str] | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read_dataset(data, "huggingface", columns)
    return str(caught.value)


def test_known_rows(tmp_path: Path) -> None:
    for module, file in ((huggingface, "data/train-00001-of-00002.parquet"), (huggingface_arrow, "train/data-00001-of-00002.arrow")):
        dataset = read_dataset(module.write(tmp_path / module.__name__))
        assert table(dataset)[f"{file}#2"] == ("pike", "train") and dataset.images.read(f"{file}#2") == jpeg(10)
        assert dataset.images.stamp(f"{file}#2") == Stamp.of(dataset.root / file)
        assert "images are in the column img, labels in fine_label" in dataset.notes


def test_rows_sort_as_numbers(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", rows(12, label=["a", "b"] * 6))
    dataset = read_dataset(tmp_path)
    assert dataset.paths == tuple(f"train.parquet#{row:02d}" for row in range(12))
    assert dataset.class_names == ("a", "b") and dataset.images.read("train.parquet#11") == jpeg(11)


def test_one_file_is_a_dataset(tmp_path: Path) -> None:
    parquet(tmp_path / "birds" / "garden.parquet", rows(label=[3, 10, 3, 10]))
    dataset = read_dataset(tmp_path / "birds" / "garden.parquet")
    assert (dataset.name, dataset.class_names) == ("garden", ("3", "10")) and set(dataset.splits) == {"train"}
    assert LAYOUTS["huggingface"].images(dataset.root).read("garden.parquet#1") == jpeg(1)


def test_a_saved_dataset_without_splits(tmp_path: Path) -> None:
    for split, expected in ((None, "train"), ("validation", "val")):
        folder = tmp_path / str(split)
        huggingface_arrow.save(folder, [huggingface.table(range(8))], split)
        assert set(read_dataset(folder).splits) == {expected}


def test_what_dataset_info_says_counts_before_what_the_file_says(tmp_path: Path) -> None:
    root = huggingface_arrow.write(tmp_path)
    for info in root.rglob("dataset_info.json"):
        put(info, info.read_text().replace("oak_tree", "beech"))
    assert read_dataset(root).class_names == ("maple", "beech", "pike", "trout")


def test_the_folders_of_the_converted_branch(tmp_path: Path) -> None:
    for file in ("default/train/0000.parquet", "default/train/0001.parquet", "default/test/0000.parquet"):
        parquet(tmp_path / file, rows(label=["a", "b", "a", "b"]))
    assert {(path.split("#")[0], split) for path, (_, split) in table(read_dataset(tmp_path)).items()} == {
        ("default/train/0000.parquet", "train"),
        ("default/train/0001.parquet", "train"),
        ("default/test/0000.parquet", "test"),
    }
    parquet(tmp_path / "other" / "train" / "0000.parquet", rows(label=["a", "b", "a", "b"]))
    message = error_of(tmp_path)
    assert "holds 2 datasets: default, other" in message and f"Give one of them: {tmp_path / 'other'}" in message
    assert len(read_dataset(tmp_path / "default")) == 12


def test_splits_that_are_not_known(tmp_path: Path) -> None:
    parquet(tmp_path / "data" / "train_small-00000-of-00001.parquet", rows(label=["a", "b", "a", "b"]))
    parquet(tmp_path / "data" / "train-00000-of-00001-0a1b2c3d4e5f.parquet", rows(label=["a", "b", "a", "b"]))
    dataset = read_dataset(tmp_path)
    assert len(dataset) == 4 and any("passed over" in note and "train_small" in note for note in dataset.notes)
    (tmp_path / "data" / "train-00000-of-00001-0a1b2c3d4e5f.parquet").rename(tmp_path / "data" / "unsupervised-00000-of-00001.parquet")
    assert "of the splits train_small, unsupervised, and of none called train" in error_of(tmp_path)
    root = huggingface_arrow.write(tmp_path / "b")
    put(root / "dataset_dict.json", json.dumps({"splits": ["train", "extra"]}))
    dataset = read_dataset(root)
    assert set(dataset.splits) == {"train"} and "passed over splits that are not known: extra" in dataset.notes


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    root = huggingface.write(tmp_path)
    (root / "data" / "train-00000-of-00002.parquet").rename(tmp_path / "away.parquet")
    assert "is not whole; it lacks data/train-00000-of-00002.parquet" in error_of(root)


def test_labels_that_are_not_known(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", rows(label=["a", None, "b", "nan"]))
    dataset = read_dataset(tmp_path)
    assert dataset.splits.tolist() == ["train", "unlabelled", "train", "unlabelled"]
    assert "rows that have no label and are unlabelled: 2; the first is in train.parquet, record 2" in dataset.notes
    assert read_dataset(tmp_path, missing_labels="blank").class_names == ("a", "b", "nan")
    parquet(tmp_path / "train.parquet", rows(label=["a", "b", "b", "a"]))
    parquet(tmp_path / "test.parquet", rows(label=["a", None, "b", "a"]))
    assert table(read_dataset(tmp_path))["test.parquet#1"] == ("", "unlabelled")
    parquet(tmp_path / "test.parquet", rows())
    assert read_dataset(tmp_path).splits.tolist().count("unlabelled") == 4


def test_several_columns_of_labels(tmp_path: Path) -> None:
    hub = {"breed": labels("pug", "corgi"), "coat": labels("short", "long")}
    parquet(tmp_path / "train.parquet", rows(hub=hub, breed=[0, 1, 0, 1], coat=[0, 1, 1, 0], weight=[1, 2, 3, 4]))
    message = error_of(tmp_path)
    assert "train.parquet has 2 columns of labels, breed, coat" in message and "data.columns='label=coat'" in message
    assert "its columns are image (struct<bytes: binary, path: string>), breed (int64), coat (int64), weight (int64)" in message
    assert read_dataset(tmp_path, columns={"label": "breed"}).class_names == ("pug", "corgi")
    assert read_dataset(tmp_path, columns={"label": "weight"}).class_names == ("1", "2", "3", "4")
    assert "no column 'bred' that holds labels; did you mean breed?" in error_of(tmp_path, {"label": "bred"})
    assert "no column 'image' that holds labels" in error_of(tmp_path, {"label": "image"})
    assert "data.columns: box means nothing" in error_of(tmp_path, {"box": "coat"})


def test_several_columns_of_images(tmp_path: Path) -> None:
    both = rows(label=["a", "b", "a", "b"]).append_column(
        "mask#1", pa.array([{"bytes": jpeg(row + 50), "path": None} for row in range(4)], IMAGE)
    )
    parquet(tmp_path / "train.parquet", both)
    message = error_of(tmp_path)
    assert "2 columns of images, image, mask#1" in message and "data.columns='image=mask#1'" in message
    for key in ("image", "path"):
        dataset = read_dataset(tmp_path, columns={key: "mask#1"})
        assert dataset.paths[2] == "train.parquet#mask%231/2"
        assert dataset.images.read(dataset.paths[2]) == LAYOUT.images(dataset.root).read(dataset.paths[2]) == jpeg(52)


def test_only_a_coarser_column_becomes_a_level(tmp_path: Path) -> None:
    hub = {name: labels("x", "y", "z") for name in ("label", "coarser", "same", "mixed")}
    columns = {"label": [0, 1, 2, 0], "coarser": [1, 0, 1, 1], "same": [1, 2, 0, 1], "mixed": [0, 1, 1, 1]}
    parquet(tmp_path / "train.parquet", rows(hub=hub, **columns))
    assert {level.name: level.of_classes() for level in read_dataset(tmp_path).levels} == {"coarser": ["y", "x", "y"]}


@pytest.mark.parametrize(
    ("column", "reason"),
    [
        ({"label": [0, 1, 2, 0]}, "train.parquet, record 3: its label is 2, and should be from 0 to 1"),
        ({"label": [0, -2, 1, 0]}, "train.parquet, record 2: its label is -2"),
        ({"label": [0.0, 1.0, 0.5, 0.0]}, "has no column of labels, which are whole numbers or texts"),
        ({"label": ["a", "b\0", "b", "a"]}, "train.parquet, record 2: its label is 'b\\x00'"),
    ],
)
def test_labels_that_there_cannot_be(tmp_path: Path, column: dict[str, list], reason: str) -> None:
    parquet(tmp_path / "train.parquet", rows(hub={"label": labels("a", "b")}, **column))
    assert reason in error_of(tmp_path)


def test_files_must_agree(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", rows(hub={"label": labels("a", "b")}, label=[0, 1, 0, 1]))
    parquet(tmp_path / "val.parquet", rows(hub={"label": labels("b", "a")}, label=[0, 1, 0, 1]))
    parquet(tmp_path / "test.parquet", rows(label=["a", "b", "a", "b"]).rename_columns(["img", "label"]))
    message = error_of(tmp_path)
    assert "val.parquet: the classes in its column label are not those of the other files" in message
    assert "test.parquet: it has no column of images called image" in message
    parquet(tmp_path / "val.parquet", rows(hub={"label": labels("a", "b")}, name=["a"] * 4))
    assert "val.parquet: it has no column label" in error_of(tmp_path)


def test_images_that_are_given_by_paths(tmp_path: Path) -> None:
    paths = pa.array([{"bytes": None, "path": f"/data/{row}.jpg"} for row in range(4)], IMAGE)
    only_paths = rows(label=["a", "b", "a", "b"]).set_column(0, "image", paths)
    parquet(tmp_path / "a" / "train.parquet", only_paths)
    assert "train.parquet: its column image holds paths and no images" in error_of(tmp_path / "a")
    huggingface_arrow.save(tmp_path / "b", [only_paths.replace_schema_metadata({"huggingface": '{"info": {"features": {}}}'})])
    assert "data-00000-of-00001.arrow: its column image holds paths and no images" in error_of(tmp_path / "b")
    mixed = pa.array([{"bytes": jpeg(0), "path": None}, {"bytes": None, "path": "x.jpg"}, None, {"bytes": b"", "path": None}], IMAGE)
    parquet(tmp_path / "c" / "train.parquet", only_paths.set_column(0, "image", mixed))
    dataset = read_dataset(tmp_path / "c")
    assert dataset.images.read(dataset.paths[0]) == jpeg(0) and dataset.images.read(dataset.paths[3]) == b""
    for path in dataset.paths[1:3]:
        with pytest.raises(UnreadableImage, match="does not hold the image"):
            dataset.images.read(path)


def test_bytes_that_are_said_to_be_images(tmp_path: Path) -> None:
    plain = pa.table({"photo": pa.array([jpeg(row) for row in range(4)], pa.binary()), "label": ["a", "b", "a", "b"]})
    hub = {"huggingface": json.dumps({"info": {"features": {"photo": {"_type": "Image"}}}})}
    parquet(tmp_path / "train.parquet", plain.replace_schema_metadata(hub))
    dataset = read_dataset(tmp_path)
    assert dataset.images.read("train.parquet#3") == jpeg(3)
    parquet(tmp_path / "train.parquet", plain)
    assert LAYOUT.recognise(tmp_path) is None


def test_tables_of_paths_are_not_recognised(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", pa.table({"path": ["a.jpg", "b.jpg"], "label": ["a", "b"]}))
    for path in (tmp_path, tmp_path / "train.parquet"):
        assert LAYOUT.recognise(path) is None
    put(tmp_path / "broken.parquet", b"PAR1")
    assert LAYOUT.recognise(tmp_path / "broken.parquet") is None


def test_state_files_lead_nowhere_else(tmp_path: Path) -> None:
    root = huggingface_arrow.write(tmp_path)
    state = json.loads((root / "train" / "state.json").read_text())
    for changed, reason in (
        ({"_data_files": [{"filename": "../../x.arrow"}]}, "train/state.json: the path '../../x.arrow' leads out"),
        ({"_data_files": ["data.arrow"]}, "its _data_files should be a list of objects"),
        ({"_data_files": []}, "its _data_files should be a list of objects"),
        ({"_indices_files": [{"filename": "indices.arrow"}]}, "it is a selection of the rows"),
        ({"_data_files": [{"filename": "gone.arrow"}]}, "train/gone.arrow: it cannot be read"),
    ):
        put(root / "train" / "state.json", json.dumps(state | changed))
        assert reason in error_of(root)
    put(root / "dataset_dict.json", '{"splits": "train"}')
    assert "dataset_dict.json: its splits should be a list of names" in error_of(root)
    put(root / "dataset_dict.json", "{")
    assert error_of(root).startswith("dataset_dict.json, line 1: it is not JSON")


def test_more_rows_than_a_file_can_hold_images(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", rows(label=["a", "b", "a", "b"]))
    nothing = pa.table({"image": pa.nulls(300_000, IMAGE), "label": pa.array(["a"] * 300_000)})
    pq.write_table(nothing, tmp_path / "test.parquet")
    assert (tmp_path / "test.parquet").stat().st_size < 100_000
    assert "test.parquet: it cannot be read (it says that it has 300,000 rows)" in error_of(tmp_path)


def test_a_damaged_schema_never_ends_the_process(tmp_path: Path) -> None:
    parquet(tmp_path / "train.parquet", rows(hub={"label": labels("a", "b")}, label=[0, 1, 0, 1]))
    good = (tmp_path / "train.parquet").read_bytes()
    put(tmp_path / "train.parquet", good.replace(b"label", b"lab\xffl"))
    assert "train.parquet: it cannot be read" in error_of(tmp_path)
    for hub in ("null", "{}", '{"info": {"features": []}}', '{"info": {"features": {"label": 3}}}', "[" * 5000, "\xff"):
        parquet(tmp_path / "train.parquet", rows(label=["a", "b", "a", "b"]).replace_schema_metadata({"huggingface": hub}))
        assert read_dataset(tmp_path).class_names == ("a", "b")
    parquet(tmp_path / "train.parquet", rows(hub={"label": {"_type": "ClassLabel", "names": [1, 2]}}, label=[0, 1, 0, 1]))
    assert "the names of the column label should be a list of texts" in error_of(tmp_path)


@pytest.mark.parametrize("module", [huggingface, huggingface_arrow])
def test_many_threads_read_at_once(tmp_path: Path, module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_images, "_CACHE_BYTES", 5_000)  # less than all row groups
    dataset = read_dataset(module.write(tmp_path))
    later = LAYOUT.images(dataset.root)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(later.read, [*dataset.paths, *reversed(dataset.paths)] * 5))
    once = [dataset.images.read(path) for path in dataset.paths]
    assert read == [*once, *reversed(once)] * 5 and set(once) == {jpeg(seed) for seed in range(18)}


def test_a_row_group_is_read_once_and_kept_up_to_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = read_dataset(huggingface.write(tmp_path))
    loaded: list[int] = []
    load = row_images._Parquet._group
    monkeypatch.setattr(row_images._Parquet, "_group", lambda self, name, group: loaded.append(group) or load(self, name, group))
    images = LAYOUT.images(dataset.root)
    first = [path for path in dataset.paths if "train-00000" in path]
    for path in first * 2:
        images.read(path)
    assert loaded == [0, 1, 2]
    loaded.clear()
    monkeypatch.setattr(row_images, "_CACHE_BYTES", 1)
    images = LAYOUT.images(dataset.root)
    for path in first * 2:
        images.read(path)
    assert loaded == [0, 1, 2, 0, 1, 2]


def test_images_are_not_read_with_the_labels(tmp_path: Path) -> None:
    """Rows after the first need not be whole for the labels to be read."""
    root = huggingface.write(tmp_path)
    file = root / "data" / "train-00000-of-00002.parquet"
    data = bytearray(file.read_bytes())
    place = data.find(jpeg(7))
    assert place > 0
    data[place - 4 : place + 40] = bytes(44)
    file.write_bytes(data)
    dataset = read_dataset(root)
    assert dataset.images.read("data/train-00000-of-00002.parquet#0") == jpeg(0)
    with pytest.raises(UnreadableImage):
        dataset.images.read("data/train-00000-of-00002.parquet#7")


def test_images_that_are_not_there(tmp_path: Path) -> None:
    for module, file in ((huggingface, "data/test-00000-of-00001.parquet"), (huggingface_arrow, "test/data-00000-of-00001.arrow")):
        root = module.write(tmp_path / module.__name__)
        images = LAYOUT.images(root)
        assert images.read(f"{file}#1") == jpeg(17)
        for path in (f"{file}#2", f"{file}#-1", f"{file}#x", f"{file}#other/1", file, "nothing.parquet#0", f"../{root.name}/{file}#0"):
            with pytest.raises(UnreadableImage):
                images.read(path)
