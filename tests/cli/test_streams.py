from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

FIELDMARK = f"{shlex.quote(sys.executable)} -m fieldmark"
FULL = pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "Vögel"
    for name in ("Zaunkönig", "雀", "Robin 🐦"):
        (root / name).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(root / name / "1.png")
    return root


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["bash", "-c", line], capture_output=True, env=os.environ | environment)


@FULL
@pytest.mark.parametrize("command", ["recipes", "fields --json", "--help"])
def test_standard_output_on_a_full_disk_is_one_line(command: str) -> None:
    done = shell(f"{FIELDMARK} {command} > /dev/full")
    assert done.stderr == b"fieldmark: standard output cannot be written (No space left on device); write it elsewhere\n"
    assert done.returncode == 2


@pytest.mark.parametrize("command", ["fields --json", "--help"])
def test_a_reader_that_has_enough_is_no_error(command: str) -> None:
    done = shell(f"{FIELDMARK} {command} | head -1; exit ${{PIPESTATUS[0]}}")
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout.count(b"\n") <= 1


@FULL
def test_messages_that_cannot_be_written_stop_nothing(data: Path) -> None:
    done = shell(f"{FIELDMARK} layouts {shlex.quote(str(data))} --json 2> /dev/full")
    assert done.returncode == 0 and json.loads(done.stdout)["images"] == 3
    assert shell(f"{FIELDMARK} layouts nowhere 2> /dev/full").returncode == 2


def test_closed_streams() -> None:
    assert shell(f"{FIELDMARK} recipes >&- 2>&-").returncode == 0
    assert shell(f"{FIELDMARK} layouts nowhere >&- 2>&-").returncode == 2


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_letters_that_a_terminal_lacks_are_escaped_and_json_stays_json(data: Path, encoding: str) -> None:
    given = shlex.quote(str(data))
    done = shell(f"{FIELDMARK} layouts {given} --json", PYTHONIOENCODING=encoding)
    assert done.returncode == 0 and json.loads(done.stdout.decode(encoding))["name"] == "Vögel"
    assert "Robin \\ud83d\\udc26" in done.stdout.decode(encoding)
    done = shell(f"{FIELDMARK} layouts {given}/雀/nothing", PYTHONIOENCODING=encoding)
    assert done.returncode == 2 and b"\\u96c0" in done.stderr and b"Traceback" not in done.stderr
