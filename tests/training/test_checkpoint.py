import resource

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fieldmark.training.checkpoint import Checkpoints, is_sound


def state(value: float) -> dict:
    return {"model": {"w": torch.full((50, 50), value)}, "position": {"epoch": int(value)}}


def test_the_newest_few_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (0, 5, 12, 100):
        checkpoints.save(step, state(step))
    assert [path.name for path in checkpoints.paths()] == ["step-00000100.pt", "step-00000012.pt"]
    newest, damaged = checkpoints.newest()
    assert newest["position"]["epoch"] == 100 and damaged == []


@pytest.mark.parametrize(("keep", "while_training"), [(0, 2), (1, 2), (3, 3)])
def test_a_finished_run_keeps_what_it_was_asked_to_keep(tmp_path, keep, while_training):
    checkpoints = Checkpoints(tmp_path, keep)
    for step in range(5):
        checkpoints.save(step, state(step))
    assert len(checkpoints.paths()) == checkpoints.most == while_training
    checkpoints.drop()
    assert [path.name for path in checkpoints.paths()] == [f"step-{step:08d}.pt" for step in (4, 3, 2)[:keep]]


@given(st.floats(0, 1), st.integers(0, 2))
@example(0.970703125, 1)  # PyTorch's reader of archives refuses it, Python's does not
@settings(max_examples=60, deadline=None)
def test_a_damaged_checkpoint_is_passed_over(tmp_path_factory, where, kind):
    """Cut short, a flipped byte, or emptied, anywhere in the file: found, and the one before is used."""
    folder = tmp_path_factory.mktemp("checkpoints")
    checkpoints = Checkpoints(folder, keep=2)
    checkpoints.save(1, state(1))
    path = checkpoints.save(2, state(2))
    data = bytearray(path.read_bytes())
    index = min(int(where * len(data)), len(data) - 1)
    if kind == 0:
        data = data[:index]
    elif kind == 1:
        data[index] ^= 0xFF
    else:
        data = bytearray()
    path.write_bytes(data)
    newest, damaged = checkpoints.newest()
    if damaged:
        assert damaged == ["step-00000002.pt"] and newest["position"]["epoch"] == 1
    else:  # a byte that carries no meaning, such as padding
        assert torch.equal(newest["model"]["w"], state(2)["model"]["w"]) and newest["position"]["epoch"] == 2


def test_nothing_there(tmp_path):
    assert Checkpoints(tmp_path, 2).newest() == (None, [])
    (tmp_path / "step-00000001.pt").write_bytes(b"junk")
    assert not is_sound(tmp_path / "step-00000001.pt")
    assert Checkpoints(tmp_path, 2).newest() == (None, ["step-00000001.pt"])


def test_a_checkpoint_never_runs_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"position": Evil()}, tmp_path / "step-00000001.pt")
    with pytest.raises(Exception, match=r"weights_only|Unsupported"):
        Checkpoints(tmp_path, 2).newest()


def test_a_checkpoint_that_does_not_fit_is_an_error_of_the_disk(tmp_path):
    """A limit on the size of files fails like a full disk, in the middle of writing; PyTorch would call it a fault of its own."""
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save(1, state(1))
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, unlimited[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            checkpoints.save(2, state(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001.pt"]
    assert checkpoints.newest()[0]["position"]["epoch"] == 1
