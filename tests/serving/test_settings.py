from pathlib import Path

import pytest

from fieldmark.core.errors import InputError
from fieldmark.serving.settings import Settings, named_models

MODELS = {"mine": Path("mine")}


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine", "more/mine", "a=b", "been there"):
        (tmp_path / name).mkdir(parents=True)


def test_models_are_named_after_their_folders_or_as_the_user_says():
    found = named_models(["mine", "other=more/mine", "a=b", "./been there/", "here=."])
    assert found == {"mine": Path("mine"), "other": Path("more/mine"), "a=b": Path("a=b"), "been there": Path("been there"), "here": Path()}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["mine", "more/mine"], "two are named mine: mine and more/mine"),
        (["nowhere"], "there is no folder nowhere"),
        (["x=nowhere"], "there is no folder nowhere"),
        (["/"], "cannot be served under the name ''"),
        (["a?b=mine"], "cannot be served under the name 'a?b'"),
    ],
)
def test_names_that_cannot_be_served_are_refused(given, said):
    with pytest.raises(InputError) as raised:
        named_models(given)
    assert said in str(raised.value)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threads": 0}, "--threads must be at least 1"),
        ({"max_batch": 0}, "--max-batch must be at least 1"),
        ({"queue": 0}, "--queue must be at least 1"),
        ({"queue": 8, "max_images": 9}, "--queue is 8, too few for a request of --max-images 9"),
        ({"deadline": 0}, "--deadline must be more than 0"),
        ({"max_mb": float("nan")}, "--max-mb must be more than 0"),
        ({"max_wait_ms": -1}, "--max-wait-ms must not be negative"),
        ({"port": 65536}, "--port must be from 0 to 65535"),
        ({"api_key": "short"}, "an API key consists of at least 8"),
        ({"api_key": "ünsagbares"}, "an API key consists of at least 8"),
        ({"tls_cert": Path("c")}, "--tls-cert and --tls-key belong together"),
        ({"tls_cert": Path("c"), "tls_key": Path("k")}, "the certificate c and its key k cannot be used: No such file"),
        ({"cors": ("example.org",)}, "'example.org' is not an origin"),
        ({"cors": ("https://example.org/page",)}, "is not an origin"),
        ({"allow_host": ("example.org:8000",)}, "is a name without port or path"),
        ({"models": {}}, "no run or bundle is named"),
    ],
)
def test_what_makes_no_sense_is_refused(options, said):
    with pytest.raises(InputError) as raised:
        Settings(**({"models": MODELS} | options))
    assert said in str(raised.value)


@pytest.mark.parametrize(("host", "local"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("db", False)])
def test_whether_only_this_machine_can_call(host, local):
    assert Settings(MODELS, host=host).is_local is local


def test_as_many_computations_as_cores(monkeypatch):
    monkeypatch.setattr("fieldmark.serving.settings.available_cores", lambda: 4)
    assert [Settings(MODELS, threads=threads).computations for threads in (1, 2, 3, 9)] == [4, 2, 1, 1]
