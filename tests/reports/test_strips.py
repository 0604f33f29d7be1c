from __future__ import annotations

import base64
import shutil
from collections.abc import Callable
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from fieldmark.datasets.content import file_hash
from fieldmark.datasets.images import Files
from fieldmark.datasets.recorded_images import RecordedImages
from fieldmark.evaluation.assessment import Assessment, assess
from fieldmark.evaluation.deletion import Deletion, deletion_check
from fieldmark.evaluation.evidence import Evidence
from fieldmark.evaluation.run import Run
from fieldmark.reports import strips as module
from fieldmark.reports.strips import StripImage, Strips, strips

Answers = Callable[..., Assessment]


@pytest.fixture
def found(finished_run: Run) -> Assessment:
    return assess(finished_run)


def answered(found: Assessment, said: np.ndarray, surety: np.ndarray | None = None) -> Assessment:
    """As if the images had got these answers, by default with equal probabilities."""
    scale = np.full(len(said), 4.0) if surety is None else surety
    logits = (np.eye(len(found.test.class_names))[said] * scale[:, None]).astype(np.float32)
    return replace(found, test=replace(found.test, logits=logits), logits=logits)


def drawn(run: Run, found: Assessment, **hashes: str) -> Strips:
    table = pq.read_table(run.folder.split_file).to_pylist()
    recorded = {row["path"]: row["hash"] for row in table} | hashes
    return strips(found, RecordedImages(Files(Path(run.folder.manifest().data.root)), recorded, {}))


def in_order(made: Strips) -> list[StripImage]:
    return [image for pair in made.pairs for side in pair for image in side.images]


def opened(uri: str | None) -> Image.Image:
    assert uri is not None
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(BytesIO(base64.b64decode(data)))


def test_each_side_has_the_images_of_its_class(finished_run: Run, found: Assessment) -> None:
    """Of 4 images of each class, 3 of the first are mistaken for the second, 1 of the second for the first; the third is never mistaken."""
    labels, names = found.test.labels, found.test.class_names
    said = labels.astype(np.int64).copy()
    first, second = np.flatnonzero(labels == 0), np.flatnonzero(labels == 1)
    said[first[:3]], said[second[2]] = 1, 0
    surety = np.full(len(labels), 4.0)
    surety[first[1]], surety[second[3]] = 9, 8
    changed = answered(found, said, surety)
    made = drawn(finished_run, changed)
    ((one, other),) = made.pairs
    assert (one.name, one.n, one.taken) == (names[0], 4, 3) and (other.name, other.n, other.taken) == (names[1], 4, 1)
    ids = [str(each) for each in found.test.ids]
    # Two mistakes, the surest first, and the right answer that is left; one mistake, and two right answers of three.
    assert [each.path for each in one.images] == [ids[first[1]], ids[first[0]], ids[first[3]]]
    assert [each.said for each in one.images] == [names[1], names[1], names[0]]
    assert [each.mistaken for each in one.images] == [True, True, False]
    assert [each.path for each in other.images] == [ids[second[2]], ids[second[3]], ids[second[0]]]
    assert [each.mistaken for each in other.images] == [True, False, False]


def test_images_are_as_the_network_sees_them_with_a_map_over_them(finished_run: Run, found: Assessment) -> None:
    said = (found.test.labels + 1) % 3
    made = drawn(finished_run, answered(found, said))
    root = Path(finished_run.folder.manifest().data.root)
    for each in in_order(made):
        image, heat = opened(each.image), opened(each.map)
        assert image.size == heat.size and each.reason == "" and each.mistaken
        # The file is 32 pixels wide, the network's crop 32 of 36: what is shown is that, enlarged.
        whole = Image.open(root / each.path).convert("RGB").resize((36, 36), Image.Resampling.BILINEAR).crop((2, 2, 34, 34))
        small = np.asarray(image.resize((8, 8), Image.Resampling.BOX), float)
        assert np.abs(small - np.asarray(whole.resize((8, 8), Image.Resampling.BOX), float)).mean() < 12
        assert np.abs(np.asarray(heat, float) - np.asarray(image, float)).mean() > 1


