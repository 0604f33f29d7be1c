import builtins
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

import fieldmark
from fieldmark.core.errors import InputError

ANSWER = """
import hashlib, sys
import numpy as np
import fieldmark

bundle = fieldmark.load_bundle(sys.argv[1], threads=int(sys.argv[2]))
pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), np.uint8)
print(hashlib.sha256(b"".join(each.tobytes() for each in bundle.session.outputs(pixels))).hexdigest())
print("torch" in sys.modules, "timm" in sys.modules, "ai_edge_litert" in sys.modules)
"""


@pytest.fixture(scope="module")
def bundle(finished_run, tmp_path_factory):
    pytest.importorskip("litert_torch")
    return fieldmark.export(finished_run, tmp_path_factory.mktemp("bundles") / "litert", format="litert", batch=(1, 4), quiet=True)


@pytest.mark.parametrize("threads", [1, 2])
def test_answers_are_byte_equal_across_processes_without_pytorch(bundle, threads, tmp_path):
    environment = os.environ | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", ANSWER, str(bundle.path), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), np.uint8)
    here = fieldmark.load_bundle(bundle.path, threads=threads).session.outputs(pixels)
    digest = hashlib.sha256(b"".join(each.tobytes() for each in here)).hexdigest()
    assert done.stdout == f"{digest}\nFalse False True\n" and list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted as Linux has them")
@pytest.mark.parametrize("threads", [1, 3])
def test_it_computes_with_the_threads_that_were_asked_for(bundle, threads):
    before = set(os.listdir("/proc/self/task"))
    opened = fieldmark.load_bundle(bundle.path, threads=threads)
    opened.session.outputs(np.zeros((1, 3, 32, 32), np.uint8))
    assert len(set(os.listdir("/proc/self/task")) - before) == threads - 1


def test_results_stay_as_they_are_when_it_is_run_again(bundle):
    run = bundle.open_graph(bundle.path / "model-1.tflite", bundle.record, 1)
    first = run(np.zeros((1, 32, 32, 3), np.uint8))
    kept = [each.copy() for each in first]
    run(np.full((1, 32, 32, 3), 255, np.uint8))
    assert all(np.array_equal(before, after) for before, after in zip(kept, first, strict=True))


@pytest.mark.parametrize("content", [b"", b"nothing"])
def test_a_graph_that_cannot_be_run_is_named(bundle, content, tmp_path):
    path = tmp_path / "model-1.tflite"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"LiteRT cannot run .*model-1.tflite: \S"):
        bundle.open_graph(path, bundle.record, 1)


def test_a_missing_library_is_said(bundle, monkeypatch):
    whole = builtins.__import__

    def imported(name, *given):
        if name.startswith("ai_edge_litert"):
            raise ModuleNotFoundError("No module named 'ai_edge_litert'", name="ai_edge_litert")
        return whole(name, *given)

    monkeypatch.setattr(builtins, "__import__", imported)
    with pytest.raises(InputError, match=r"a bundle for LiteRT, needs LiteRT: pip install 'fieldmark\[litert\]'"):
        fieldmark.load_bundle(bundle.path).session.warm_up()
