"""An environment of its own for a test: Fieldmark, as its files are now, installed with some extras from the package index."""

import os
import re
import shutil
import subprocess
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
_OFFLINE = re.compile("NewConnectionError|Temporary failure in name resolution|Connection refused|Network is unreachable|ReadTimeout")


@dataclass(frozen=True)
class NewEnvironment:
    folder: Path

    def run(self, program: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """A program of the environment, in its folder, with nothing from here."""
        variables = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        command = [self.folder / "venv" / "bin" / program, *arguments]
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, env=variables, cwd=self.folder)


def new_environment(folder: Path, extras: str = "") -> NewEnvironment:
    """With the versions of constraints.txt. Skips the test if the package index cannot be reached."""
    source = folder / "source"  # pip builds where the source is
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    venv.create(folder / "venv", with_pip=True)
    made = NewEnvironment(folder)
    what = f"{source}[{extras}]" if extras else str(source)
    installed = made.run("python", "-m", "pip", "install", "-c", ROOT / "constraints.txt", what)
    if installed.returncode and _OFFLINE.search(installed.stdout + installed.stderr):
        pytest.skip("NOT TESTED: a new environment needs the package index, which cannot be reached")
    assert installed.returncode == 0, installed.stderr
    return made
