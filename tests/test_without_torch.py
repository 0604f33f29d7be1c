"""The lower half of the house is imported where there is no torch."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
IMPORT_ALL = """
import importlib, pkgutil, sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTorch())
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        importlib.import_module(module.name)
        print(module.name)
"""


def light_packages() -> list[str]:
    """Those that the import contract keeps free of torch."""
    contracts = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    (contract,) = (each for each in contracts if "torch" in each.get("forbidden_modules", ()))
    return contract["source_modules"]


def test_every_module_of_the_lower_half_is_imported_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT_ALL, *light_packages()], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert {"fieldmark.core.recipe.recipe", "fieldmark.datasets.loading", "fieldmark.scoring.decisions"} <= set(done.stdout.split())
