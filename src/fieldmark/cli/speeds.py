"""A benchmark as lines and a table."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType

from fieldmark.core.console import table
from fieldmark.speed.benchmark import Benchmark, Measured

_COLUMNS = ("", "computing ms", "JPEG to answer ms", "p99", "images/s", "memory MB", "start s", "size MB")


def as_text(found: Benchmark) -> Iterator[RenderableType]:
    yield table(None, _COLUMNS, [_row(each) for each in found.contenders if not each.problem])
    yield from (f"{each.name}: not measured: {each.problem}" for each in found.contenders if each.problem)
    multiplies = "with" if found.machine["vnni"] else "without"
    beside = f", next to {found.alongside} more of each" if found.alongside else ""
    yield f"medians, {found.threads} thread{'s' * (found.threads > 1)} on a processor {multiplies} VNNI{beside}; p99 of JPEG to answer"
    yield "images/s: computing alone, at the batch size in brackets; memory: once it has answered; size: the files that answering needs"


def _row(each: Measured) -> tuple[str, ...]:
    assert each.model is not None and each.answer is not None and each.best is not None
    batch, rate = each.best
    return (
        each.name,
        f"{each.model.p50:.2f}",
        f"{each.answer.p50:.2f}",
        f"{each.answer.p99:.2f}",
        f"{rate:,.0f} ({batch})",
        f"{each.memory / 1e6:,.0f}",
        f"{each.start:.1f}",
        f"{each.size / 1e6:.1f}",
    )
