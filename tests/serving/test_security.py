import pytest
from servers import Server

KEY = "open-sesame-1"


@pytest.fixture(scope="session")
def locked(bundle):
    """A server with an API key, which other pages may call."""
    with Server(bundle.path, "--cors", "https://example.org", environment={"FIELDMARK_API_KEY": KEY}) as started:
        yield started


def reload(server, **headers):
    return server.client.post("/v1/models/birds/reload", headers=headers)


@pytest.mark.parametrize("host", ["example.org", "example.org:80", "localhost.example.org", "127.0.0.1.example.org", "[::1].org", ""])
def test_names_that_lead_here_are_refused(server, host):
    assert server.client.get("/v1/models", headers={"host": host}).status_code in (400, 421)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:80", "[::1]:80", "10.0.0.7"])
def test_addresses_and_own_names_are_accepted(server, host):
    assert server.client.get("/v1/models", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["https://example.org", "null", "http://127.0.0.1:1", "file://", "http://localhost.evil"])
def test_pages_from_elsewhere_may_not_post(server, images, origin):
    response = server.client.post("/v1/predict", content=images[0].read_bytes(), headers={"origin": origin})
    assert response.status_code == 403 and "access-control-allow-origin" not in response.headers


def test_the_own_page_may_post(server, images):
    response = server.client.post("/v1/predict", content=images[0].read_bytes(), headers={"origin": server.url})
    assert response.status_code == 200


def test_what_changes_something_needs_the_token(server):
    assert reload(server).status_code == reload(server, **{"x-fieldmark-token": "x" * 32}).status_code == 403
    page = server.client.get("/")
    assert f'<meta name="fieldmark-token" content="{server.token}">' in page.text


def test_the_page_loads_nothing_from_elsewhere(server):
    response = server.client.get("/")
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy and "http" not in policy
    assert response.headers["x-content-type-options"] == "nosniff" and response.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": f"Bearer {KEY}"}, 200),
        ({"authorization": f"bearer  {KEY}"}, 200),
        ({"x-api-key": KEY}, 200),
        ({"authorization": KEY}, 401),
        ({"authorization": f"Basic {KEY}"}, 401),
        ({"authorization": "Bearer"}, 401),
        ({"x-api-key": KEY[:-1]}, 401),
        ({"x-api-key": "é".encode("latin-1")}, 401),
    ],
)
def test_a_key_lets_in_those_who_know_it(locked, headers, status):
    for route in ("/v1/models", "/metrics", "/openapi.json"):
        assert locked.client.get(route, headers=headers).status_code == status
    assert locked.client.get("/").status_code == 200


def test_pages_that_are_named_may_call_and_only_they(locked, images):
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
    for origin, allowed in (("https://example.org", "https://example.org"), ("https://example.com", None)):
        preflight = locked.client.options("/v1/predict", headers=asked | {"origin": origin})
        assert preflight.headers.get("access-control-allow-origin") == allowed
    headers = {"origin": "https://example.org", "x-api-key": KEY}
    response = locked.client.post("/v1/predict", content=images[0].read_bytes(), headers=headers)
    assert response.status_code == 200 and response.headers["access-control-allow-origin"] == "https://example.org"
