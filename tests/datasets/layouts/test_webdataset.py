from __future__ import annotations

import gzip
import io
import json
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from miniatures import jpeg, put, webdataset
from miniatures.webdataset import sample, shard

from fieldmark.core.errors import InputError
from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.images import Stamp
from fieldmark.datasets.layouts import LAYOUTS, read_dataset
from fieldmark.runtime.decode import UnreadableImage

IMAGE = jpeg(1)


def table(dataset: Dataset) -> dict[str, tuple[str, str]]:
    """Path → (class name, split)."""
    return dict(zip(dataset.paths, zip(dataset.label_names(), dataset.splits.tolist(), strict=True), strict=True))


def error_of(data: Path, layout: str = "webdataset") -> str:
    with pytest.raises(InputError) as caught:
        read_dataset(data, layout)
    return str(caught.value)


def labelled(**labels: str | object) -> list[tuple[str, bytes]]:
    """An image for each, with its label in .cls, or in .json where it is no text."""
    members = []
    for name, label in labels.items():
        cls = isinstance(label, str)
        members += [(f"{name}.jpg", IMAGE), (f"{name}.cls" if cls else f"{name}.json", (label if cls else json.dumps(label)).encode())]  # type: ignore[union-attr]
    return members


def test_known_samples(tmp_path: Path) -> None:
    dataset = read_dataset(webdataset.write(tmp_path))
    rows = table(dataset)
    assert rows["train-000000.tar#sample000004.jpg"] == ("purple finch", "train")
    assert rows["train-000001.tar#sample000008.jpg"] == ("cassins finch", "train")
    assert rows["val-000000.tar#sample000009.jpg"] == ("house finch", "val")
    assert rows["test-000000.tar#sample000014.jpg"] == ("cassins finch", "test")
    assert dataset.images.read("train-000000.tar#sample000004.jpg") == jpeg(4)
    assert dataset.images.stamp("val-000000.tar#sample000009.jpg") == Stamp.of(dataset.root / "val-000000.tar")
    assert "classes are named by classnames.txt" in dataset.notes


def test_one_tar_file_is_a_dataset(tmp_path: Path) -> None:
    file = shard(tmp_path / "birds" / "garden.tar", labelled(a="wren", b="song_thrush", c="wren"))
    dataset = read_dataset(file)
    assert (dataset.name, dataset.class_names) == ("garden", ("song thrush", "wren"))
    assert table(dataset)["garden.tar#c.jpg"] == ("wren", "train") and dataset.images.read("garden.tar#c.jpg") == IMAGE
    assert LAYOUTS["webdataset"].images(dataset.root).read("garden.tar#c.jpg") == IMAGE


@pytest.mark.parametrize("key", ["label", "cls", "class", "category"])
def test_labels_in_json(tmp_path: Path, key: str) -> None:
    shard(tmp_path / "0.tar", labelled(a={key: "wren", "width": 3}, b={key: "owl"}, c={key: 7}))
    assert read_dataset(tmp_path).class_names == ("7", "owl", "wren")


