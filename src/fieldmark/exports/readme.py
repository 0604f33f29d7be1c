"""README.md of a bundle, and for ONNX the programs that use it from JavaScript and C++."""

from __future__ import annotations

import re
from datetime import datetime
from importlib import resources
from pathlib import Path

from fieldmark.bundles.bundle import ENROLMENT, NEIGHBOURS, REJECTION
from fieldmark.bundles.parity import Agreement, Parity
from fieldmark.bundles.record import BundleRecord
from fieldmark.exports.parity import proof

FILE = "README.md"
PROGRAMS = ("predict.mjs", "predict.cpp")
_TITLES = {"onnx": "ONNX", "openvino": "OpenVINO", "litert": "LiteRT (TensorFlow Lite)", "executorch": "ExecuTorch", "torch": "PyTorch"}
_EXTRAS = {"torch": "train"}
_RESIZING = {
    "squash": "Resize the whole image, its proportions ignored",
    "shorter-side": "Resize the middle square, whose side is the shorter side of the image",
    "letterbox": "Resize the image whole so that its longer side fits, in the middle of a grey square (128)",
}
_NAMED = 5
_MARKS = re.compile(r"([\\`*_\[\]<>#|])")


def write_readme(folder: Path, record: BundleRecord, parity: Parity) -> None:
    """Into the folder of a bundle; the files of `record` are those of its graph."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("fieldmark", "exports")
    environment = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    environment.filters |= {"count": "{:,}".format, "percent": _percent, "text": _text, "equal": _equal}
    environment.filters |= {"largest": _largest, "day": _day}
    names, network = record.class_names, record.network
    some = [_text(name) for name in names[:_NAMED]]
    members = f"{network.members} networks ({_text(network.name)})" if network.members > 1 else f"The network is {_text(network.name)}"
    page = environment.get_template("bundle.md.j2").render(
        record=record,
        parity=parity,
        proof=proof(parity.loss, parity.limits),
        decisions=record.decisions,
        network=members,
        has_arrays=(folder / REJECTION).is_file(),
        has_enrolment=(folder / ENROLMENT).is_file(),
        has_neighbours=(folder / NEIGHBOURS).is_file(),
        title=_TITLES[record.format],
        extra=_EXTRAS.get(record.format, record.format),
        resizing=_RESIZING[record.preprocess.resize],
        weights="; ".join(_text(note.removeprefix("weights: ")) for note in record.provenance.weights),
        some_classes=", ".join(some) + (f" and {len(names) - len(some):,} more" if len(names) > len(some) else ""),
    )
    (folder / FILE).write_text(page, encoding="utf-8")
    if record.format == "onnx":
        for program in PROGRAMS:
            (folder / program).write_bytes(resources.files("fieldmark").joinpath("exports", program).read_bytes())


def _text(value: str) -> str:
    """As Markdown shows it letter by letter, in a line."""
    return _MARKS.sub(r"\\\1", " ".join(value.split()))


def _percent(share: float) -> str:
    return f"{100 * share:g} %"


def _equal(agreement: Agreement) -> str:
    return f"{agreement.equal:,} of {agreement.n:,}"


def _largest(agreement: Agreement) -> str:
    return "not a number" if agreement.largest_difference is None else f"{agreement.largest_difference:.1g}"


def _day(when: datetime) -> str:
    return f"{when.day} {when:%B %Y}"
