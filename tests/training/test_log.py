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
    assert log._epoch_text(row, 5, True, 125.0).endswith("99 img/s  2 min left")
    assert log._epoch_text(row | {"epoch": 5}, 5, True, 0.0).endswith("99 img/s")


@pytest.mark.parametrize(("left", "said"), [(59.2, "59 s"), (3570.0, "60 min"), (9000.0, "2.5 h"), (356_400.0, "99.0 h")])
def test_the_line_of_an_epoch_fits_80_columns(left, said):
    row = {"epoch": 199, "train_loss": 1.2345, "train_top1": 100.0, "val_nll": 2.3456, "val_top1": 100.0, "images_per_second": 1234.5}
    text = log._epoch_text(row, 200, True, left)
    assert text == f"epoch 199/200  train 1.234 100.0 %  val 2.346 100.0 % *  1234 img/s  {said} left"
    assert len(text) <= 80 and len(log._EPOCHS_ABOUT) <= 80
