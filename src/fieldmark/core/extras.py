"""Libraries that only an extra of the package installs, and what to say if one is missing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from fieldmark.core.errors import InputError

Extra = Literal["executorch", "export", "heif", "litert", "onnx", "openvino", "ray", "search", "serve", "tensorboard", "train"]
_LIBRARIES: dict[Extra, tuple[str, tuple[str, ...]]] = {
    "executorch": ("ExecuTorch", ("executorch",)),
    "export": ("the exporters", ("ai_edge_quantizer", "litert_torch", "nncf", "onnx", "onnxscript")),
    "heif": ("pillow-heif", ("pillow_heif",)),
    "litert": ("LiteRT", ("ai_edge_litert",)),
    "onnx": ("ONNX Runtime", ("onnxruntime",)),
    "openvino": ("OpenVINO", ("openvino",)),
    "ray": ("Ray", ("ray",)),
    "search": ("Optuna", ("optuna",)),
    "serve": ("FastAPI and uvicorn", ("fastapi", "prometheus_client", "python_multipart", "starlette", "uvicorn")),
    "tensorboard": ("TensorBoard", ("tensorboard",)),
    "train": ("PyTorch", ("torch", "torchvision", "timm")),
}
"""By extra, what it is called and the modules that it brings."""


def how_to_install(extra: Extra) -> str:
    """The end of a sentence about what needs it: "PyTorch: pip install 'fieldmark[train]'"."""
    return f"{_LIBRARIES[extra][0]}: pip install 'fieldmark[{extra}]'"


@contextmanager
def needed_for(what: str) -> Iterator[None]:
    """Raise InputError, with the command that installs it, if an import in the block lacks a library of an extra."""
    try:
        yield
    except ImportError as error:
        missing = next((extra for extra, (_, modules) in _LIBRARIES.items() if error.name in modules), None)
        if missing is None:
            raise
        raise InputError(f"{what} needs {how_to_install(missing)}") from None
