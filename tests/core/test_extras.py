from __future__ import annotations

import sys

import pytest

from fieldmark.core.errors import InputError
from fieldmark.core.extras import how_to_install, needed_for


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [
        ("torch", "PyTorch", "train"),
        ("timm", "PyTorch", "train"),
        ("torchvision", "PyTorch", "train"),
        ("optuna", "Optuna", "search"),
        ("uvicorn", "FastAPI and uvicorn", "serve"),
        ("ray", "Ray", "ray"),
        ("tensorboard", "TensorBoard", "tensorboard"),
        ("pillow_heif", "pillow-heif", "heif"),
    ],
)
def test_a_missing_library_is_named_in_one_line_with_the_command_that_installs_it(
    module: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError) as raised, needed_for("a test"):
        __import__(module)
    assert str(raised.value) == f"a test needs {library}: pip install 'fieldmark[{extra}]'"
    assert str(raised.value) == f"a test needs {how_to_install(extra)}"


def test_other_missing_modules_are_not_hidden() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), needed_for("a test"):
        import no_such_module  # noqa: F401
    with pytest.raises(ImportError, match="no_such_name"), needed_for("a test"):
        from fieldmark.core.extras import no_such_name  # noqa: F401
