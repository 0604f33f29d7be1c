import json
import shutil
import subprocess

import pytest
from exported_answers import same_answers, with_wall
from odd_images import pixels, write_odd_images
from PIL import Image

import fieldmark
from fieldmark.cli.answers import answer_as_json


@pytest.mark.slow
def test_the_program_in_cplusplus_answers_as_fieldmark_does(finished_run, birds, tmp_path):
    """Compiled where its libraries are found, and else not run."""
    pytest.importorskip("onnxruntime")
    compiler = shutil.which("g++") or pytest.skip("not run: there is no g++ on this machine")
    bundle = fieldmark.export(finished_run, tmp_path / "bundle", batch=2, include=["enroll"], quiet=True)
    found = subprocess.run(["pkg-config", "--cflags", "--libs", "libonnxruntime", "stb", "libturbojpeg"], capture_output=True, text=True)
    flags = found.stdout.split() if found.returncode == 0 else ["-lonnxruntime", "-lturbojpeg"]
    command = [compiler, "-std=c++17", "-O2", bundle.path / "predict.cpp", "-o", tmp_path / "predict", *flags]
    compiled = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if missing := [line for line in compiled.stderr.splitlines() if "No such file or directory" in line or "cannot find -l" in line]:
        pytest.skip(f"not run: {missing[0].strip()}")
    assert compiled.returncode == 0, compiled.stderr
    files = [*sorted((bundle.path / "examples").glob("*.png")), *write_odd_images(tmp_path / "odd"), *sorted(birds.glob("test/*/*"))]
    for width, height in ((64, 64), (90, 63), (131, 205), (402, 301)):
        files.append(tmp_path / f"{width}.jpg")
        Image.fromarray(pixels(9, 7)).resize((width, height), Image.Resampling.BICUBIC).save(files[-1])
    for each in (bundle, with_wall(bundle, tmp_path / "enrolled")):
        done = subprocess.run([tmp_path / "predict", each.path, *files, tmp_path / "no.png"], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        for ours, theirs in zip(each.predict(files), lines, strict=False):
            same_answers(theirs, json.loads(answer_as_json(ours)))
        assert lines[-1]["classes"] == [] and "cannot be read" in lines[-1]["note"]
