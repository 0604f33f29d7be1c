from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from elements import Page
from PIL import Image

import fieldmark
from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.manifest import Origin
from fieldmark.core.run_folder import RunFolder
from fieldmark.evaluation.deletion import Deletion
from fieldmark.evaluation.explanation import heat_maps
from fieldmark.evaluation.run import Run
from fieldmark.reports import explain
from fieldmark.reports.explain import Explained, explain_run, maps_of
from fieldmark.scoring.neighbours import most_confused, nearest
from fieldmark.scoring.predictions import Predictions
from runs import train

QUIET = Console(quiet=True)


def copied(run: Run, path: Path, **manifest: Any) -> Run:
    """A copy of a run with other values in its manifest."""
    shutil.copytree(run.path, path)
    RunFolder(path).update_manifest(**manifest)
    return Run.load(path)


def written(made: Explained) -> tuple[dict[str, Any], Page]:
    return json.loads(made.figures.read_text(encoding="utf-8")), Page(made.page.read_text(encoding="utf-8"))


def trained_on(run: Run) -> str:
    """A training image that is classified correctly, so that it would be its own nearest."""
    train = Predictions.load(run.folder.predictions / "train.npz")
    return str(train.ids[train.logits.argmax(axis=1) == train.labels][0])


def asks_for_nothing(page: Page) -> bool:
    """Whether every address in the page is within it, and nothing runs."""
    asking = {"src", "href", "srcset", "poster", "action", "data", "background"}
    addresses = [value for _, given in page.elements for name, value in given.items() if name in asking]
    return (
        all(address.startswith(("data:", "#")) for address in addresses)
        and re.findall(r"url\((?!#)|@import", page.html) == []
        and not [name for _, given in page.elements for name in given if name.startswith("on")]
        and not {tag for tag, _ in page.elements} & {"script", "iframe", "object", "embed", "base", "form", "video", "audio"}
    )


