"""What a bundle is expected to answer for its example images, as in `examples/expected.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fieldmark.bundles.bundle import Bundle
from fieldmark.core.files import write_json

FOLDER, EXPECTED = "examples", "expected.json"
_NAMED = 5


def write_expected(bundle: Bundle, images: list[Path]) -> None:
    """Write what it answers for them, by the name of the file."""
    write_json(bundle.path / FOLDER / EXPECTED, {image.name: _expected(bundle, image) for image in images})


def _expected(bundle: Bundle, image: Path) -> dict[str, Any]:
    looked, outputs = bundle.answerer.networks.one(image)
    assert outputs is not None, looked.problem
    answer = bundle.answerer.answer(image, top=_NAMED)
    return {
        "logits": [round(float(each), 6) for each in outputs[0][0]],
        "classes": list(answer.classes),
        "probabilities": [round(float(each), 6) for each in answer.probabilities],
        "unknown": answer.unknown,
        "among": list(answer.among),
        "coarser": dict(answer.coarser),
    }
