"""What a user reads when something is wrong, word for word, and the exit code that goes with it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fieldmark.cli import main


@pytest.fixture
def say(capsys, tmp_path, birds, monkeypatch):
    """Run a command; give its exit code and messages with this test's paths made general."""

    def run(*arguments) -> str:
        monkeypatch.setenv("COLUMNS", "140")
        with pytest.raises(SystemExit) as stop:
            main([str(argument) for argument in arguments])
        errors = capsys.readouterr().err.replace(str(tmp_path), "<tmp>").replace(str(birds), "<birds>")
        assert "Traceback" not in errors
        return f"exit {stop.value.code}\n{errors}"

    return run


def picture(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 30), (hash(path.name) % 255, 90, 20)).save(path)


def test_misspelt_key(say, birds, snapshot):
    assert say("train", birds, "trian.epochs=3") == snapshot


def test_several_mistakes_at_once(say, birds, snapshot):
    assert say("train", birds, "train.epochs=many", "optim.name=adan", "augment.flip=2", "lr=0.1", "data.size=7") == snapshot


def test_key_of_another_variant(say, birds, snapshot):
    assert say("train", birds, "optim=adamw", "optim.momentum=0.9") == snapshot


def test_unknown_model(say, birds, snapshot):
    assert say("train", birds, "model.name=efficentnet_b0") == snapshot


def test_unknown_recipe(say, birds, snapshot):
    assert say("train", birds, "--recipe", "defualt") == snapshot


def test_unknown_option(say, birds, snapshot):
    assert say("train", birds, "--epochs", "3") == snapshot


def test_missing_folder(say, tmp_path, snapshot):
    assert say("train", tmp_path / "nowhere") == snapshot


def test_empty_class(say, tmp_path, snapshot):
    for name in ("ant", "bee"):
        picture(tmp_path / "data" / name / "1.png")
    (tmp_path / "data" / "wasp").mkdir()
    assert say("train", tmp_path / "data") == snapshot


def test_one_class(say, tmp_path, snapshot):
    picture(tmp_path / "data" / "ant" / "1.png")
    assert say("train", tmp_path / "data") == snapshot


def test_class_only_in_test(say, tmp_path, snapshot):
    for name in ("ant", "bee"):
        picture(tmp_path / "data" / "train" / name / "1.png")
    for name in ("ant", "wasp", "Bee"):
        picture(tmp_path / "data" / "test" / name / "2.png")
    assert say("train", tmp_path / "data") == snapshot


def test_no_pictures(say, tmp_path, snapshot):
    (tmp_path / "data").mkdir()
    assert say("train", tmp_path / "data") == snapshot


def test_corrupt_weights(say, birds, tmp_path, tiny, snapshot):
    (tmp_path / "broken.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00not json")
    assert say("train", birds, *tiny(f"model.weights={tmp_path / 'broken.safetensors'}"), "--quiet") == snapshot


def test_weights_of_another_model(say, birds, tmp_path, tiny, finished_run, snapshot):
    weights = f"model.weights={finished_run.folder.best_weights}"
    text = say("train", birds, *tiny(weights, "model.name=resnet10t"), "--quiet")
    assert text.replace(str(finished_run.path), "<run>") == snapshot


def test_weights_that_are_not_there(say, birds, tmp_path, tiny, snapshot):
    assert say("train", birds, *tiny(f"model.weights={tmp_path / 'none.safetensors'}"), "--quiet") == snapshot


def test_no_network(say, birds, tiny, snapshot):
    assert say("train", birds, *tiny("model.weights=pretrained", "model.name=resnet10t"), "--quiet") == snapshot


def test_over_the_budget(say, birds, tiny, snapshot):
    assert say("train", birds, *tiny("model.max_parameters=10k"), "--quiet") == snapshot


def test_existing_run_folder(say, birds, tiny, finished_run, snapshot):
    assert say("train", birds, *tiny(), "--out", finished_run.path, "--quiet").replace(str(finished_run.path), "<run>") == snapshot


def test_not_a_run(say, tmp_path, snapshot):
    assert say("resume", tmp_path) + say("predict", tmp_path / "none", "a.jpg") + say("evaluate", tmp_path) == snapshot


def test_nothing_to_predict(say, tmp_path, finished_run, snapshot):
    assert say("predict", finished_run.path, tmp_path / "a.jpg", tmp_path / "*.png") == snapshot


def test_evaluating_other_classes(say, tmp_path, finished_run, snapshot):
    for name in ("ant", "bee"):
        picture(tmp_path / "data" / name / "1.png")
    assert say("evaluate", finished_run.path, "--data", tmp_path / "data").replace(str(finished_run.path), "<run>") == snapshot


def test_no_gpu(say, birds, tiny, snapshot):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert say("train", birds, *tiny("train.device=cuda"), "--quiet") == snapshot


def test_too_many_unreadable(say, birds, tiny, tmp_path, snapshot):
    shutil.copytree(birds, tmp_path / "data")
    for path in sorted((tmp_path / "data" / "train").rglob("*.png"))[:3]:
        path.write_bytes(b"")
    assert say("train", tmp_path / "data", *tiny(), "--quiet") == snapshot


def as_nobody(arguments: list[str], cache: Path) -> subprocess.CompletedProcess:
    """Run the command without root's power to write anywhere."""

    def drop():
        if os.geteuid() == 0:
            os.setegid(65534)
            os.seteuid(65534)

    environment = {**os.environ, "FIELDMARK_CACHE": str(cache), "HOME": str(cache)}
    command = [sys.executable, "-m", "fieldmark", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, preexec_fn=drop, timeout=120)


def test_read_only_output(birds, tiny, tmp_path_factory, snapshot):
    folder = tmp_path_factory.mktemp("locked")
    cache = tmp_path_factory.mktemp("cache")
    for path in (folder, *folder.parents):
        if path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    for path in (birds, *birds.parents, *birds.rglob("*")):
        path.chmod(path.stat().st_mode | 0o055)
    cache.chmod(0o777)
    folder.chmod(0o555)
    done = as_nobody(["train", birds, *tiny(), "--out", folder / "run", "--quiet"], cache)
    assert f"exit {done.returncode}\n{done.stderr}".replace(str(folder), "<folder>") == snapshot
    assert list(folder.iterdir()) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB, mounted where that is allowed."""
    target = tmp_path / "small"
    target.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(target)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a tmpfs is not allowed here")
    yield target
    subprocess.run(["umount", "-l", str(target)], check=True)


def test_no_disk_space_for_the_run(say, birds, tiny, small_disk, snapshot):
    """The disk fills up in the middle of training: said, exit 2, and nothing of the run is half written."""
    text = say("train", birds, *tiny("model.name=resnet10t"), "--out", small_disk / "run", "--quiet")
    assert text.replace(str(small_disk), "<disk>") == snapshot
    assert not list(small_disk.rglob("*.tmp"))


def test_no_disk_space_for_the_cache(say, birds, tiny, small_disk, monkeypatch, tmp_path):
    monkeypatch.setenv("FIELDMARK_CACHE", str(small_disk))
    text = say("train", birds, *tiny("data.size=320", "data.cache_scale=1.0", "train.epochs=1"), "--out", tmp_path / "run", "--quiet")
    assert text.startswith("exit 2\nfieldmark: ") and "space" in text
    assert not (tmp_path / "run").exists()