def test_the_check_is_of_mistakes_first_and_of_the_answer_that_was_given(
    finished_run: Run, found: Assessment, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[np.ndarray] = []

    def noted(probability: Any, pixels: np.ndarray, heat: np.ndarray, seed: int) -> Deletion:
        checked.append(pixels)
        assert heat.shape == pixels.shape[1:] and probability(pixels[None]).shape == (1,)
        return deletion_check(probability, pixels, heat, seed=seed)

    monkeypatch.setattr(module, "deletion_check", noted)
    monkeypatch.setattr(module, "_CHECKED", 3)
    said = found.test.labels.astype(np.int64).copy()
    rows = [int(np.flatnonzero(found.test.labels == label)[0]) for label in (0, 1)]
    said[rows] = [1, 0]
    made = drawn(finished_run, answered(found, said))
    assert len(in_order(made)) == 6 and made.summary is not None and made.summary.n == 3
    root = Path(finished_run.folder.manifest().data.root)
    for pixels, row in zip(checked[:2], rows, strict=True):
        path = str(found.test.ids[row])
        assert (pixels == finished_run.preprocess.pixels((root / path).read_bytes(), path, None)).all()


def test_nothing_is_shown_where_nothing_is_confused(finished_run: Run, found: Assessment) -> None:
    assert drawn(finished_run, answered(found, found.test.labels.astype(np.int64))) == Strips((), None)


def test_an_image_that_is_gone_or_another_has_a_reason_in_its_place(
    finished_run: Run, found: Assessment, birds: Path, tmp_path: Path
) -> None:
    said = (found.test.labels + 1) % 3
    changed = answered(found, said)
    paths = [each.path for each in in_order(drawn(finished_run, changed))]
    root = tmp_path / "birds"
    shutil.copytree(birds, root)
    (root / paths[0]).unlink()
    other = next(path for path in sorted(map(str, found.test.ids)) if path not in paths[:1])
    (root / paths[1]).write_bytes((root / other).read_bytes() + b"\0")
    table = pq.read_table(finished_run.folder.split_file).to_pylist()
    made = strips(changed, RecordedImages(Files(root), {row["path"]: row["hash"] for row in table}, {}))
    by_path = {each.path: each for each in in_order(made)}
    assert by_path[paths[0]].image is None and by_path[paths[0]].map is None and "No such file" in by_path[paths[0]].reason
    assert by_path[paths[1]].image is None and by_path[paths[1]].reason == "the file has changed since the run began"
    assert all(each.image and each.map for path, each in by_path.items() if path not in paths[:2])


def test_if_no_image_can_be_shown_there_is_no_summary(found: Assessment, tmp_path: Path) -> None:
    made = strips(answered(found, (found.test.labels + 1) % 3), RecordedImages(Files(tmp_path), {}, {}))
    assert made.summary is None and made.pairs
    assert all(each.image is None and "No such file" in each.reason for each in in_order(made))


def test_a_network_without_a_map_is_shown_by_images_alone(finished_run: Run, found: Assessment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "maps_of", lambda *_: None)
    made = drawn(finished_run, answered(found, (found.test.labels + 1) % 3))
    assert made.summary is None and all(each.image and each.map is None for each in in_order(made))


def test_images_are_cropped_to_their_boxes(finished_run: Run, found: Assessment) -> None:
    said = (found.test.labels + 1) % 3
    root = Path(finished_run.folder.manifest().data.root)
    boxed = Run.load(finished_run.path)
    boxed.preprocess = replace(boxed.preprocess, margin=0.0)
    hashes = {str(path): file_hash((root / str(path)).read_bytes()) for path in found.test.ids}
    boxes = {str(path): (0.0, 0.0, 12.0, 12.0) for path in found.test.ids}
    made = strips(replace(answered(found, said), evidence=Evidence(boxed)), RecordedImages(Files(root), hashes, boxes))
    for each in in_order(made):
        corner = Image.open(root / each.path).convert("RGB").crop((0, 0, 12, 12)).resize((8, 8), Image.Resampling.BOX)
        shown = opened(each.image).resize((8, 8), Image.Resampling.BOX)
        assert np.abs(np.asarray(shown, float) - np.asarray(corner, float)).mean() < 14
