import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from fieldmark.core.errors import InputError
from fieldmark.exports import executorch

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("here", [("1.5.1", "2.11.0+cpu"), ("1.2.0", "2.12.0"), ("1.20.0", "2.11.0")])
def test_those_that_do_not_fit_are_refused_with_what_to_do(here, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "executorch", ModuleType("executorch"))
    monkeypatch.setattr(executorch.metadata, "version", dict(zip(("executorch", "torch"), here, strict=True)).__getitem__)
    with pytest.raises(InputError) as refused:
        executorch.ExecuTorchExporter().require()
    message = str(refused.value)
    assert message.startswith("exporting to ExecuTorch needs ExecuTorch 1.2 with PyTorch 2.11, for which it was built; ")
    assert f"here is ExecuTorch {here[0]} with PyTorch {here[1]}" in message and "pip install 'fieldmark[executorch]'" in message
    with pytest.raises(InputError, match=r"a bundle for ExecuTorch, needs ExecuTorch 1\.2 with PyTorch 2\.11"):
        executorch.open_executorch(tmp_path / "model-1.pte", None, 1)


def test_without_it_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "executorch", None)
    with pytest.raises(InputError, match=r"exporting to ExecuTorch needs ExecuTorch: pip install 'fieldmark\[executorch\]'"):
        executorch.ExecuTorchExporter().require()


def test_the_extra_brings_those_that_fit():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {f"{name}=={release}.*" for name, release in executorch._FIT.items()} <= set(extras["executorch"])
