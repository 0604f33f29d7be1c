import base64
import io

import numpy as np
import pytest
from PIL import Image

from fieldmark.bundles.heat_map import heat_map


def picture(uri):
    kind, _, data = uri.partition(";base64,")
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert kind == f"data:image/{image.format.lower()}"
    return np.asarray(image)


def test_an_answer_comes_with_what_was_seen_and_where_its_evidence_lies(server, bundle, images):
    data = images[0].read_bytes()
    found = server.client.post("/v1/explain", content=data).json()
    pixels = bundle.preprocess.pixels(data)
    _, _, maps = bundle.session.outputs(pixels[None])
    assert found["answer"] == server.predict(data).json()["answers"][0]
    np.testing.assert_array_equal(picture(found["map"]["png"]), (255 * heat_map(maps[0], 32)).round().astype(np.uint8))
    seen = picture(found["seen"]).transpose(2, 0, 1).astype(float)
    assert seen.shape == (3, 32, 32) and np.abs(seen - pixels).mean() < 12


def test_the_nearest_training_images_of_its_class_stand_beside_it(server, bundle, birds):
    image = next((birds / "train").rglob("*.png"))
    found = server.client.post("/v1/explain", content=image.read_bytes()).json()
    near = found["neighbours"]
    assert len(near) == 4 and {each["class"] for each in near} == {found["answer"]["classes"][0]["name"]}
    similar = [each["similarity"] for each in near]
    assert similar == sorted(similar, reverse=True) and all(picture(each["thumbnail"]).ndim == 3 for each in near)
    if found["answer"]["classes"][0]["name"] == image.parent.name:
        assert near[0]["path"] == str(image.relative_to(birds)) and similar[0] == pytest.approx(1, abs=1e-2)


def test_one_image_at_a_time(server, images):
    files = [("image", (each.name, each.read_bytes())) for each in images[:2]]
    response = server.client.post("/v1/explain", files=files)
    assert response.status_code == 422 and "2 images" in response.json()["error"]["message"]
    assert server.client.post("/v1/explain", content=b"no image").status_code == 422


def test_an_evidence_map_is_scaled_by_its_maximum():
    assert heat_map(np.array([[1.0, -1.0], [2.0, 0.0]], np.float32), 2).tolist() == [[0.5, 0.0], [1.0, 0.0]]
    assert not heat_map(np.array([[-1.0, np.nan]], np.float32), 4).any()
