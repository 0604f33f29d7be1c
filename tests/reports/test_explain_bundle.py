import json

import numpy as np
import pytest

import fieldmark
from fieldmark.core.errors import InputError


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
    assert "a bundle does not hold them" in page and "class-activation map" in page and "mine" in page


def test_a_bundle_has_no_other_maps(bundle, birds, tmp_path):
    with pytest.raises(InputError, match="whose only maps are its graph's"):
        fieldmark.explain(bundle, birds / "test", tmp_path / "out", method="grad-cam", quiet=True)
    assert not (tmp_path / "out").exists()
