import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import httpx
import pytest
from servers import Server

import fieldmark
from fieldmark.core.errors import InputError


@pytest.fixture
def copied(bundle, tmp_path):
    """A copy of the bundle that may be changed."""
    shutil.copytree(bundle.path, tmp_path / "mine")
    return tmp_path / "mine"


@pytest.fixture(scope="session")
def retrained(birds, tiny, tmp_path_factory):
    """Another bundle, of a run with another seed."""
    folder = tmp_path_factory.mktemp("retrained")
    run = fieldmark.train(birds, *tiny("train.seed=5"), out=folder / "run", quiet=True)
    return fieldmark.export(run, folder / "bundle", format="onnx", quiet=True)


def replaced(folder, bundle):
    shutil.rmtree(folder)
    shutil.copytree(bundle.path, folder)


def best(response):
    return response.json()["answers"][0]["classes"][0]


def test_a_run_and_bundles_are_served_under_their_names(bundle, finished_run, images):
    data = images[0].read_bytes()
    with Server(bundle.path, f"run={finished_run.path}") as server:
        assert [each["name"] for each in server.client.get("/v1/models").json()["models"]] == ["birds", "run"]
        of_run = server.predict(data, model="run")
        assert best(of_run)["name"] == finished_run.predict(data)[0].best
        assert best(of_run)["probability"] == pytest.approx(best(server.predict(data, model="birds"))["probability"], abs=1e-3)
        unnamed = server.predict(data)
        assert unnamed.status_code == 422 and "several models are served" in unnamed.json()["error"]["message"]
        assert server.stop() == 0
    assert server.said[-1] == "stopped; all that was begun was answered"


def test_a_model_is_replaced_while_it_serves(copied, retrained, images):
    data = images[0].read_bytes()
    with Server(copied) as server:
        before, statuses, stop = best(server.predict(data)), [], threading.Event()

        def call():
            with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
                while not stop.is_set():
                    statuses.append(client.post("/v1/predict", content=data).status_code)

        callers = [threading.Thread(target=call) for _ in range(3)]
        for caller in callers:
            caller.start()
        replaced(copied, retrained)
        entry = server.client.post("/v1/models/mine/reload", headers={"x-fieldmark-token": server.token})
        assert entry.status_code == 200 and entry.json()["digest"] == retrained.record.digest
        after = best(server.predict(data))
        stop.set()
        for caller in callers:
            caller.join()
        assert set(statuses) == {200}
        assert after["probability"] == pytest.approx(float(retrained.predict(data)[0].probabilities[0]), abs=1e-5)
        assert after["probability"] != pytest.approx(before["probability"], abs=1e-5)


def test_a_model_that_cannot_be_loaded_again_goes_on(copied, images):
    data = images[0].read_bytes()
    with Server(copied) as server:
        before = best(server.predict(data))
        (copied / "bundle.json").write_text("{}")
        refused = server.client.post("/v1/models/mine/reload", headers={"x-fieldmark-token": server.token})
        assert refused.status_code == 409 and "mine goes on as it is" in refused.json()["error"]["message"]
        server.process.send_signal(signal.SIGHUP)
        server.wait_until(lambda: any("mine goes on as it is" in line for line in server.said))
        assert best(server.predict(data)) == before


def test_sighup_loads_the_models_again(copied, retrained, images):
    with Server(copied) as server:
        replaced(copied, retrained)
        server.process.send_signal(signal.SIGHUP)
        server.wait_until(lambda: any(line.get("event") == "reloaded" for line in server.logged))
        assert server.client.get("/v1/models").json()["models"][0]["digest"] == retrained.record.digest


def test_a_server_that_is_stopped_under_load_answers_what_it_accepted(bundle, images):
    """Callers that find nobody listening were not accepted; a connection that ends without an answer was."""
    data = images[0].read_bytes()
    with Server(bundle.path) as server:
        answered, lost = [], []

        def call():
            client = httpx.Client(base_url=server.url, trust_env=False, timeout=30)
            try:
                while True:
                    answered.append(client.post("/v1/predict", content=data).status_code)
            except httpx.ConnectError:
                return
            except httpx.HTTPError as error:
                lost.append(error)

        callers = [threading.Thread(target=call) for _ in range(8)]
        for caller in callers:
            caller.start()
        server.wait_until(lambda: len(answered) > 50)
        assert server.stop() == 0
        for caller in callers:
            caller.join(10)
        assert lost == [] and set(answered) == {200}


