import pytest
from servers import Server

import fieldmark


@pytest.fixture(scope="session")
def bundle(finished_run, tmp_path_factory):
    """The finished run in ONNX, for 1 and for 4 images, with its training images."""
    out = tmp_path_factory.mktemp("bundles") / "birds"
    return fieldmark.export(finished_run, out, format="onnx", batch=(1, 4), include=["neighbours"], quiet=True)


@pytest.fixture(scope="session")
def server(bundle):
    """A server that tests share: none of them changes it."""
    with Server(bundle.path) as started:
        yield started


@pytest.fixture(scope="session")
def images(birds):
    return sorted((birds / "test").rglob("*.png"))
