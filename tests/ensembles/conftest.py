import pytest

from runs import train


@pytest.fixture(scope="session")
def members(birds, tiny, tmp_path_factory):
    """Paths of three runs on one split that differ in their seeds, and the last in the size of its images too."""
    root = tmp_path_factory.mktemp("members")
    changes = {"a": ["train.seed=1"], "b": ["train.seed=2", "train.epochs=3"], "c": ["train.seed=3", "data.size=48"]}
    return [train(birds, *tiny(*changed), out=root / name).path for name, changed in changes.items()]


@pytest.fixture(scope="session")
def folds(birds, tiny, tmp_path_factory):
    """Paths of six runs: the three folds of two recipes."""
    root = tmp_path_factory.mktemp("folds")
    paths = []
    for rate in ("0.02", "0.01"):
        for fold in range(3):
            settings = tiny("data.folds=3", f"data.fold={fold}", f"optim.lr={rate}")
            paths.append(train(birds, *settings, out=root / f"{rate}-{fold}").path)
    return paths
