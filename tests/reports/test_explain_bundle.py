import io
import json

import numpy as np
import pytest
from PIL import Image

import fieldmark
from fieldmark.bundles.neighbours import Neighbours
from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.exports.neighbours import neighbours_of


@pytest.fixture(scope="session")
def bundle(finished_run, tmp_path_factory):
    return fieldmark.export(finished_run, tmp_path_factory.mktemp("bundles") / "mine", format="torch", quiet=True)


def test_a_bundle_is_explained_by_the_map_of_its_graph(bundle, birds, tmp_path):
    images = sorted((birds / "test").rglob("*.png"))[:2]
    explained = fieldmark.explain(bundle, images, tmp_path / "out", quiet=True)
    figures = json.loads(explained.figures.read_text())
    assert figures["method"] == "class-activation map" and [row["path"] for row in figures["images"]] == [str(each) for each in images]
    for row, answer in zip(figures["images"], bundle.predict(images), strict=True):
        assert row["answer"] == answer.best and row["probability"] == pytest.approx(float(answer.probabilities[0]), abs=1e-6)
        assert (tmp_path / "out" / row["map"]).is_file() and row["nearest"] == [] and np.isfinite(row["deletion"]["gain"])
    page = explained.page.read_text()
    assert "exported without --with neighbours" in page and "class-activation map" in page and "mine" in page


def test_a_bundle_has_no_other_maps(bundle, birds, tmp_path):
    with pytest.raises(InputError, match="whose only maps are its graph's"):
        fieldmark.explain(bundle, birds / "test", tmp_path / "out", method="grad-cam", quiet=True)
    assert not (tmp_path / "out").exists()


def test_a_bundle_shows_the_training_images_that_the_run_shows(finished_run, birds, tmp_path):
    out = tmp_path / "with"
    fieldmark.export(finished_run, out, format="torch", include=["neighbours"], quiet=True)
    images = [*sorted((birds / "test").rglob("*.png"))[:3], next((birds / "train").rglob("*.png"))]
    of_bundle, of_run = (fieldmark.explain(each, images, tmp_path / name, quiet=True) for name, each in (("b", out), ("r", finished_run)))
    found, expected = (json.loads(each.figures.read_text())["images"] for each in (of_bundle, of_run))
    for ours, theirs in zip(found, expected, strict=True):
        assert ours["nearest"] == theirs["nearest"] and len(ours["nearest"]) == 4
        assert [ours[key] for key in ours if "confused" in key] == [theirs[key] for key in theirs if "confused" in key]
    pages = [each.page.read_text() for each in (of_bundle, of_run)]
    for page in pages:
        assert page.count("trained on this very image") == 1 and "without --with" not in page
    assert pages[0].count("data:image/jpeg") == pages[1].count("data:image/jpeg")


def test_training_images_of_a_bundle_are_read_as_they_were_written(finished_run, tmp_path):
    neighbours = neighbours_of(finished_run, Console(quiet=True))
    neighbours.save(tmp_path / "file")
    again = Neighbours.load(tmp_path / "file")
    train = finished_run.predictions("train")
    assert again.ids.tolist() == train.ids.tolist() and again.labels.tolist() == train.labels.tolist()
    assert again.hashes == neighbours.hashes and again.thumbnails == neighbours.thumbnails and again.confusions == neighbours.confusions
    lengths = np.linalg.norm(train.features, axis=1, keepdims=True)
    np.testing.assert_allclose(again.features, train.features / lengths, atol=1e-3)
    assert max(Image.open(io.BytesIO(each)).size[0] for each in again.thumbnails) <= 160
    (tmp_path / "file").write_bytes(b"no")
    with pytest.raises(InputError, match="cannot be read"):
        Neighbours.load(tmp_path / "file")
