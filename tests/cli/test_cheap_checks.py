"""What is wrong with the input is said before PyTorch is imported, which takes seconds."""

import json
import subprocess
import sys

import pytest
from PIL import Image

SCRIPT = """
import contextlib, io, json, sys
from fieldmark.cli import main

found = {}
for command in json.loads(sys.argv[1]):
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        try:
            main(command)
        except SystemExit as stop:
            code = stop.code
    found[" ".join(command)] = code, said.getvalue(), [name for name in ("torch", "timm", "torchvision") if name in sys.modules]
    if found[" ".join(command)][2]:
        break
print(json.dumps(found))
"""
"""Runs commands one after the other in a fresh process, until one of them imports PyTorch."""


@pytest.fixture
def folder(tmp_path, finished_run):
    """Photos of two classes, of one class and of none, a file, and a folder that is no run; ./run is one."""
    for label, name in enumerate(("finch", "wren")):
        for folder in ("two", "one") if name == "wren" else ("two",):
            (tmp_path / folder / name).mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (8, 8), (9 * number, label, 0)).save(tmp_path / folder / name / f"{number}.png")
    (tmp_path / "none").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "run").symlink_to(finished_run.path)
    return tmp_path


COMMANDS = {
    "train nowhere": "there is no file or folder nowhere",
    "train none": "there are no images",
    "train one": "at least two classes",
    "train two --out run": "already holds a run",
    "train two --out file": "file",
    "train two --recipe defualt": "did you mean default",
    "train two trian.epochs=3": "did you mean train.epochs",
    "train two model.name=efficentnet_b0": "did you mean efficientnet_b0",
    "train two model.weights=none.safetensors": "there is no weights file",
    "train two data.columns=label=x": "data.columns has no effect",
    "train two data.crop=box": "the data have no boxes",
    "train two data.val_fraction=0.001 data.folds=9": "",
    "demo train.epochs=many": "expected a whole number",
    "resume nowhere": "there is no run folder",
    "resume none": "is not a run folder",
    "evaluate nowhere": "there is no run folder",
    "evaluate run --data nowhere": "there is no file or folder nowhere",
    "evaluate run --data two": "was not trained on",
    "evaluate run --split tets": "",
    "evaluate run --corrupt fgo:3": "did you mean fog",
    "evaluate run --unknown nowhere": "there is no file or folder nowhere",
    "calibrate nowhere": "there is no run folder",
    "calibrate run --accept 2": "",
    "calibrate run --score nothing": "",
    "predict nowhere x.jpg": "there is no run folder",
    "predict run nowhere.jpg": "there is no file or folder nowhere.jpg",
    "predict run none": "there are no images",
    "predict run two --csv none": "",
    "predict run two --boxes nowhere.csv": "",
    "predict run two --top 0": "",
    "explain nowhere x.jpg --out e": "there is no run folder",
    "explain run nowhere.jpg --out e": "there is no file or folder",
    "explain run two --out file": "is a file",
    "submit nowhere out.csv": "there is no run folder",
    "submit run out.csv --columns id=nothing": "there is no 'nothing'",
    "submit run out.csv": "no unlabelled images",
    "submit run out.csv --data nowhere": "there is no file or folder",
    "ensemble nowhere run --method mean --out e": "there is no run folder nowhere",
    "ensemble run run --method mean --out e": "",
    "ensemble run run --method mean --of logits --fit-on val --out e": "--fit-on",
    "report nowhere": "there is no run folder",
    "report run run2 --out r.html": "there is no run folder run2",
    "study run nothing two --out s": "",
    "study run noise-floor nowhere --out s": "there is no file or folder nowhere",
    "study table nowhere": "is not the folder of a study",
    "study search tune two --out s": "no search budget",
    "layouts nowhere": "there is no file or folder",
    "models efficentnet_b0": "",
    "recipes nothing": "there is no recipe",
    "fields nothing": "no field begins",
    "birds none --species 0": "",
}
"""A command with wrong input -> a part of what is said."""


def test_wrong_input_is_said_without_pytorch(folder):
    given = json.dumps([command.split() for command in COMMANDS])
    done = subprocess.run([sys.executable, "-c", SCRIPT, given], capture_output=True, text=True, cwd=folder, check=True)
    found = json.loads(done.stdout)
    for command, (code, said, loaded) in found.items():
        assert code == 2 and COMMANDS[command] in said and "Traceback" not in said, f"{command}: exit {code}\n{said}"
        assert not loaded, f"{command} imports {loaded}"
    assert len(found) == len(COMMANDS)
