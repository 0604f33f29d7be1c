"""Runs whose data were moved: they can be pointed to, and nothing is lost before they are."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import fieldmark
from fieldmark.cli import main
from fieldmark.core.errors import InputError
from fieldmark.evaluation.run import Run


@pytest.fixture
def moved(finished_run: Run, birds: Path, tmp_path: Path) -> tuple[Run, Path]:
    """A copy of a run whose data are gone, and the place where they are now."""
    run = Run.load(shutil.copytree(finished_run.path, tmp_path / "run"))
    run.folder.update_manifest(data=run.folder.manifest().data.model_copy(update={"root": str(tmp_path / "before" / birds.name)}))
    return run, Path(shutil.copytree(birds, tmp_path / "now" / birds.name))


def state(run: Run) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file() and path.name != ".lock"}


def test_without_its_data_a_run_says_how_to_point_to_them(moved: tuple[Run, Path]) -> None:
    run, _ = moved
    before = state(run)
    for call in (
        lambda: fieldmark.evaluate(run.path),
        lambda: fieldmark.calibrate(run.path),
        lambda: fieldmark.report(run.path),
        lambda: fieldmark.submit(run.path, run.path.parent / "answers.csv"),
    ):
        with pytest.raises(InputError, match=rf"fieldmark evaluate {run.path} --moved-to PLACE"):
            call()
    assert state(run) == before
    assert fieldmark.resume(run.path, quiet=True).path == run.path and state(run) == before, "a finished run is left as it is"
    other = fieldmark.report(run.path, out=run.path.parent / "other.html")
    assert fieldmark.report(run.path, out=other) == other, "it shows no images that could be lost"
    shutil.copy(run.folder.report_file, other)
    with pytest.raises(InputError, match="lose those that it shows"):
        fieldmark.report(run.path, out=other)


def test_once_pointed_to_they_are_found_by_every_command(moved: tuple[Run, Path]) -> None:
    run, now = moved
    pictures = run.folder.report_file.read_text().count("data:image/jpeg")
    for place in (now.parent, now):
        assert fieldmark.evaluate(run.path, moved_to=place).metrics == run.summary.test
        assert run.folder.manifest().data.root == str(now.resolve())
    fieldmark.calibrate(run.path)
    assert run.folder.report_file.read_text().count("data:image/jpeg") == pictures


def test_images_that_differ_are_counted_and_named(moved: tuple[Run, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run, now = moved
    one, other, *_ = sorted((now / "test").rglob("*.png"))
    one.write_bytes(other.read_bytes())
    other.unlink()
    before = state(run)
    with pytest.raises(SystemExit, match="2"):
        main(["calibrate", str(run.path), "--moved-to", str(now)])
    said = capsys.readouterr().err
    assert "of 60 images, 1 is gone and 1 differs" in said and str(one.relative_to(now)) in said
    with pytest.raises(InputError, match="of 60 images, 60 are gone"):
        fieldmark.resume(run.path, moved_to=run.path, quiet=True)
    with pytest.raises(InputError, match="there is no file or folder"):
        fieldmark.evaluate(run.path, moved_to=now / "nowhere")
    with pytest.raises(InputError, match="Give one of them"):
        fieldmark.evaluate(run.path, data=now, moved_to=now)
    assert state(run) == before


def test_an_image_that_changed_does_not_leave_the_report_unnoticed(moved: tuple[Run, Path]) -> None:
    run, now = moved
    fieldmark.evaluate(run.path, moved_to=now)
    victim = sorted((now / "test").rglob("*.png"))[0]
    victim.write_bytes(victim.read_bytes() + b" ")
    with pytest.raises(InputError, match="1 of the 12 images of test are gone or have changed"):
        fieldmark.calibrate(run.path)
    run.folder.report_file.rename(run.path.parent / "kept.html")
    fieldmark.calibrate(run.path)
    assert run.folder.report_file.is_file()
