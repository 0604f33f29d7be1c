"""What all tests share: a cache of their own, the real data where they are present, small drawn birds."""

import shutil
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("fieldmark", deadline=None)
settings.load_profile("fieldmark")

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session", autouse=True)
def _own_environment(tmp_path_factory):
    """A cache of their own, no network, and no width of a terminal, which xdist gives its workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("COLUMNS", raising=False)
        patch.setenv("FIELDMARK_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="session")
def cars() -> Path:
    """The real cars in class folders, train and test."""
    if not (SHARED / "data" / "cars").is_dir():
        pytest.skip("the real cars are not on this machine (shared/data/cars)")
    return SHARED / "data" / "cars"


@pytest.fixture(scope="session")
def mobilenet_weights() -> Path:
    path = SHARED / "weights" / "mobilenetv2_100.imagenet1k.safetensors"
    if not path.is_file():
        pytest.skip("the ImageNet weights are not on this machine (shared/weights)")
    return path


@pytest.fixture(scope="session")
def birds(tmp_path_factory) -> Path:
    """Three drawn species in train and test, 32 pixels wide: 48 and 12 images."""
    return three_birds(tmp_path_factory.mktemp("data") / "birds3")


def three_birds(root: Path) -> Path:
    from fieldmark.datasets.birds.folder import TABLE, write_birds

    write_birds(root, species=3, per_class=20, size=32, seed=1)
    for file in root.glob("val/*/*.png"):
        file.rename(root / "train" / file.parent.name / file.name)
    shutil.rmtree(root / "val")
    shutil.rmtree(root / "unseen")
    (root / TABLE).unlink()
    return root


@pytest.fixture
def few_built_in_birds(tmp_path, monkeypatch) -> Path:
    """A cache in which the built-in set is there already, and small: 3 species, 42, 6 and 12 images of 96 pixels."""
    from fieldmark.datasets.birds.folder import VERSION, draw_folder

    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "birds").mkdir(parents=True)
    draw_folder(tmp_path / "cache" / "birds" / VERSION, species=3, per_class=20)
    return tmp_path / "cache" / "birds" / VERSION


TINY = (
    "model.name=test_efficientnet",
    "model.weights=none",
    "data.size=32",
    "train.epochs=2",
    "train.batch=8",
    "train.log_every=2",
    "train.keep_checkpoints=2",
    "train.precision=float32",
    "train.memory_format=contiguous",
    "train.threads=1",
    "schedule.warmup_epochs=0.5",
    "optim.lr=0.02",
    "evaluate.resamples=100",
)


@pytest.fixture(scope="session")
def tiny():
    """Recipe settings under which a run takes about a second; those given replace their like."""

    def settings_with(*changed: str) -> list[str]:
        given = {setting.partition("=")[0] for setting in changed}
        return [*(setting for setting in TINY if setting.partition("=")[0] not in given), *changed]

    return settings_with


@pytest.fixture(scope="session")
def finished_run(birds, tmp_path_factory):
    """A finished run on the drawn birds."""
    import fieldmark

    return fieldmark.train(birds, *TINY, out=tmp_path_factory.mktemp("runs") / "finished", quiet=True)


@pytest.fixture
def threads_started():
    """Gives the threads that a call starts beside its own, where PyTorch may use four (as /proc of Linux has them)."""
    import os
    from concurrent.futures import ThreadPoolExecutor

    import torch

    def count(call) -> set[str]:
        def work() -> set[str]:
            before = set(os.listdir("/proc/self/task"))
            call()
            return set(os.listdir("/proc/self/task")) - before

        threads = torch.get_num_threads()
        torch.set_num_threads(4)
        try:
            with ThreadPoolExecutor(1) as pool:
                return pool.submit(work).result()
        finally:
            torch.set_num_threads(threads)

    return count
