import asyncio
from pathlib import Path

import httpx
import pytest

from fieldmark.serving.app import make_app
from fieldmark.serving.serving import Serving
from fieldmark.serving.settings import Settings


@pytest.fixture
def serving(bundle):
    lines = []
    started = Serving.start(Settings({"birds": Path(bundle.path)}), lambda path, threads: bundle, lambda **values: lines.append(values))
    started.lines = lines
    yield started
    started.models.close()


def asked(serving, method, path, **options):
    async def ask():
        transport = httpx.ASGITransport(make_app(serving), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **options)

    return asyncio.run(ask())


@pytest.mark.parametrize(("path", "message"), [("/v1/predict", ("error", "message")), ("/v2/models/birds/infer", ("error",))])
def test_a_fault_of_the_server_is_told_without_its_inside(serving, monkeypatch, images, path, message):
    async def fails(*_):
        raise RuntimeError("secret")

    monkeypatch.setattr(serving, "answer", fails)
    content = (
        images[0].read_bytes()
        if path == "/v1/predict"
        else b'{"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["AA=="]}]}'
    )
    response = asked(serving, "POST", path, content=content)
    told = response.json()
    for key in message:
        told = told[key]
    assert response.status_code == 500 and told.startswith("something is wrong with the server") and "secret" not in response.text
    assert serving.lines[-1]["status"] == 500


def test_a_server_that_is_being_stopped_asks_for_connections_to_be_closed(serving, images):
    serving.stopping = True
    response = asked(serving, "POST", "/v1/predict", content=images[0].read_bytes())
    assert response.status_code == 200 and response.headers["connection"] == "close"
    assert asked(serving, "GET", "/v2/health/ready").status_code == 400
    assert asked(serving, "GET", "/v2/health/live").json() == {"live": True}


def test_every_response_says_how_it_is_to_be_treated_and_what_it_is_called(serving):
    for path, status in (("/v1/models", 200), ("/nothing", 404)):
        response = asked(serving, "GET", path, headers={"x-request-id": "a-1"})
        assert response.status_code == status and response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["x-request-id"] == "a-1"
    made_up = asked(serving, "GET", "/v1/models", headers={"x-request-id": "a\tb" * 40}).headers["x-request-id"]
    assert len(made_up) == 16
