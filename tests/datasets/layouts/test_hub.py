from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import close_session, constants
from miniatures import huggingface

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.datasets.layouts import read_dataset
from fieldmark.datasets.layouts.hub import fetch

QUIET = Console(quiet=True)


class Hub(ThreadingHTTPServer):
    """What the client asks of the hub for datasets. `revisions` are by the repository and the name of the revision: files → content."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.revisions: dict[tuple[str, str], dict[str, bytes]] = {}
        self.gated: set[str] = set()
        self.fetched: list[str] = []

    def add(self, repository: str, folder: Path, revision: str = "main") -> None:
        files = {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
        self.revisions[repository, revision] = self.revisions[repository, commit(repository, revision)] = files


def commit(repository: str, revision: str) -> str:
    return hashlib.sha1(f"{repository}@{revision}".encode()).hexdigest()


class _Answers(BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        parts = [unquote(part) for part in urlsplit(self.path).path.strip("/").split("/")]
        if parts == [""]:
            self.send(b"the hub")
        elif parts[:2] == ["api", "datasets"]:
            repository, what, revision = "/".join(parts[2:4]), (parts[4:5] or ["revision"])[0], (parts[5:6] or ["main"])[0]
            if repository in self.server.gated:
                self.send(b"gated", 403, {"X-Error-Code": "GatedRepo"})
            elif (files := self.files(repository, revision)) is not None:
                self.send(json.dumps(self.tree(files) if what == "tree" else self.about(repository, revision, files)).encode())
        elif parts[0] == "datasets" and parts[3] == "resolve":
            repository, revision, file = "/".join(parts[1:3]), parts[4], "/".join(parts[5:])
            if (files := self.files(repository, revision)) is not None:
                if self.command == "GET":
                    self.server.fetched.append(file)
                etag = {"ETag": f'"{hashlib.sha1(files[file]).hexdigest()}"', "X-Repo-Commit": revision}
                self.send(files[file], 200, etag)
        else:  # the client asks for other things too, and would wait seconds for an answer
            self.send(b"not found", 404)

    def files(self, repository: str, revision: str) -> dict[str, bytes] | None:
        found = self.server.revisions.get((repository, revision))
        if found is None:
            known = any(name == repository for name, _ in self.server.revisions)
            self.send(b"not found", 404, {"X-Error-Code": "RevisionNotFound" if known else "RepoNotFound"})
        return found

    def about(self, repository: str, revision: str, files: dict[str, bytes]) -> dict[str, object]:
        sha = revision if len(revision) == 40 else commit(repository, revision)
        return {"id": repository, "sha": sha, "siblings": [{"rfilename": file, "size": len(data)} for file, data in files.items()]}

    def tree(self, files: dict[str, bytes]) -> list[dict[str, object]]:
        return [{"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()} for file, data in files.items()]

    def send(self, body: bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on this machine, and an empty cache."""
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    endpoint = f"http://127.0.0.1:{server.server_port}"
    settings = {
        "ENDPOINT": endpoint,
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": False,
        "HUGGINGFACE_CO_URL_TEMPLATE": endpoint + "/{repo_id}/resolve/{revision}/{filename}",
    }
    for name, value in settings.items():
        monkeypatch.setattr(constants, name, value)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    close_session()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()
    close_session()


def error_of(name: str) -> str:
    with pytest.raises(InputError) as caught:
        fetch(name, QUIET)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_the_parquet_files_and_nothing_else_are_fetched_once(hub: Hub, tmp_path: Path) -> None:
    folder = huggingface.write(tmp_path / "made")
    (folder / "loading_script.py").write_text("raise SystemExit('never run')")
    hub.add("owner/trees", folder)
    dataset = read_dataset("hf:owner/trees")
    assert (dataset.name, dataset.layout, len(dataset)) == ("trees", "huggingface", 18)
    assert dataset.notes[0] == "fetched from the Hugging Face hub: owner/trees"
    assert dataset.class_names == ("maple", "oak tree", "pike", "trout")
    assert sorted(hub.fetched) == sorted(str(file.relative_to(folder)) for file in folder.glob("data/*.parquet"))
    hub.fetched.clear()
    assert read_dataset("hf:owner/trees").paths == dataset.paths and hub.fetched == []
    assert dataset.images.read(dataset.paths[0]).startswith(b"\xff\xd8")


def test_what_the_hub_has_converted_is_taken_where_there_is_nothing_else(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "main").mkdir()
    (tmp_path / "main" / "images.zip").write_bytes(b"PK")
    for split, first in (("train", 0), ("partial-test", 8)):
        huggingface.parquet(tmp_path / "converted" / "default" / split / "0000.parquet", huggingface.table(range(first, first + 8)))
    hub.add("owner/zipped", tmp_path / "main")
    hub.add("owner/zipped", tmp_path / "converted", "refs/convert/parquet")
    dataset = read_dataset("hf:owner/zipped")
    assert {path.split("#")[0] for path in dataset.paths} == {"default/train/0000.parquet", "default/partial-test/0000.parquet"}
    assert any("only the first part" in note for note in dataset.notes)


def test_a_revision_and_a_configuration(hub: Hub, tmp_path: Path) -> None:
    for name, first in (("birds", 0), ("plants", 4)):
        huggingface.parquet(tmp_path / "two" / name / "train-00000-of-00001.parquet", huggingface.table(range(first, first + 4)))
    hub.add("owner/two", tmp_path / "two")
    hub.add("owner/two", tmp_path / "two", "v1.0")
    message = error_of("owner/two")
    assert "hf:owner/two holds 2 datasets: birds, plants" in message and "hf:owner/two:plants" in message and hub.fetched == []
    folder = fetch("owner/two@v1.0:plants", QUIET)
    assert [str(file.relative_to(folder)) for file in folder.rglob("*.parquet")] == ["train-00000-of-00001.parquet"]
    assert hub.fetched == ["plants/train-00000-of-00001.parquet"] and read_dataset(folder).name == "two"
    assert "hf:owner/two:fish has no Parquet files" in error_of("owner/two:fish")
    assert "has no revision 'v2'" in error_of("owner/two@v2")


def test_what_the_hub_refuses(hub: Hub, tmp_path: Path) -> None:
    hub.gated.add("owner/secret")
    assert "there is no such dataset on the Hugging Face hub" in error_of("owner/missing")
    assert "accept its conditions" in error_of("owner/secret")


def test_the_cache_serves_where_the_hub_cannot_be_reached(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("owner/trees", huggingface.write(tmp_path / "made"))
    folder = fetch("owner/trees", QUIET)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch("owner/trees", QUIET) == folder
    next(folder.rglob("train-00001*")).unlink()
    with pytest.raises(InputError, match=r"cannot be reached|is not whole"):
        read_dataset("hf:owner/trees")


def test_without_a_hub_and_a_cache_it_fails_in_seconds(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    started = time.monotonic()
    message = error_of("owner/trees")
    assert time.monotonic() - started < 6
    assert "hf:owner/trees cannot be fetched: the Hugging Face hub cannot be reached" in message and "HF_HUB_CACHE" in message


@pytest.mark.parametrize(
    "name",
    [
        "",
        "no-slash",
        "a/b/c",
        "../etc",
        "owner/..",
        "/etc/passwd",
        "owner/name@../../x",
        "owner/name:../x",
        "owner/na me",
        "owner/name@",
        "-a/-b",
    ],
)
def test_names_that_there_cannot_be(hub: Hub, name: str) -> None:
    message = error_of(name)
    assert f"hf:{name} does not name a dataset" in message and "hf:owner/name" in message
    assert hub.fetched == []
