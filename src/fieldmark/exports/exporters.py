"""The exporter of each format; what it needs is imported when it is asked for."""

from __future__ import annotations

from fieldmark.bundles.record import FORMATS, Format
from fieldmark.core.errors import InputError
from fieldmark.exports.exporter import Exporter


def exporter_of(name: str) -> Exporter:
    """Raises InputError for a format that does not exist."""
    found: Format | None = next((each for each in FORMATS if each == name), None)
    if found is None:
        raise InputError(f"there is no format {name!r}", hint=f"The formats are {', '.join(FORMATS)}.")
    if found == "onnx":
        from fieldmark.exports.onnx import OnnxExporter

        return OnnxExporter()
    if found == "openvino":
        from fieldmark.exports.openvino import OpenVinoExporter

        return OpenVinoExporter()
    if found == "litert":
        from fieldmark.exports.litert import LiteRtExporter

        return LiteRtExporter()
    if found == "executorch":
        from fieldmark.exports.executorch import ExecuTorchExporter

        return ExecuTorchExporter()
    from fieldmark.exports.torch_graph import TorchExporter

    return TorchExporter()
