"""A bundle answers where nothing is installed but its runtime."""

import json

import pytest

import fieldmark
from fieldmark.bundles.record import FORMATS
from fieldmark.cli.answers import answer_as_json
from fieldmark.core.errors import InputError
from new_environment import new_environment

HEAVY = {"torch", "torchvision", "timm", "onnx", "nncf", "litert-torch", "executorch"}


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("runtime", [each for each in FORMATS if each not in ("executorch", "torch")])
def test_a_bundle_answers_alike_in_a_new_environment_with_its_runtime_alone(runtime, finished_run, tmp_path):
    out = tmp_path / "bundle"
    try:
        fieldmark.export(finished_run, out, format=runtime, quiet=True)
    except InputError as error:
        pytest.skip(f"NOT TESTED: {error}")
    here = fieldmark.load_bundle(out)
    paths = sorted((out / "examples").glob("*.png"))
    expected = [answer_as_json(answer) for answer in here.predict(paths)]
    new = new_environment(tmp_path, runtime)
    packages = {each["name"] for each in json.loads(new.run("python", "-m", "pip", "list", "--format=json").stdout)}
    assert not packages & HEAVY
    done = new.run("fieldmark", "predict", out, *paths, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == expected
    refused = new.run("fieldmark", "export", "run", "--out", "b")
    assert refused.returncode == 2 and "pip install 'fieldmark[train]'" in refused.stderr and refused.stderr.count("\n") <= 2