@pytest.fixture(scope="module")
def images(finished_run: Run, birds: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two test images, one that the run was trained on, and one that is none."""
    folder = tmp_path_factory.mktemp("images")
    for index, file in enumerate(sorted(birds.glob("test/*/*.png"))[::6]):
        shutil.copy(file, folder / f"{index}.png")
    shutil.copy(birds / trained_on(finished_run), folder / "trained.png")
    (folder / "x.png").write_bytes(b"not an image")
    return folder


@pytest.fixture(scope="module")
def explained(finished_run: Run, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Explained:
    return explain_run(finished_run, [images], tmp_path_factory.mktemp("explained") / "out", QUIET)


def test_the_figures_are_those_of_the_run(finished_run: Run, images: Path, explained: Explained) -> None:
    found, _ = written(explained)
    assert (explained.images, len(explained.problems)) == (4, 1)
    assert found["run"] == "finished" and found["method"] == "grad-cam"
    train, val = (Predictions.load(finished_run.folder.predictions / f"{split}.npz") for split in ("train", "val"))
    names, confused = train.class_names, most_confused(val)
    for row in found["images"][:2]:
        (said,) = finished_run.predict(row["path"], top=2)
        assert (row["answer"], row["runner_up"]) == said.classes
        assert [row["probability"], row["runner_up_probability"]] == pytest.approx(said.probabilities.tolist())
        assert row["unknown"] == bool(said.unknown)
        label = names.index(row["answer"])
        assert row["confused_with"] == names[confused[label]]
        pixels = finished_run.preprocess.pixels(Path(row["path"]))[None]
        _, features = finished_run.session(pixels)
        for key, other in (("nearest", label), ("nearest_confused", confused[label])):
            assert row[key] == train.ids[nearest(train, features, other, 4)[0]].tolist()
        assert row["deletion"]["gain"] == pytest.approx(row["deletion"]["moved_mean"] - row["deletion"]["score"])
        assert 1 / 20 <= row["deletion"]["p"] <= 1
    gains = [100 * row["deletion"]["gain"] for row in found["images"][:3]]
    assert found["summary"]["points"] == pytest.approx(np.mean(gains)) and found["summary"]["n"] == 3 and not found["summary"]["shown"]


def test_an_image_that_was_trained_on_is_not_its_own_neighbour(finished_run: Run, explained: Explained) -> None:
    found, page = written(explained)
    row = found["images"][2]
    assert trained_on(finished_run) not in row["nearest"] + row["nearest_confused"] and len(row["nearest"]) == 4
    assert row["note"].startswith("The run was trained on this very image") and row["note"] in page.text
    assert page.text.count("trained on this very image") == 1


@pytest.mark.parametrize("refit", [False, True])
def test_a_refit_has_learnt_from_val(finished_run: Run, birds: Path, tmp_path: Path, refit: bool) -> None:
    run = copied(finished_run, tmp_path / "run")
    recipe = run.folder.recipe_file.read_text(encoding="utf-8")
    assert "  refit: false\n" in recipe
    run.folder.recipe_file.write_text(recipe.replace("  refit: false\n", f"  refit: {str(refit).lower()}\n"), encoding="utf-8")
    image = next(row["path"] for row in pq.read_table(run.folder.split_file).to_pylist() if row["split"] == "val")
    found, _ = written(explain_run(Run.load(run.path), [birds / image], tmp_path / "out", QUIET))
    assert found["images"][0]["note"].startswith("The run was trained on this very image") == refit


def test_the_page_says_what_the_figures_say(explained: Explained) -> None:
    found, page = written(explained)
    assert "What these answers depend on" in page.text
    assert re.search(
        r"Over 3 images, deleting what the map marks costs [\d.]+ points of probability (more|less) than deleting as much elsewhere",
        page.text,
    )
    assert page.text.count("Nearest training images of the answer") == 3
    assert page.text.count("Check of the map Deleting what the map marks costs") == 3
    for row in found["images"][:3]:
        assert f"{row['answer']} {100 * row['probability']:.1f} % {row['path']}" in page.text
        assert all(path in page.text for path in row["nearest"] + row["nearest_confused"])
    links = [given["href"] for given in page.all("a")]
    assert links == [f"#{given['id']}" for given in page.all("section") if "id" in given] and len(links) == 4
    # the image, the map, its scale, and eight neighbours
    assert len(page.all("img")) == 3 * 11 and all(given["alt"] or given["src"] == page.all("img")[2]["src"] for given in page.all("img"))


def test_an_unreadable_image_has_a_row_that_says_so(explained: Explained) -> None:
    found, page = written(explained)
    row = found["images"][3]
    assert row == {"path": row["path"], "answer": None, "note": "not an image in a format that can be read"}
    assert f"No answer {row['path']} not an image in a format that can be read" in page.text
    assert "none: not an image in a format that can be read" in page.text and "4, 3 with an answer" in page.text


def test_maps_are_images_of_their_own(explained: Explained) -> None:
    found, _ = written(explained)
    names = [row["map"] for row in found["images"][:3]]
    assert names == ["1-0.png", "2-1.png", "3-trained.png"]
    assert sorted(path.name for path in explained.page.parent.iterdir()) == [*names, "explain.html", "explain.json"]
    for name in names:
        with Image.open(explained.page.parent / name) as laid:
            assert laid.size == (480, 480)


def test_nothing_is_asked_of_the_network(explained: Explained) -> None:
    _, page = written(explained)
    assert asks_for_nothing(page)
    (policy,) = [given["content"] for given in page.all("meta") if given.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'") and "script-src" not in policy


def test_the_same_images_give_the_same_bytes_wherever_they_stand(
    finished_run: Run, images: Path, explained: Explained, tmp_path: Path
) -> None:
    again = explain_run(Run.load(finished_run.path), [str(images)], tmp_path / "again", QUIET)
    for file in explained.page.parent.iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name
    alone, page = written(explain_run(finished_run, [images / "1.png"], tmp_path / "again", QUIET))
    assert {**alone["images"][0], "map": ""} == {**written(explained)[0]["images"][1], "map": ""}
    assert "What this answer depends on" in page.text and "Over 1" not in page.text and page.all("a") == []
    assert again.page.is_file() and sorted(path.name for path in (tmp_path / "again").iterdir()) == [
        "1-1.png",
        "explain.html",
        "explain.json",
    ]


def test_names_are_text_and_never_code(hostile_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "<b>"
    folder.mkdir()
    source = Path(hostile_run.folder.manifest().data.root) / hostile_run.class_names[0]
    shutil.copy(next(file for file in sorted(source.iterdir()) if "broken" not in file.name), folder / "<i>' onload=\"x\u202e.png")
    (folder / "<u>broken.png").write_bytes(b"not an image")
    made = explain_run(hostile_run, [folder], tmp_path / "out", QUIET)
    found, page = written(made)
    assert asks_for_nothing(page)
    assert not {tag for tag, _ in page.elements} & {"i", "u", "b", "em"}
    assert f"{folder}/<i>' onload=\"x\u202e.png" in page.text and f"{folder}/<u>broken.png" in page.text and "<em>run" in page.text
    assert {row["answer"] for row in found["images"]} <= {*hostile_run.class_names, None}
    assert [path.name for path in made.page.parent.glob("*.png")] == ["1-i-onload-x.png"]


@pytest.mark.parametrize("folder", ["a folder of mine", "explanation and notes"])
def test_files_of_others_stay_as_they_are(finished_run: Run, images: Path, explained: Explained, tmp_path: Path, folder: str) -> None:
    out = tmp_path / folder
    if folder == "explanation and notes":
        shutil.copytree(explained.page.parent, out)
        Image.new("RGB", (4, 4)).save(out / "1-0.png")
        foreign, problem = out / "1-0.png", "already exists and was not written by this command"
        (out / "notes.txt").write_text("mine")
    else:
        out.mkdir()
        (out / "notes.txt").write_text("mine")
        foreign, problem = out / "notes.txt", "holds notes.txt and no earlier explanation"
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    with pytest.raises(InputError, match=problem):
        explain_run(finished_run, [images], out, QUIET)
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    foreign.unlink()
    explain_run(finished_run, [images / "1.png"], out, QUIET)
    kept = {"notes.txt"} if (out / "notes.txt").exists() else set()
    assert {file.name for file in out.iterdir()} == {"1-1.png", "explain.html", "explain.json"} | kept


def test_what_cannot_be_explained_is_said_before_anything_is_written(
    finished_run: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, file = tmp_path / "out", tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(InputError, match="there is no method 'cam'"):
        explain_run(finished_run, [images], out, QUIET, method="cam")
    with pytest.raises(InputError, match="no one sequence of tokens"):
        explain_run(finished_run, [images], out, QUIET, method="rollout")
    with pytest.raises(InputError, match="there is no file or folder"):
        explain_run(finished_run, [tmp_path / "none"], out, QUIET)
    with pytest.raises(InputError, match="is a file; --out names a folder"):
        explain_run(finished_run, [images], file, QUIET)
    with pytest.raises(InputError, match="is a file"):
        explain_run(finished_run, [images], file / "below", QUIET)
    monkeypatch.setattr(explain, "_MOST", 3)
    with pytest.raises(InputError, match="4 images are too many for one page, which holds 3"):
        explain_run(finished_run, [images], out, QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_an_ensemble_is_explained_by_its_members_and_a_soup_by_itself(
    finished_run: Run, birds: Path, images: Path, tiny: Any, tmp_path: Path
) -> None:
    other = train(birds, *tiny("train.seed=1"), out=tmp_path / "other")
    both = fieldmark.ensemble(finished_run.path, other.path, out=tmp_path / "both", quiet=True)
    with pytest.raises(InputError, match="is an ensemble of 2 networks") as raised:
        explain_run(both, [images], tmp_path / "out", QUIET)
    assert str(both.members[0].path) in str(raised.value) and not (tmp_path / "out").exists()
    assert maps_of(both, np.zeros((1, 3, 32, 32), np.uint8), np.zeros(1, np.int64)) is None
    soup = fieldmark.ensemble(finished_run.path, other.path, method="soup", ingredients="all", out=tmp_path / "soup", quiet=True)
    found, _ = written(explain_run(soup, [images / "1.png"], tmp_path / "out", QUIET))
    assert found["images"][0]["map"] == "1-1.png"


@pytest.mark.parametrize("gone", [True, False])
def test_data_that_moved_or_changed_leave_an_explanation(finished_run: Run, birds: Path, images: Path, tmp_path: Path, gone: bool) -> None:
    root = tmp_path / "moved & gone"
    if not gone:
        shutil.copytree(birds, root)
        for file in root.glob("train/*/*.png"):
            Image.new("RGB", (32, 32)).save(file)
    run = copied(finished_run, tmp_path / "run", data=Origin(name="birds3", root=str(root), layout="class-folders"))
    _, page = written(explain_run(run, [images / "1.png"], tmp_path / "out", QUIET))
    assert len(page.all("img")) == 3 and page.html.count('class="missing"') == 8
    assert page.text.count("the dataset is no longer there" if gone else "the file has changed since the run began") == 8
    assert (f"The dataset was at {root} and is no longer there" in page.text) == gone
    assert (f"fieldmark evaluate {run.path} --moved-to PLACE" in page.text) == gone


def test_without_predictions_of_train_there_are_no_neighbours(finished_run: Run, images: Path, tmp_path: Path) -> None:
    run = copied(finished_run, tmp_path / "run")
    for split in ("train", "val"):
        (run.folder.predictions / f"{split}.npz").unlink()
    run.folder.calibration_file.unlink(missing_ok=True)
    run.forget_decisions()
    found, page = written(explain_run(run, [images / "1.png"], tmp_path / "out", QUIET))
    (row,) = found["images"]
    assert (row["nearest"], row["nearest_confused"]) == ([], []) and row["deletion"] is not None
    assert row["confused_with"] is not None and "in test" in page.text
    assert "There are no training images next to the answers: the run has no predictions of its training images." in page.text


def test_an_architecture_without_a_map_is_explained_without_one(
    finished_run: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: Any) -> None:
        raise InputError("mixer does not end in one feature map", hint="No heat map can be made of this architecture.")

    monkeypatch.setattr("fieldmark.evaluation.explanation.heat_maps", none)
    assert maps_of(finished_run, np.zeros((1, 3, 32, 32), np.uint8), np.zeros(1, np.int64)) is None
    made = explain_run(finished_run, [images], tmp_path / "out", QUIET)
    found, page = written(made)
    assert found["method"] is None and found["summary"] is None and made.summary is None
    assert page.text.count("There are no heat maps: mixer does not end in one feature map.") == 1
    assert "Check of the map" not in page.text and page.text.count("Nearest training images of the answer") == 3
    assert {row.get("map") for row in found["images"]} == {None} and list(made.page.parent.glob("*.png")) == []


def test_boxes_are_seen_as_the_run_sees_them(finished_run: Run, images: Path, tmp_path: Path) -> None:
    wide = {str(images / "1.png"): (0, 8, 32, 24)}
    made = explain_run(finished_run, [images / "0.png", images / "1.png"], tmp_path / "out", QUIET, boxes=wide)
    found, page = written(made)
    (said,) = finished_run.stream([images / "1.png"], 1, wide)
    assert found["images"][1]["probability"] == pytest.approx(float(said.probabilities[0]))
    assert [row["note"] for row in found["images"]] == ["It has no box and was seen whole.", ""]
    assert "was trained on whole images and sees these cropped" in page.text
    with Image.open(tmp_path / "out" / "2-1.png") as laid:
        assert laid.size == (480, 240), "in its own proportions, though the run sees it squashed"


def test_the_api_takes_boxes(finished_run: Run, images: Path, tmp_path: Path) -> None:
    fieldmark.explain(finished_run.path, images / "1.png", tmp_path / "out", boxes={str(images / "1.png"): (0, 8, 32, 24)})
    with Image.open(tmp_path / "out" / "1-1.png") as laid:
        assert laid.size == (480, 240)


def test_an_answer_that_is_no_number_is_none(finished_run: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "probabilities", lambda _, logits: np.full(logits.shape, np.nan, np.float32))
    _, page = written(explain_run(finished_run, [images / "1.png"], tmp_path / "out", QUIET))
    assert "No answer" in page.text and "the answer is not a number" in page.text


@pytest.mark.parametrize(
    ("score", "moved", "state", "words"),
    [
        (0.2, [0.5] * 19, "holds", "costs 30 points more than deleting as much elsewhere; none of 19 maps laid elsewhere costs as much."),
        (
            0.2,
            [0.5] * 17 + [0.1, 0.1],
            "unsure",
            "costs 26 points more than deleting as much elsewhere, but 2 of 19 maps laid elsewhere cost as much",
        ),
        (
            0.2,
            [0.23] * 18 + [0.1],
            "unsure",
            "costs 2 points more than deleting as much elsewhere, but 1 of 19 maps laid elsewhere costs as much",
        ),
        (0.5, [0.2] * 19, "fails", "costs no more than deleting as much elsewhere: do not trust this map."),
        (0.5, [0.504] * 19, "fails", "costs less than a point more than deleting as much elsewhere: do not trust this map."),
    ],
)
def test_the_check_in_words(score: float, moved: list[float], state: str, words: str) -> None:
    shown = explain._Map("", b"", "", Deletion(score, np.array(moved)))
    assert shown.state == state and words in shown.verdict


def test_maps_for_the_report_are_those_of_the_architecture(finished_run: Run, images: Path) -> None:
    pixels = np.stack([finished_run.preprocess.pixels(images / f"{index}.png") for index in range(2)])
    maps = maps_of(finished_run, pixels, np.array([0, 2]))
    expected = heat_maps(finished_run.model, pixels, np.array([0, 2]), finished_run.normalisation, finished_run.execution, "grad-cam")
    assert maps is not None and maps.dtype == np.float32 and maps.shape == (2, 32, 32)
    np.testing.assert_array_equal(maps, expected)


def test_each_image_has_moved_maps_of_its_own(finished_run: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []

    def noted(*given: Any, seed: int) -> Deletion:
        seeds.append(seed)
        return Deletion(0.5, np.full(19, 0.5))

    monkeypatch.setattr(explain, "deletion_check", noted)
    explain_run(finished_run, [images / "0.png", images / "1.png", images / "0.png"], tmp_path / "out", QUIET)
    assert seeds[0] == seeds[2] != seeds[1]


def test_that_pytorch_is_loaded_is_said_before_anything_loads_it(
    finished_run: Run, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Enough(Exception):
        pass

    def loads(run: Run) -> None:
        raise Enough

    monkeypatch.setattr(Run, "computing", loads)
    said: list[Console] = []
    monkeypatch.setattr(Run, "load_runtime", lambda run, console: said.append(console))
    with pytest.raises(Enough):
        explain_run(finished_run, [images], tmp_path / "out", QUIET)
    assert said == [QUIET]
