import pytest

import fieldmark


@pytest.fixture(scope="session")
def torch_bundle(finished_run, tmp_path_factory):
    """The finished run as safetensors."""
    return fieldmark.export(finished_run, tmp_path_factory.mktemp("bundles") / "torch", format="torch", quiet=True)
