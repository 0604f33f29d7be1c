"""Export to ONNX, and int8 by ONNX Runtime."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from fieldmark.core.errors import InputError, reason_of
from fieldmark.core.extras import needed_for
from fieldmark.core.quiet import quiet
from fieldmark.exports import onnx_int8
from fieldmark.exports.exporter import Cures, Exporter, FloatPart, Source
from fieldmark.exports.network import Deployed
from fieldmark.exports.onnx_structure import Structure

OPSET = 18


class OnnxExporter(Exporter):
    format = "onnx"
    packages = ("onnx", "onnxruntime")
    tool = "ONNX Runtime"

    def require(self) -> None:
        with needed_for("exporting to ONNX"):
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401

    def write(self, source: Source, batch: int, folder: Path) -> list[str]:
        name = f"model-{batch}.onnx"
        write_onnx(source.network, batch, folder / name)
        return [name]

    def quantise(self, source: Source, batch: int, folder: Path, cures: Cures) -> list[str]:
        name, images = f"model-{batch}.onnx", source.calibration
        with source.console.waiting("calibrating"):
            onnx_int8.quantise(_prepared(source, batch), images, batch, cures, source.work, folder / name)
        return [name]

    def has(self, source: Source, part: FloatPart) -> bool:
        import onnx

        return bool(Structure(onnx.load(_prepared(source, 1))).part(part))


def _prepared(source: Source, batch: int) -> Path:
    """The graph in float32 as it is quantised; it is made once."""
    path = source.work / f"prepared-{batch}.onnx"
    if not path.is_file():
        write_onnx(source.network, batch, source.work / f"model-{batch}.onnx")
        onnx_int8.prepare(source.work / f"model-{batch}.onnx", path)
    return path


def write_onnx(network: Deployed, batch: int, path: Path) -> None:
    """The graph for exactly `batch` images; its input is `images`. The same network makes the same bytes.

    Raises InputError, naming the operator, where ONNX cannot express the network.
    """
    import onnx

    example = torch.zeros(batch, 3, network.size, network.size, dtype=torch.uint8)
    try:
        with quiet():
            program = torch.onnx.export(
                network,
                (example,),
                input_names=["images"],
                output_names=list(network.outputs),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
            assert program is not None
            graph = _plain(program.model_proto)
            onnx.checker.check_model(graph, full_check=True)
    except (torch.onnx.errors.OnnxExporterError, onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise InputError(f"ONNX cannot express this network: {_reason(error)}", hint="torch bundles take any network.") from error
    onnx.save(graph, path)


def _plain(graph: Any) -> Any:
    """Without the exporter's notes, which hold paths of this machine, and with nodes named by their kind and place."""
    del graph.metadata_props[:]
    del graph.graph.metadata_props[:]
    for place, node in enumerate(graph.graph.node):
        node.name = f"{node.op_type}_{place}"
        node.doc_string = ""
        del node.metadata_props[:]
    for value in (*graph.graph.input, *graph.graph.output, *graph.graph.value_info, *graph.graph.initializer):
        value.doc_string = ""
        del value.metadata_props[:]
    return graph


def _reason(error: BaseException) -> str:
    """The operator that is missing, or the first line of what went wrong at the bottom."""
    while error.__cause__ is not None:
        error = error.__cause__
    if missing := re.search(r"No ONNX function found for <OpOverload\(op='([^']+)'", str(error)):
        return f"it has no operator for {missing[1]}"
    return reason_of(error)
