import builtins
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

import fieldmark
from fieldmark.bundles.openvino_graph import load_openvino, without_telemetry
from fieldmark.core.errors import InputError

ANSWER = """
import hashlib, socket, sys

class NoNetwork(socket.socket):
    def connect(self, *_):
        raise SystemExit("the network was used")

socket.socket = NoNetwork
import numpy as np
import fieldmark

bundle = fieldmark.load_bundle(sys.argv[1], threads=int(sys.argv[2]))
pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), np.uint8)
print(hashlib.sha256(b"".join(each.tobytes() for each in bundle.session.outputs(pixels))).hexdigest())
print("torch" in sys.modules, "openvino" in sys.modules)
"""


@pytest.fixture(scope="module")
def bundle(finished_run, tmp_path_factory):
    pytest.importorskip("openvino")
    return fieldmark.export(finished_run, tmp_path_factory.mktemp("bundles") / "openvino", format="openvino", quiet=True)


@pytest.mark.parametrize("threads", [1, 2])
def test_answers_are_byte_equal_across_processes_and_nothing_else_is_done(bundle, threads, tmp_path):
    environment = os.environ | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    command = [sys.executable, "-c", ANSWER, str(bundle.path), str(threads)]
    first, second = (subprocess.run(command, capture_output=True, text=True, env=environment) for _ in range(2))
    assert first.returncode == 0, first.stderr
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), np.uint8)
    here = fieldmark.load_bundle(bundle.path, threads=threads).session.outputs(pixels)
    digest = hashlib.sha256(b"".join(each.tobytes() for each in here)).hexdigest()
    assert first.stdout == second.stdout == f"{digest}\nFalse True\n"
    assert list(tmp_path.iterdir()) == []


def test_it_computes_in_float32_with_the_threads_that_were_asked_for(bundle, monkeypatch):
    import openvino

    compiled, compile_model = [], openvino.Core.compile_model
    monkeypatch.setattr(openvino.Core, "compile_model", lambda *given: compiled.append(compile_model(*given)) or compiled[-1])
    fieldmark.load_bundle(bundle.path, threads=2).session.warm_up()
    (graph,) = compiled
    assert graph.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32
    assert graph.get_property("INFERENCE_NUM_THREADS") == 2 and graph.get_property("NUM_STREAMS") == 1
    assert not graph.get_property("ENABLE_CPU_PINNING")


def test_a_graph_that_cannot_be_run_is_named(bundle, tmp_path):
    path = tmp_path / "model-1.xml"
    path.write_text("<net/>")
    with pytest.raises(InputError, match=r"OpenVINO cannot run .*model-1.xml: \S"):
        bundle.open_graph(path, bundle.record, 1)


def test_a_missing_or_damaged_library_is_said(bundle, monkeypatch):
    def import_badly(error):
        whole = builtins.__import__

        def imported(name, *given):
            if name == "openvino":
                raise error
            return whole(name, *given)

        return imported

    with monkeypatch.context() as patch:
        patch.setattr(builtins, "__import__", import_badly(ModuleNotFoundError("No module named 'openvino'", name="openvino")))
        with pytest.raises(InputError, match=r"a bundle for OpenVINO, needs OpenVINO: pip install 'fieldmark\[openvino\]'"):
            fieldmark.load_bundle(bundle.path).session.warm_up()
    broken = ImportError("libopenvino.so: cannot open shared object file", name="openvino._pyopenvino")
    monkeypatch.setattr(builtins, "__import__", import_badly(broken))
    with pytest.raises(InputError, match=r"this needs OpenVINO, which cannot be loaded here: libopenvino.so: .*\n.*--force-reinstall"):
        load_openvino("this")


@pytest.mark.parametrize("before", [None, sys])
def test_its_telemetry_is_not_there_while_it_is_imported(before, monkeypatch):
    monkeypatch.delitem(sys.modules, "openvino_telemetry", raising=False)
    if before is not None:
        monkeypatch.setitem(sys.modules, "openvino_telemetry", before)
    with without_telemetry(), pytest.raises(ImportError):
        import openvino_telemetry  # noqa: F401
    assert sys.modules.get("openvino_telemetry") is before
