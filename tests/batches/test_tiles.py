"""What is said of images while train and val are decoded."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmark.batches.tiles import Tiles
from fieldmark.core.console import Console
from fieldmark.core.recipe.load import load_recipe
from fieldmark.datasets.loading import check_readable, find_data, load_data


def test_images_that_cannot_be_read_are_named_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One has no image in it, which reading tells, and the other ends too soon, which only decoding does."""
    for number in range(24):
        folder = tmp_path / "ab"[number % 2]
        folder.mkdir(exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 255, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.png")
    (tmp_path / "a" / "0.png").write_bytes(b"nothing")
    short = tmp_path / "b" / "1.png"
    short.write_bytes(short.read_bytes()[:4000])
    settings = load_recipe("default", ["data.size=32", "data.max_unreadable=0.5"]).data
    console = Console()
    loaded = load_data(find_data(tmp_path, settings, console), console)
    check_readable(loaded, settings.max_unreadable, console)
    Tiles.decode(loaded, settings, console)
    said = capsys.readouterr().err
    assert said.count("a/0.png") == said.count("b/1.png") == 1
    assert "1 unreadable image is set aside" in said and "1 more unreadable image is set aside" in said
