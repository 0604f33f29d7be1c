import pytest

from fieldmark.core.console import Console
from fieldmark.core.run_folder import RunFolder
from fieldmark.training import log
from fieldmark.training.position import Position


def test_the_time_left_is_that_of_all_epochs_and_counts_val(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr(log.time, "monotonic", lambda: now)
    written = log.TrainingLog(RunFolder(tmp_path), Console(quiet=True), 5, 10, 10, False)
    resumed_at = Position(epoch=1, step=5)
    with written.epoch(resumed_at, 0):
        assert written._left(resumed_at) is None
        now += 10
        assert written._left(Position(epoch=2, step=5)) == pytest.approx(25)
    assert written._left(Position(epoch=4, step=10)) == 0


def test_the_line_of_an_epoch_ends_with_what_is_left():
    row = {"epoch": 2, "train_loss": 1.0, "train_top1": 50.0, "lr": 0.1, "images_per_second": 99.0}
    assert log._epoch_text(row, 5, True, 125.0).endswith("99 images/s  2 min 5 s left")
    assert log._epoch_text(row | {"epoch": 5}, 5, True, 0.0).endswith("99 images/s")
