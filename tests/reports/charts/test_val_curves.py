from __future__ import annotations

from fieldmark.reports.charts.val_curves import val_curves_chart


def test_curves_of_val_leave_out_what_was_not_measured() -> None:
    rows = [{"phase": "fit", "epoch": epoch, "val_top1": value} for epoch, value in ((1, 20.0), (2, None), (3, 60.0), (4, 55.0))]
    refit = [{"phase": "refit", "epoch": 1, "val_top1": 99.0}]
    chart = val_curves_chart({"none": [], "a $x$": [*rows, *refit]})
    assert chart is not None and "a $x$ from 20.0 to 55.0, 60.0 in epoch 3 at the highest" in chart.svg
    assert "a $x$: 60.0 %, epoch 3" in chart.svg and "99.0" not in chart.svg
    assert "var(--val)" in chart.svg and "var(--train)" not in chart.svg, "the second run has the second colour"
    assert val_curves_chart({"none": []}) is None
