import base64
import json

import pytest

from fieldmark.serving.schema import ImageAnswer


def expected(bundle, image, name, top=5):
    (answer,) = bundle.predict(image.read_bytes(), top=top)
    return ImageAnswer.of(answer, name).model_dump()


def close(found, wanted):
    """Equal, but for probabilities of graphs for several images."""
    told, meant = ([each.pop("probability") for each in answer["classes"]] for answer in (found, wanted))
    return told == pytest.approx(meant, abs=1e-5) and found == wanted


def test_the_bytes_of_a_file_are_answered_as_the_bundle_does(server, bundle, images):
    found = server.predict(images[0].read_bytes()).json()
    assert found["model"] == "birds" and len(found["answers"]) == 1
    assert close(found["answers"][0], expected(bundle, images[0], ""))
    assert sum(each["probability"] for each in server.predict(images[0].read_bytes()).json()["answers"][0]["classes"]) == pytest.approx(1)


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "application/x-www-form-urlencoded"])
def test_the_type_of_a_file_is_not_believed(server, images, kind):
    found = server.client.post("/v1/predict", content=images[0].read_bytes(), headers={"content-type": kind})
    assert found.status_code == 200 and found.json()["answers"][0]["classes"]


def test_a_form_holds_several_images_in_order(server, bundle, images):
    files = [("image", (each.name, each.read_bytes(), "image/png")) for each in images]
    found = server.client.post("/v1/predict", files=files, params={"top": 2}).json()["answers"]
    assert [each["name"] for each in found] == [each.name for each in images]
    assert all(close(answer, expected(bundle, image, image.name, 2)) for answer, image in zip(found, images, strict=True))


def test_json_holds_images_in_base64(server, bundle, images):
    given = [{"data": base64.b64encode(each.read_bytes()).decode(), "name": f"ä/{number}"} for number, each in enumerate(images[:3])]
    found = server.client.post("/v1/predict", json={"model": "birds", "top": 1, "images": given}).json()["answers"]
    assert all(close(each, expected(bundle, image, f"ä/{n}", 1)) for n, (each, image) in enumerate(zip(found, images[:3], strict=True)))


def test_boxes_are_of_the_images_in_order(server, bundle, images):
    box = [4, 5, 25, 26]
    (boxed,) = bundle.predict([images[0]], boxes={str(images[0]): box})
    files = [("image", ("a", images[0].read_bytes())), ("image", ("b", images[0].read_bytes()))]
    found = server.client.post("/v1/predict", files=files, data={"boxes": json.dumps([box, None])}).json()["answers"]
    wanted = [ImageAnswer.of(boxed, "a").model_dump(), expected(bundle, images[0], "b")]
    assert all(map(close, found, wanted))
    assert found[0]["classes"] != found[1]["classes"] or boxed.best == bundle.predict([images[0]])[0].best
    given = {"images": [{"data": base64.b64encode(images[0].read_bytes()).decode(), "box": box, "name": "a"}]}
    assert close(server.client.post("/v1/predict", json=given).json()["answers"][0], ImageAnswer.of(boxed, "a").model_dump())


def test_an_image_that_cannot_be_read_among_others_says_why(server, images):
    files = [("image", ("good.png", images[0].read_bytes())), ("image", ("bad.png", b"no image"))]
    response = server.client.post("/v1/predict", files=files)
    good, bad = response.json()["answers"]
    assert response.status_code == 200 and good["classes"]
    assert bad == {"name": "bad.png", "error": "not an image in a format that can be read"}


def test_what_bytes_follow_an_image_does_not_matter(server, images):
    data = images[0].read_bytes()
    assert server.predict(data + b"more").json() == server.predict(data).json()


@pytest.mark.parametrize(
    ("request_", "status", "said"),
    [
        ({"content": b"no image"}, 422, "the image cannot be read: not an image"),
        ({"content": b""}, 422, "there is no image in the request"),
        ({"files": [("image", ("a", b"x")), ("image", ("b", b"y"))]}, 422, "none of the images can be read"),
        ({"files": [("picture", ("a", b"x"))]}, 422, "there is no image in the request"),
        ({"content": b"x", "headers": {"content-type": "text/html"}}, 415, "a request of type text/html is not understood"),
        ({"content": b"x", "params": {"model": "mine"}}, 404, "there is no model of this name"),
        ({"content": b"x", "params": {"top": 0}}, 422, "top: "),
        ({"content": b"x", "params": {"top": "many"}}, 422, "top: "),
        ({"content": b"{", "headers": {"content-type": "application/json"}}, 422, "Invalid JSON"),
        ({"json": {"images": []}}, 422, "images: "),
        ({"json": {"images": [{"data": "!"}]}}, 422, "images.0.data: it is not base64"),
        ({"json": {"images": [{"data": "", "url": "http://example.org"}]}}, 422, "images.0.url: "),
        ({"json": {"images": [{"data": "", "box": [1, 2, 3]}]}}, 422, "images.0.box: "),
        ({"files": [("image", ("a", b"x"))], "data": {"boxes": "[[1, 2, 3]]"}}, 422, "boxes is not a list"),
        ({"files": [("image", ("a", b"x"))], "data": {"boxes": "[]"}}, 422, "boxes is not a list"),
        ({"files": [("image", ("a", b"x"))], "data": {"boxes": "["}}, 422, "boxes is not a list"),
    ],
)
def test_errors_say_what_is_wrong_in_one_form(server, request_, status, said):
    response = server.client.post("/v1/predict", **request_)
    assert response.status_code == status and said in response.json()["error"]["message"]
    assert set(response.json()) == {"error"} and set(response.json()["error"]) == {"message", "hint"}


def test_what_there_is_to_ask(server, bundle):
    found = server.client.get("/v1/models").json()
    entry = found["models"][0]
    assert not found["feedback"] and not found["enroll"] and entry.pop("loaded").endswith("Z")
    assert entry == {
        "name": "birds",
        "network": "test_efficientnet",
        "format": "onnx",
        "precision": "float32",
        "classes": 3,
        "levels": list(bundle.levels),
        "calibrated": True,
        "explains": True,
        "neighbours": True,
        "digest": bundle.record.digest,
    }
    classes = server.client.get("/v1/classes").json()
    assert classes == {"model": "birds", "classes": list(bundle.class_names), "levels": bundle.levels}


def test_requests_are_logged_without_what_they_hold(server, images):
    server.client.post("/v1/predict", files=[("image", ("secret.png", images[0].read_bytes()))], headers={"x-request-id": "mine-1"})
    server.wait_until(lambda: any(line["id"] == "mine-1" for line in server.logged))
    (line,) = (line for line in server.logged if line["id"] == "mine-1")
    assert line["route"] == "POST /v1/predict" and line["status"] == 200 and line["images"] == 1 and line["ms"] > 0
    assert set(line) == {"time", "id", "route", "status", "ms", "images"}