def test_a_killed_server_is_started_again_at_the_same_port(bundle, images):
    with Server(bundle.path) as first:
        assert first.predict(images[0].read_bytes()).status_code == 200
        assert first.stop(signal.SIGKILL) == -signal.SIGKILL
    with Server(bundle.path, port=first.port) as second:
        assert second.port == first.port and second.predict(images[0].read_bytes()).status_code == 200
        assert second.token != first.token


def test_a_damaged_bundle_or_a_port_in_use_is_said_before_anything_is_served(copied, server):
    graph = next(copied.glob("*.onnx"))
    graph.write_bytes(graph.read_bytes()[:-9])
    with pytest.raises(InputError, match="changed after it was written"):
        fieldmark.serve(copied, port=0, quiet=True)
    with pytest.raises(InputError, match=f"nobody can listen at 127.0.0.1, port {server.port}"):
        fieldmark.serve(copied, port=server.port, quiet=True)


def test_one_that_is_slow_to_send_headers_is_dropped_and_others_are_answered(server, images, monkeypatch):
    idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
    for each in idle:
        each.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: loc")
    began = time.monotonic()
    assert server.predict(images[0].read_bytes()).status_code == 200
    assert time.monotonic() - began < 5
    idle[0].settimeout(20)
    assert idle[0].recv(1) == b""
    for each in idle:
        each.close()


def test_what_is_too_much_is_turned_away_with_when_to_come_again(bundle, images):
    data = images[0].read_bytes()
    with Server(bundle.path, "--queue", "2") as server:
        answers = []

        def call():
            with httpx.Client(base_url=server.url, trust_env=False, timeout=30) as client:
                answers.extend(client.post("/v1/predict", content=data) for _ in range(40))

        callers = [threading.Thread(target=call) for _ in range(8)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        assert {each.status_code for each in answers} == {200, 429}
        assert all(int(each.headers["retry-after"]) >= 1 for each in answers if each.status_code == 429)
        several = server.client.post("/v1/predict", files=[("image", (str(number), data)) for number in range(3)])
        assert several.status_code == 413 and "at most 2 images" in several.json()["error"]["message"]


def test_https_with_the_certificate_of_the_user_on_all_addresses(bundle, images, tmp_path):
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not on this machine")
    subprocess.run([*command, "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"], check=True, capture_output=True)
    arguments = ["--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem", "--host", "0.0.0.0"]
    with Server(bundle.path, *arguments) as server:
        assert server.url.startswith("https://0.0.0.0:") and any("anybody who can reach this machine" in line for line in server.said)
        trusting = ssl.create_default_context(cafile=tmp_path / "cert.pem")
        with httpx.Client(base_url=f"https://localhost:{server.port}", verify=trusting, trust_env=False) as client:
            assert client.post("/v1/predict", content=images[0].read_bytes()).status_code == 200
            assert client.get("/v1/models", headers={"host": socket.gethostname()}).status_code == 200
            assert client.get("/v1/models", headers={"host": "example.org"}).status_code == 421
        assert server.stop() == 0
    with pytest.raises(InputError, match="cannot be used"):
        fieldmark.serve(bundle.path, tls_cert=tmp_path / "key.pem", tls_key=tmp_path / "cert.pem", port=0, quiet=True)


def test_a_library_that_is_missing_is_named(bundle):
    script = "import sys; sys.modules['uvicorn'] = None; from fieldmark.cli import main; main(sys.argv[1:])"
    done = subprocess.run([sys.executable, "-c", script, "serve", bundle.path], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr == "fieldmark: serving needs FastAPI and uvicorn: pip install 'fieldmark[serve]'\n"
