import json
import os
import re

import numpy as np

from fieldmark.bundles.parity import Parity
from fieldmark.bundles.record import BundleRecord, Quantisation
from fieldmark.exports.readme import write_readme
from fieldmark.runtime.decode import decode


def page_of(bundle, folder, changed: dict) -> str:
    record = BundleRecord.read(bundle.path / "bundle.json").model_copy(update=changed)
    write_readme(folder, record, Parity.read(bundle.path / "parity.json"))
    return (folder / "README.md").read_text()


def test_the_page_says_what_was_proven(torch_bundle):
    page = (torch_bundle.path / "README.md").read_text()
    parity = Parity.read(torch_bundle.path / "parity.json")
    n = parity.agreement.n
    assert f"| equal answers | {n} of {n} | {n} of {n} |" in page and f"on all {n} images of its validation split" in page
    assert "an image classifier of 3 classes" in page and "`model.safetensors` | its weights" in page
    assert "predict.mjs" not in page and not (torch_bundle.path / "predict.mjs").exists()
    assert "{" + "{" not in page and "\n\n\n" not in page


def test_the_python_of_the_page_answers_for_its_examples(torch_bundle, monkeypatch, capsys):
    (program,) = re.findall(r"```python\n(.+?)```", (torch_bundle.path / "README.md").read_text(), re.DOTALL)
    assert len(program.strip().splitlines()) <= 10
    monkeypatch.chdir(torch_bundle.path)
    exec(program, {})
    said = capsys.readouterr().out.splitlines()
    expected = json.loads((torch_bundle.path / "examples" / "expected.json").read_text())
    assert [line.split()[0] for line in said] == [os.path.join("examples", name) for name in expected]
    assert all(("none of the classes" in line) == answer["unknown"] for line, answer in zip(said, expected.values(), strict=True))


def test_the_page_for_onnx_has_javascript_and_cplusplus(torch_bundle, tmp_path):
    page = page_of(torch_bundle, tmp_path, {"format": "onnx"})
    assert 'pip install "fieldmark[onnx]"' in page
    for program, command in (("predict.mjs", "npm install onnxruntime-node sharp"), ("predict.cpp", "g++ -std=c++17 -O2 predict.cpp ")):
        assert f"[`{program}`]({program})" in page and command in page
        assert command in (tmp_path / program).read_text()


def test_the_page_for_int8_says_how_it_was_made_and_whether_it_is_proven(torch_bundle, tmp_path):
    quantisation = Quantisation(tool="ONNX Runtime", images=512, cures=("percentile ranges", "stem in float32"))
    page = page_of(torch_bundle, tmp_path, {"precision": "int8", "quantisation": quantisation})
    assert "images of val do not prove that the loss is within 0.5 points: it may be" in page
    assert "ONNX Runtime quantised it on 512 training images, with percentile ranges, stem in float32." in page


def test_names_are_text(torch_bundle, tmp_path):
    page = page_of(torch_bundle, tmp_path, {"class_names": ("<b>*bold*</b>", "a_b_c", "one\n# two")})
    assert r"tells apart \<b\>\*bold\*\</b\>, a\_b\_c, one \# two;" in page


def test_one_example_is_the_image_that_looks_most_like_none_of_the_classes(torch_bundle, finished_run, birds):
    val = finished_run.predictions("val")
    farthest = val.ids[finished_run.score(val.logits, val.features).argmin()]
    shown = [decode(path) for path in sorted((torch_bundle.path / "examples").glob("*.png"))]
    assert any(np.array_equal(each, decode(birds / farthest)) for each in shown)