def test_numbers_without_names_are_in_their_own_order(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", labelled(a="10", b="2", c={"label": 0}))
    dataset = read_dataset(tmp_path)
    assert dataset.class_names == ("0", "2", "10") and table(dataset)["0.tar#a.jpg"] == ("10", "train")
    assert any("classes.txt beside the shards would name them" in note for note in dataset.notes)


def test_json_may_name_what_cls_counts(tmp_path: Path) -> None:
    members = [*labelled(a="1", b="0"), ("a.json", b'{"label_name": "wren"}'), ("b.json", b'{"label_name": "owl"}')]
    shard(tmp_path / "0.tar", members)
    assert read_dataset(tmp_path).class_names == ("owl", "wren")
    shard(tmp_path / "1.tar", [*labelled(a="1"), ("a.json", b'{"label_name": "crow"}')])
    assert "1.tar, member 1: class 1 is called 'crow' here, and 'wren' before" in error_of(tmp_path)


def test_text_is_a_label_only_where_there_is_no_other(tmp_path: Path) -> None:
    captions = [("a.txt", b"a wren on a branch"), ("b.txt", b"an owl"), ("c.jpg", IMAGE), ("c.txt", b"crow\n")]
    shard(tmp_path / "0.tar", [*labelled(a="wren", b={"label": "owl"}), *captions])
    assert read_dataset(tmp_path).class_names == ("crow", "owl", "wren")


def test_members_of_one_sample_may_have_any_order_and_dots(tmp_path: Path) -> None:
    members = [
        ("x/1.cls", b"a"),
        ("y/1.cls", b"b"),
        ("x/1.left.PNG", IMAGE),
        ("./y/1.jpg", IMAGE),
        ("._1.jpg", b"mac"),
        ("z/odd#1.jpg", IMAGE),
    ]
    shard(tmp_path / "0.tar", [*members, ("z/odd#1.cls", b"a"), ("notes.md", b""), ("lone.cls", b"3")])
    dataset = read_dataset(tmp_path)
    assert table(dataset) == {
        "0.tar#x/1.left.PNG": ("a", "train"),
        "0.tar#y/1.jpg": ("b", "train"),
        "0.tar#z/odd%231.jpg": ("a", "train"),
    }
    assert all(dataset.images.read(path) == IMAGE for path in dataset.paths)
    assert "passed over 2 members that are no images and no labels" in dataset.notes


def test_splits_by_folder_by_name_and_by_none(tmp_path: Path) -> None:
    for number, file in enumerate(["imagenet-train-0001.tar", "validation/00.tar", "extra.tar", "test/train_of_thought.tar"]):
        shard(tmp_path / file, labelled(**{f"p{number}a": "a", f"p{number}b": "b"}))
    dataset = read_dataset(tmp_path)
    assert {(path.split("#")[0], split) for path, (_, split) in table(dataset).items()} == {
        ("imagenet-train-0001.tar", "train"),
        ("validation/00.tar", "val"),
        ("test/train_of_thought.tar", "train"),
    }
    assert any("passed over, since their names say no split that is known: extra.tar" in note for note in dataset.notes)


def test_what_the_names_of_shards_miss(tmp_path: Path) -> None:
    for number in (0, 3):
        shard(tmp_path / f"train-{number:06d}-of-000004.tar", labelled(a="a", b="b"))
    message = error_of(tmp_path)
    assert "train-000001-of-000004.tar: it is not there" in message and "train-000002-of-000004.tar" in message


def test_test_may_be_unlabelled_and_train_may_not(tmp_path: Path) -> None:
    shard(tmp_path / "train.tar", labelled(a="0", b="1"))
    shard(tmp_path / "test.tar", [("c.jpg", IMAGE), *labelled(d="-1", e="1")])
    assert table(read_dataset(tmp_path))["test.tar#c.jpg"] == ("", "unlabelled")
    assert table(read_dataset(tmp_path))["test.tar#d.jpg"] == ("", "unlabelled")
    assert table(read_dataset(tmp_path))["test.tar#e.jpg"] == ("1", "test")
    shard(tmp_path / "val.tar", [("c.jpg", IMAGE), ("c.json", b'{"width": 3}'), *labelled(d="-1")])
    message = error_of(tmp_path)
    assert "val.tar, member 1: the sample has no label in .cls, .json or .txt; it has .json" in message
    assert "val.tar, member 3: the label is -1" in message


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (("a.cls", b"12"), "0.tar, member 3: the label is 12, and classes.txt names 2 classes, from 0"),
        (("a.cls", b""), "the label is '', and should be a whole number or a name"),
        (("a.cls", b"\xff\xfe"), "should be a whole number or a name"),
        (("a.cls", b"x" * 300), "should be a whole number or a name"),
        (("a.json", b'{"label": [0, 1]}'), "the label is of type list"),
        (("a.json", b'{"label": true}'), "the label is True"),
        (("a.json", b'{"label": 1e9}'), "the label is 1000000000.0"),
        (("a.json", b"[" * 5000), "the sample's .json cannot be read"),
        (("a.json", b"[1]"), "the sample's .json is no object"),
        (("a.cls", b"1" * 2**21), "member 4: 'a.cls' should hold a label, and has 2,097,152 bytes"),
    ],
)
def test_labels_that_there_cannot_be(tmp_path: Path, member: tuple[str, bytes], reason: str) -> None:
    put(tmp_path / "classes.txt", "one\ntwo\n")
    shard(tmp_path / "0.tar", [*labelled(ok="0"), ("a.jpg", IMAGE), member])
    assert reason in error_of(tmp_path)


