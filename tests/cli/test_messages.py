"""What a user reads when something is wrong, word for word, and the exit code that goes with it."""

import shutil
import subprocess
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


def image(path: Path) -> None:
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
        image(tmp_path / "data" / name / "1.png")
    (tmp_path / "data" / "wasp").mkdir()
    assert say("train", tmp_path / "data") == snapshot


def test_one_class(say, tmp_path, snapshot):
    image(tmp_path / "data" / "ant" / "1.png")
    assert say("train", tmp_path / "data") == snapshot


def test_class_only_in_test(say, tmp_path, snapshot):
    for name in ("ant", "bee"):
        image(tmp_path / "data" / "train" / name / "1.png")
    for name in ("ant", "wasp", "Bee"):
        image(tmp_path / "data" / "test" / name / "2.png")
    assert say("train", tmp_path / "data") == snapshot


def test_no_images(say, tmp_path, snapshot):
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


def test_members_that_cannot_be_used(say, finished_run, tmp_path, snapshot):
    text = say("ensemble", finished_run.path, tmp_path / "nothing", tmp_path, "--method", "mean", "--out", tmp_path / "run")
    assert text.replace(str(finished_run.path), "<run>") == snapshot


def test_options_of_another_method(say, finished_run, tmp_path, snapshot):
    two = (finished_run.path, tmp_path)
    assert say("ensemble", *two, "--method", "soup", "--of", "logits", "--fit-on", "val", "--out", tmp_path / "run") == snapshot


def test_a_stack_on_test(say, tmp_path, snapshot):
    assert say("ensemble", tmp_path, tmp_path, "--method", "stack", "--fit-on", "test", "--out", tmp_path / "run") == snapshot


def test_existing_run_folder(say, birds, tiny, finished_run, snapshot):
    assert say("train", birds, *tiny(), "--out", finished_run.path, "--quiet").replace(str(finished_run.path), "<run>") == snapshot


def test_not_a_run(say, tmp_path, snapshot):
    assert say("resume", tmp_path) + say("predict", tmp_path / "none", "a.jpg") + say("evaluate", tmp_path) == snapshot


def test_nothing_to_predict(say, tmp_path, finished_run, snapshot):
    assert say("predict", finished_run.path, tmp_path / "a.jpg", tmp_path / "*.png") == snapshot


def test_evaluating_other_classes(say, tmp_path, finished_run, snapshot):
    for name in ("ant", "bee"):
        image(tmp_path / "data" / name / "1.png")
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


@pytest.fixture
def mount(tmp_path):
    """Mount a small file system of memory with these options, where that is allowed."""
    target = tmp_path / "disk"

    def mounted(options: str) -> Path:
        target.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(target)], capture_output=True).returncode:
            pytest.skip("mounting a file system is not allowed here")
        return target

    yield mounted
    subprocess.run(["umount", "-l", str(target)], capture_output=True)


def test_read_only_output(say, birds, tiny, mount, snapshot):
    assert say("train", birds, *tiny(), "--out", mount("ro,size=1m") / "run", "--quiet") == snapshot


def test_no_disk_space_for_the_run(say, birds, tiny, mount, snapshot):
    """The disk fills up in the middle of training: said, exit 2, and nothing is half written."""
    disk = mount("size=3m")
    assert say("train", birds, *tiny("model.name=resnet10t"), "--out", disk / "run", "--quiet") == snapshot
    assert not list(disk.rglob("*.tmp"))


def test_no_disk_space_for_the_cache(say, tiny, mount, monkeypatch, tmp_path, snapshot):
    from fieldmark.datasets.birds.folder import write_birds

    write_birds(tmp_path / "large", species=2, per_class=30, size=128)
    monkeypatch.setenv("FIELDMARK_CACHE", str(mount("size=1m")))
    assert say("train", tmp_path / "large", *tiny("data.size=128"), "--out", tmp_path / "run", "--quiet") == snapshot
    assert not (tmp_path / "run").exists()
