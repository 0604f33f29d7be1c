"""Requests that mean harm, or are broken: an error of the caller, never one of the server, never a hang."""

import io
import json
import socket
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from servers import Server


@pytest.fixture(scope="session")
def strict(bundle):
    """A server with small limits, so that they are reached."""
    with Server(bundle.path, "--max-mb", "1", "--max-images", "4", "--deadline", "2", "--max-megapixels", "4") as started:
        yield started


@pytest.fixture(autouse=True)
def answers_afterwards(strict, images):
    """Whatever came, the next is answered."""
    yield
    assert strict.predict(images[0].read_bytes()).status_code == 200


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, data=b""):
    """A PNG that says that it is of this size."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data, 9)) + chunk(b"IEND", b"")


def gif(frames):
    stream = io.BytesIO()
    Image.new("P", (1, 1)).save(stream, "GIF")
    data = stream.getvalue()
    at = data.index(b"\x2c")
    return data[:at] + data[at:-1] * frames + b";"


def exchange(server, sent, ends=True):
    """What comes back for bytes on a connection of their own."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        try:
            connection.sendall(sent)
            if ends:
                connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has answered already
        received = b""
        try:
            while data := connection.recv(65536):
                received += data
        except ConnectionResetError:
            pass
        return received


def status(response):
    assert response.startswith(b"HTTP/1.1 "), response[:100]
    return int(response.split(b" ", 2)[1])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (png(60_000, 60_000), "than the limit of"),
        (png(2_001, 2_000, b"\0" * 100), "than the limit of"),
        (png(0, 7), "cannot"),
        (gif(10_000), "more frames than the limit of 100"),
        (b"\0" * 1000, "nothing but zeros"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"),
        (b"%PDF-1.4", "not an image"),
        (b"\x80\x04K\x01.", "not an image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    ],
)
def test_images_that_mean_harm_are_refused(strict, data, said):
    response = strict.predict(data)
    assert response.status_code == 422 and said in response.json()["error"]["message"]


def test_large_images_do_not_fill_memory(strict):
    """Eight at once of 4 million pixels, each of a few kilobytes."""
    before = peak(strict)
    data = png(2_000, 2_000, (b"\0" + b"\1" * 6_000) * 2_000)
    statuses = []
    callers = [threading.Thread(target=lambda: statuses.append(strict.predict(data).status_code)) for _ in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert set(statuses) <= {200, 429, 503} and 200 in statuses
    assert peak(strict) - before < 300


def peak(server):
    """MiB that the process has held at most."""
    text = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) / 1024


def test_a_body_that_is_too_large_is_refused_whatever_it_says_of_its_length(strict):
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\n"
    assert status(exchange(strict, head + b"Content-Length: 99999999999\r\n\r\n")) == 413
    endless = b"".join(b"10000\r\n" + b"x" * 65536 + b"\r\n" for _ in range(40))
    assert status(exchange(strict, head + b"Transfer-Encoding: chunked\r\n\r\n" + endless)) == 413


def test_a_body_in_chunks_without_a_length_is_answered(strict, images):
    data = images[0].read_bytes()
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    assert status(exchange(strict, head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data), ends=False)) == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"GET /" + b"x" * 200_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"A%d: b\r\n" % n for n in range(20_000)) + b"\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 600,
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nHost: example.org\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_what_is_not_http_is_refused(strict, sent):
    received = exchange(strict, sent)
    assert received == b"" or 400 <= status(received) < 500 or status(received) == 501


def test_a_body_that_comes_too_slowly_is_given_up(strict):
    with socket.create_connection(("127.0.0.1", strict.port), timeout=10) as connection:
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\nxx")
        assert status(connection.recv(65536)) == 408


def test_a_body_that_is_compressed_is_not_unpacked(strict):
    response = strict.client.post("/v1/predict", content=b"\x1f\x8b\x08", headers={"content-encoding": "gzip"})
    assert response.status_code == 415


def form(*parts, boundary=b"b"):
    """A body of parts, each headers and data."""
    return b"".join(b"--" + boundary + b"\r\n" + head + b"\r\n\r\n" + data + b"\r\n" for head, data in parts) + b"--" + boundary + b"--\r\n"


