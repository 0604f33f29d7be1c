"""Half of the house is imported, and used from the command line, where there is no torch."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from new_environment import new_environment

ROOT = Path(__file__).resolve().parents[1]
NO_TORCH = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTorch())
"""
IMPORT_ALL = """
import importlib, pkgutil, sys

for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        importlib.import_module(module.name)
        print(module.name)
"""
RUN_ALL = """
import json, sys
from fieldmark.cli import main

codes = []
for arguments in json.loads(sys.argv[1]):
    try:
        main(arguments)
    except SystemExit as stop:
        codes.append(stop.code)
print(codes)
"""
NEEDS_TORCH = r"fieldmark: this command needs PyTorch: pip install 'fieldmark\[train\]'\n"


def light_packages() -> list[str]:
    """Those that the import contract keeps free of torch."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (contract,) = (each for each in contracts if "torch" in each.get("forbidden_modules", ()))
    return contract["source_modules"]


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", *arguments], capture_output=True, text=True)


def test_every_module_of_the_lower_half_is_imported_without_torch() -> None:
    done = python(NO_TORCH + IMPORT_ALL, *light_packages())
    assert done.returncode == 0, done.stderr
    expected = {"core.recipe.load", "datasets.loading", "scoring.decisions", "answering.answerer", "runtime.decode"}
    assert {f"fieldmark.{name}" for name in expected} <= set(done.stdout.split())


def test_commands_that_need_no_torch_do_without(birds: Path, tmp_path: Path) -> None:
    commands = (
        ["--help"],
        ["layouts"],
        ["layouts", str(birds)],
        ["birds", str(tmp_path / "birds"), "--species", "2", "--per-class", "3", "--size", "32", "--quiet"],
        ["recipes"],
        ["recipes", "default"],
        ["fields", "--json"],
        ["models", "--json"],
        ["study", "list"],
        ["cache"],
    )
    done = python(NO_TORCH + RUN_ALL, json.dumps(commands))
    assert done.stdout.splitlines()[-1] == str([0] * len(commands)), done.stderr
    assert "3 classes, 60 images" in done.stdout and (tmp_path / "birds" / "train").is_dir()


def test_commands_that_need_torch_say_what_to_install_in_one_line(birds: Path, tmp_path: Path) -> None:
    commands = (
        ["train", str(birds), "--out", str(tmp_path / "run")],
        ["demo", "--out", str(tmp_path / "run")],
        ["models", "resnet*"],
    )
    done = python(NO_TORCH + RUN_ALL, json.dumps(commands))
    assert done.stdout == f"{[2] * len(commands)}\n" and re.fullmatch(f"({NEEDS_TORCH}){{{len(commands)}}}", done.stderr), done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_base_install_has_no_torch_and_reads_data(birds: Path, tmp_path: Path) -> None:
    """In a new environment, with the versions of constraints.txt from the package index."""
    run = new_environment(tmp_path, "serve").run
    packages = run("python", "-m", "pip", "list", "--format=json")
    assert {"torch", "torchvision", "timm"}.isdisjoint(each["name"] for each in json.loads(packages.stdout))
    imported = run("python", "-c", IMPORT_ALL, *light_packages())
    assert imported.returncode == 0, imported.stderr
    read = run("fieldmark", "layouts", birds)
    assert read.returncode == 0 and "3 classes, 60 images" in read.stdout, read.stderr
    for command, listed in ((("study", "list"), "default-ladder"), (("recipes",), "two-stage"), (("models",), "resnet50")):
        told = run("fieldmark", *command)
        assert told.returncode == 0 and listed in told.stdout, told.stderr
    refused = run("fieldmark", "train", birds)
    assert refused.returncode == 2 and re.fullmatch(NEEDS_TORCH, refused.stderr), refused.stderr
