import base64
import json
import struct

import numpy as np
import pytest
from PIL import Image

httpclient = pytest.importorskip("tritonclient.http")


@pytest.fixture
def client(server):
    with httpclient.InferenceServerClient(server.url.removeprefix("http://")) as made:
        yield made


def files_input(images, binary=True):
    tensor = httpclient.InferInput("image", [len(images)], "BYTES")
    data = [each.read_bytes() if binary else base64.b64encode(each.read_bytes()) for each in images]
    tensor.set_data_from_numpy(np.array(data, np.object_), binary_data=binary)
    return tensor


def check(found, bundle, images):
    logits, features = bundle.answerer.networks.outputs([bundle.answerer.networks.decode(each).views for each in images])
    np.testing.assert_allclose(found.as_numpy("logits"), logits, atol=1e-4)
    np.testing.assert_allclose(found.as_numpy("probabilities"), bundle.probabilities(logits), atol=1e-5)
    assert [text.decode() if isinstance(text, bytes) else text for text in found.as_numpy("class")] == [
        answer.best for answer in bundle.predict(images)
    ]
    assert found.as_numpy("unknown").tolist() == bundle.answerer.unknown(logits, features).tolist()
    assert found.as_numpy("logits").dtype == np.float32 and found.as_numpy("unknown").dtype == bool


def test_a_client_of_the_protocol_learns_what_there_is(client, bundle):
    assert client.is_server_live() and client.is_server_ready() and client.is_model_ready("birds") and not client.is_model_ready("x")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    told = client.get_model_metadata("birds")
    assert told["inputs"][0] == {"name": "image", "datatype": "BYTES", "shape": [-1]}
    assert {each["name"]: each["datatype"] for each in told["outputs"]} == {
        "logits": "FP32",
        "probabilities": "FP32",
        "class": "BYTES",
        "unknown": "BOOL",
    }
    assert told["outputs"][0]["shape"] == [-1, len(bundle.class_names)]


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("named", [True, False])
def test_files_are_answered_in_binary_and_in_json(client, bundle, images, binary, named):
    outputs = [httpclient.InferRequestedOutput(name, binary_data=binary) for name in ("unknown", "class", "logits", "probabilities")]
    found = client.infer("birds", [files_input(images, binary)], outputs=outputs if named else None, request_id="7")
    check(found, bundle, images)
    assert found.get_response()["id"] == "7" and found.get_response()["model_name"] == "birds"
    if named:
        assert [each["name"] for each in found.get_response()["outputs"]] == ["unknown", "class", "logits", "probabilities"]


@pytest.mark.parametrize("binary", [True, False])
def test_pixels_are_answered_as_files_are(client, bundle, images, binary):
    pixels = np.stack([np.asarray(Image.open(each).convert("RGB")) for each in images])
    tensor = httpclient.InferInput("pixels", list(pixels.shape), "UINT8")
    tensor.set_data_from_numpy(pixels, binary_data=binary)
    check(client.infer("birds", [tensor]), bundle, images)


def test_only_what_is_asked_for_is_returned(client, images):
    found = client.infer("birds", [files_input(images)], outputs=[httpclient.InferRequestedOutput("class")])
    assert [each["name"] for each in found.get_response()["outputs"]] == ["class"]


def infer(server, body, **headers):
    return server.client.post("/v2/models/birds/infer", content=body if isinstance(body, bytes) else json.dumps(body), headers=headers)


def tensor(**changed):
    return {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["AA=="]} | changed]}


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"{", "Invalid JSON"),
        ({}, "inputs: "),
        ({"inputs": []}, "there is one input"),
        (tensor(), "image 0 cannot be read: "),
        (tensor(data=["AA"]), "data is not base64"),
        (tensor(data=[1]), "data is not a list of 1 texts"),
        (tensor(shape=[2]), "data is not a list of 2 texts"),
        (tensor(shape=[0]), "1 to 64 images, not 0"),
        (tensor(shape=[65]), "1 to 64 images, not 65"),
        (tensor(shape=[1, 1]), "the input is image"),
        (tensor(datatype="FP32"), "the input is image"),
        (tensor(name="x"), "the input is image"),
        (tensor(parameters={"binary_data_size": 5}), "binary_data_size is not the length"),
        (tensor(parameters={"binary_data_size": "5"}), "binary_data_size is not the length"),
        (tensor(name="pixels", datatype="UINT8", shape=[1, 1, 1, 3], data=[1, 2]), "the data are not UINT8 of the shape"),
        (tensor(name="pixels", datatype="UINT8", shape=[1, 1, 1, 3], data=[1, 2, 256]), "the data are not UINT8 of the shape"),
        (tensor(name="pixels", datatype="UINT8", shape=[1, 1, 1, 3], data=[1, 2, 0.5]), "the data are not UINT8 of the shape"),
        (tensor(name="pixels", datatype="UINT8", shape=[1, 1, 1, 3], data=[[1], 2]), "the data are not UINT8 of the shape"),
        (tensor(name="pixels", datatype="UINT8", shape=[1, -1, -1, 3], data=[1, 2, 3]), "pixels is UINT8 [n, height, width, 3]"),
        (tensor(name="pixels", datatype="UINT8", shape=[1, 1, 1, 4], data=[1, 2, 3, 4]), "pixels is UINT8 [n, height, width, 3]"),
        (tensor() | {"outputs": [{"name": "x"}]}, "there is no output 'x'"),
    ],
)
def test_what_cannot_be_understood_is_an_error_of_the_protocol(server, body, said):
    response = infer(server, body)
    assert response.status_code == 400 and said in response.json()["error"]


@pytest.mark.parametrize("binary", [b"", b"\x05\0\0\0abc", b"\x01\0\0\0aa", struct.pack("<I", 2**32 - 1), b"\0\0"])
def test_binary_data_that_do_not_add_up_are_refused(server, binary):
    text = json.dumps(tensor(parameters={"binary_data_size": len(binary)}, data=None)).encode()
    response = infer(server, text + binary, **{"inference-header-content-length": str(len(text))})
    assert response.status_code == 400 and isinstance(response.json()["error"], str)
    assert infer(server, text, **{"inference-header-content-length": "9999999"}).status_code == 400


def test_a_model_that_is_not_there(server):
    for path in ("/v2/models/x", "/v2/models/x/ready"):
        response = server.client.get(path)
        assert response.status_code == 404 and response.json() == {"error": "there is no model 'x'"}