def test_samples_that_there_cannot_be(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", [*labelled(a="0", b="1"), ("a.png", IMAGE), ("b.cls", b"2"), *labelled(a="0")])
    message = error_of(tmp_path)
    assert "the sample has 3 images, and should have one: a.jpg, a.png, a.jpg" in message
    assert "0.tar, member 6: the sample has a .cls already" in message


def test_paths_that_lead_out_are_refused(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", [*labelled(a="0", b="1"), ("../../evil.jpg", IMAGE), ("/etc/evil.cls", b"0")])
    message = error_of(tmp_path)
    assert "0.tar, member 5: the path '../../evil.jpg' leads out" in message and "member 6: the path '/etc/evil.cls' leads out" in message


def test_links_and_devices_are_no_images(tmp_path: Path) -> None:
    file = shard(tmp_path / "0.tar", labelled(a="0", b="1"))
    with tarfile.open(file, "a") as tar:
        for name, kind in (("c.jpg", tarfile.SYMTYPE), ("d.jpg", tarfile.LNKTYPE), ("e.png", tarfile.CHRTYPE), ("readme", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
    message = error_of(tmp_path)
    assert (
        all(f"'{name}' is a link, a device or a sparse file" in message for name in ("c.jpg", "d.jpg", "e.png")) and "readme" not in message
    )


def test_compressed_shards_must_be_decompressed(tmp_path: Path) -> None:
    folder = tmp_path / "packed"
    raw = shard(tmp_path / "train-0.tar", labelled(a="0", b="1")).read_bytes()
    put(folder / "train-0.tar.gz", gzip.compress(raw))
    for data, layout in ((folder, "auto"), (folder, "webdataset"), (folder / "train-0.tar.gz", "auto")):
        message = error_of(data, layout)
        assert "are compressed (train-0.tar.gz)" in message and "gunzip" in message
    put(tmp_path / "bomb.tar.gz", gzip.compress(bytes(2**26)))
    assert "Unpack it" in error_of(tmp_path / "bomb.tar.gz", "auto")


def test_a_shard_that_is_cut_short(tmp_path: Path) -> None:
    file = shard(tmp_path / "0.tar", labelled(a="0", b="1"))
    whole = file.read_bytes()
    end = 6 * 512 + 2 * -(-len(IMAGE) // 512) * 512  # four headers, two labels and two images
    assert whole[end:].count(0) == len(whole) - end
    for size in (0, 1500, end - 512, end):
        file.write_bytes(whole[:size])
        message = error_of(tmp_path)
        assert "0.tar: it is cut short after member" in message and "download it again" in message
    file.write_bytes(whole[: end + 512])
    assert len(read_dataset(tmp_path)) == 2


def test_damage_in_the_middle_is_no_end(tmp_path: Path) -> None:
    file = shard(tmp_path / "0.tar", labelled(a="0", b="1"))
    data = bytearray(file.read_bytes())
    data[512 + -(-len(IMAGE) // 512) * 512] ^= 0xFF  # the first byte of the second header
    file.write_bytes(data)
    assert "0.tar: it is damaged after member 1" in error_of(tmp_path)


def test_headers_that_loop_or_ask_for_gigabytes(tmp_path: Path) -> None:
    backwards = tarfile.TarInfo("a.jpg")
    header = bytearray(backwards.tobuf(tarfile.USTAR_FORMAT))
    header[124:136] = b"\xff" * 11 + b"\x00"  # a size below zero
    large = tarfile.TarInfo("././@PaxHeader")
    large.type, large.size = tarfile.XHDTYPE, 2**33 - 1
    for block in (bytes(header), large.tobuf(tarfile.USTAR_FORMAT)):
        checked = bytearray(block)
        checked[148:156] = b" " * 8
        checked[148:156] = b"%06o\0 " % sum(checked)
        put(tmp_path / "0.tar", bytes(checked) + bytes(4096))
        assert "0.tar: it " in error_of(tmp_path)


def test_images_that_are_not_there(tmp_path: Path) -> None:
    images = read_dataset(webdataset.write(tmp_path)).images
    later = LAYOUTS["webdataset"].images(tmp_path / "finches")
    for path in ("train-000000.tar#nothing.jpg", "nothing.tar#a.jpg", "../finches/val-000000.tar#sample000009.jpg", "sample000009.jpg"):
        with pytest.raises(UnreadableImage):
            images.read(path)
        with pytest.raises(UnreadableImage):
            later.read(path)
    assert images.read("val-000000.tar#sample000009.jpg") == jpeg(9)
    (tmp_path / "finches" / "val-000000.tar").write_bytes(b"")
    with pytest.raises(UnreadableImage, match="cut short"):
        images.read("val-000000.tar#sample000009.jpg")


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    dataset = read_dataset(webdataset.write(tmp_path))
    later = LAYOUTS["webdataset"].images(dataset.root)
    with ThreadPoolExecutor(8) as pool:
        read = list(pool.map(later.read, dataset.paths * 8))
    assert read == [jpeg(int(path[-10:-4])) for path in dataset.paths] * 8


def test_tar_files_without_samples_are_not_taken_for_shards(tmp_path: Path) -> None:
    shard(tmp_path / "photos" / "backup.tar", [("a.jpg", IMAGE), ("b.jpg", IMAGE), ("about.txt", b"")])
    put(tmp_path / "photos" / "wren" / "1.jpg", IMAGE)
    put(tmp_path / "photos" / "owl" / "1.jpg", IMAGE)
    assert read_dataset(tmp_path / "photos").layout == "class-folders"


def test_only_headers_and_labels_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = shard(tmp_path / "0.tar", [*sample(0, 0), *sample(1, 1), ("large.jpg", bytes(5_000_000)), ("large.cls", b"1")])
    sizes: list[int] = []
    opened = Path.open

    class Watched(io.BufferedReader):
        def read(self, size: int | None = -1) -> bytes:
            sizes.append(size if size is not None else -1)
            return super().read(size)

    monkeypatch.setattr(Path, "open", lambda path, mode="r", *rest: Watched(io.FileIO(path)) if path == file else opened(path, mode, *rest))
    assert len(read_dataset(tmp_path)) == 3
    assert sizes and all(0 <= size <= 512 for size in sizes)