IMAGE = b'Content-Disposition: form-data; name="image"; filename="a"'


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        (b"", "multipart/form-data; boundary=b", 400),
        (b"", "multipart/form-data", 400),
        (form((IMAGE, b"x"))[:-9], "multipart/form-data; boundary=b", 400),
        (form((IMAGE, b"x")), "multipart/form-data; boundary=other", 400),
        (form(*[(IMAGE, b"x")] * 5), "multipart/form-data; boundary=b", 413),
        (form((IMAGE + b"x" * 9_000, b"x")), "multipart/form-data; boundary=b", 400),
        (form(*[(b"A%d: b" % n, b"") for n in range(20)]), "multipart/form-data; boundary=b", 413),
        (form(*[(b'Content-Disposition: form-data; name="x"', b"")] * 15_000), "multipart/form-data; boundary=b", 413),
        (form((b"\r\n".join([b"A%d: b" % n for n in range(40)]), b"")), "multipart/form-data; boundary=b", 400),
        (b'{"images": [' + b",".join([b'{"data":""}'] * 90_000) + b"]}", "application/json", 413),
        (b'{"images": [{"data": "", "box": [' + b",".join([b"1"] * 400_000) + b"]}]}", "application/json", 413),
        (form((b'Content-Disposition: form-data; name="boxes"', b"[" * 70_000)), "multipart/form-data; boundary=b", 413),
        (form((b"Nothing: here", b"x")), "multipart/form-data; boundary=b", 422),
        (b'{"images": ' + b"[" * 2_000, "application/json", 422),
        (b'{"images": ' + b"[" * 100_000, "application/json", 413),
        (b'{"images": [{"data": "\\ud800"}]}', "application/json", 422),
        (b"\xff\xfe", "application/json", 422),
        (b'{"images": [{"data": "AA==", "box": [1e999, 0, 1, 1]}]}', "application/json", 422),
        (b'{"images": [{"data": "AA=="}], "top": 1e30}', "application/json", 422),
        (b"x", "image/" + "x" * 5_000, 422),
        (b"x", "\x7f", 415),
    ],
)
def test_forms_and_json_that_mean_harm_are_refused(strict, body, kind, expected):
    response = strict.client.post("/v1/predict", content=body, headers={"content-type": kind})
    assert response.status_code == expected, response.text
    assert response.json()["error"]["message"]


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "a\\..\\b", "%00", "x" * 3_000, "CON", "..", "\u202egpj.exe"])
def test_names_are_labels_alone(strict, images, name):
    response = strict.client.post("/v1/predict", files=[("image", (name, images[0].read_bytes()))])
    assert response.status_code == 200 and response.json()["answers"][0]["name"]


@pytest.mark.parametrize(
    "path", ["/../../etc/passwd", "/v1/models/..%2f..%2fetc/reload", "/%00", "//example.org/", "/v1/models/%ff/reload"]
)
def test_paths_lead_nowhere(strict, path):
    response = strict.client.post(path)
    assert 400 <= response.status_code < 500


def test_a_thousand_damaged_files(strict, images):
    """Real images of several formats, cut, overwritten and joined: each is answered, or said to be unreadable."""
    noise = np.random.default_rng(0)
    picture = Image.open(images[0]).convert("RGB")
    whole = []
    for kind in ("PNG", "JPEG", "GIF", "WEBP", "TIFF", "BMP", "AVIF"):
        stream = io.BytesIO()
        picture.save(stream, kind)
        whole.append(stream.getvalue())
    statuses = []
    for _ in range(250):
        files = []
        for number in range(4):
            data = bytearray(whole[noise.integers(len(whole))])
            for at in noise.integers(0, len(data), noise.integers(0, 20)):
                data[at] = noise.integers(256)
            if noise.random() < 0.5:
                data = data[: noise.integers(1, len(data))]
            files.append(("image", (str(number), bytes(data))))
        response = strict.client.post("/v1/predict", files=files)
        statuses.append(response.status_code)
        if response.status_code == 200:
            assert all(("error" in each) != ("classes" in each) for each in response.json()["answers"])
    assert set(statuses) == {200, 422}


def test_callers_that_leave_early_leave_nothing_behind(strict, images):
    data = images[0].read_bytes()
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(data)
    for number in range(60):
        with socket.create_connection(("127.0.0.1", strict.port)) as connection:
            connection.sendall(head + (data if number % 2 else data[:50]))
    metrics = strict.client.get("/metrics").text
    strict.wait_until(lambda: 'fieldmark_queue_images{model="birds"} 0.0' in strict.client.get("/metrics").text)
    assert "fieldmark_queue_images" in metrics and json.dumps("birds") in metrics
