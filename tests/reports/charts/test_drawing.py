from __future__ import annotations

from fieldmark.reports.charts.drawing import line_style


def test_sixteen_lines_can_be_told_apart() -> None:
    styles = [line_style(number) for number in range(16)]
    assert len({(style["color"], style["linestyle"]) for style in styles}) == 16
