"""Damaged images: benchmarks/fuzz_images.py draws and damages them and judges the answers."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz_images.py"


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmarks_fuzz_images", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_damage_gives_pixels_or_a_reason(fuzz: ModuleType) -> None:
    verdicts = {number: fuzz.examine(fuzz.damaged(7, number)[1]) for number in range(400)}
    assert {number: verdict for number, verdict in verdicts.items() if verdict.finding} == {}
    decoded = sum(verdict.reason == fuzz.DECODED for verdict in verdicts.values())
    assert 40 < decoded < 360, "the damage is too strong or too weak to test anything"


def test_a_number_makes_the_same_file_again(fuzz: ModuleType) -> None:
    again = [fuzz.damaged(3, number) for number in range(60)]
    assert [fuzz.damaged(3, number) for number in range(60)] == again
    assert len({data for _, data in again}) > 50


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_thousand_damaged_files() -> None:
    # One file becomes a WebP of 119 megapixels, 14 s for its three decodes on an idle core: beside other tests, more.
    command = [sys.executable, str(SCRIPT), "--files", "10000", "--seed", "0", "--limit", "120"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "0 findings" in done.stdout
