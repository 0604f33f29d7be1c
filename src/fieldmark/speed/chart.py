"""Latency of all contenders as a chart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fieldmark.reports.charts.chart import Chart
from fieldmark.reports.charts.drawing import LINES, plain_axes, plain_text
from fieldmark.speed.benchmark import Benchmark

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def latency_chart(found: Benchmark) -> Chart:
    """A bar for half of the images, from JPEG to answer, with a line to the slowest in a hundred; the part of computing is darker."""
    measured = [each for each in found.contenders if each.answer is not None and each.model is not None]

    def draw(axes: Axes) -> None:
        for place, each in enumerate(measured):
            assert each.answer is not None and each.model is not None
            axes.barh(place, each.answer.p50, color=LINES[4], height=0.6, label="decoding and deciding" if place == 0 else None)
            axes.barh(place, each.model.p50, color=LINES[0], height=0.6, label="computing" if place == 0 else None)
            axes.plot(
                [each.answer.p50, each.answer.p99],
                [place, place],
                color="#000000",
                linewidth=1,
                label="to the slowest in 100" if place == 0 else None,
            )
            axes.annotate(
                f"{each.answer.p50:.1f}, to {each.answer.p99:.1f}",
                (each.answer.p99, place),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize="small",
            )
        axes.set_yticks(range(len(measured)), [each.name for each in measured])
        plain_text(axes.get_yticklabels())
        axes.invert_yaxis()
        axes.set_xlabel("milliseconds for one image, from JPEG to answer")
        axes.margins(x=0.25)
        plain_axes(axes)
        axes.set_axisbelow(True)
        axes.legend(frameon=False, fontsize="small", loc="lower right", bbox_to_anchor=(1, 1), ncols=3)

    beside = f", next to {found.alongside} cop{'ies' if found.alongside > 1 else 'y'}" if found.alongside else ""
    title = f"Latency, {found.threads} thread{'s' * (found.threads > 1)}{beside}"
    described = "; ".join(f"{each.name} {each.answer.p50:.1f} ms" for each in measured if each.answer is not None)
    return Chart(title, f"{title}: {described}", 7.0, 1.5 + 0.42 * max(len(measured), 2), draw)
