"""Networks exported to ONNX, and quantised by ONNX Runtime."""

from __future__ import annotations

import warnings
from pathlib import Path

import torch

from fieldmark.core.errors import InputError
from fieldmark.core.extras import needed_for
from fieldmark.exports.exporter import Exporter, Source
from fieldmark.exports.network import Deployed

OPSET = 18


class OnnxExporter(Exporter):
    format = "onnx"
    packages = ("onnx", "onnxruntime")

    def require(self) -> None:
        with needed_for("exporting to ONNX"):
            import onnx  # noqa: F401
            import onnxruntime  # noqa: F401
            import onnxscript  # noqa: F401

    def write(self, source: Source, batch: int, folder: Path) -> list[str]:
        name = f"model-{batch}.onnx"
        write_onnx(source.network, batch, folder / name)
        return [name]


def write_onnx(network: Deployed, batch: int, path: Path) -> None:
    """The graph for exactly `batch` images; its input is `images`. Raises InputError where the network cannot be expressed."""
    import onnx

    example = torch.zeros(batch, 3, network.size, network.size, dtype=torch.uint8)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                network,
                (example,),
                path,
                input_names=["images"],
                output_names=list(network.outputs),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        onnx.checker.check_model(str(path), full_check=True)
    except (torch.onnx.errors.OnnxExporterError, onnx.checker.ValidationError, NotImplementedError) as error:
        raise InputError(f"ONNX cannot express this network: {str(error).strip().splitlines()[0]}") from error
