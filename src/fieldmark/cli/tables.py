"""What commands find, as rows and tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

from rich.table import Table

from fieldmark.core.console import table

if TYPE_CHECKING:
    from fieldmark.core.recipe.fields import RecipeField
    from fieldmark.datasets.pixel_cache import CacheContents
    from fieldmark.scoring.decisions import Decisions


def decisions_table(decisions: Decisions) -> Table:
    """The rejection scores, the chosen one marked with a star."""
    rejection = decisions.record.rejection
    rows = [
        (
            name + (" *" if name == rejection.score else ""),
            "all" if each.threshold is None else f"{each.threshold:.4g}",
            "" if each.held_out_auroc is None else f"{100 * each.held_out_auroc:.1f}",
            "" if each.auroc is None else f"{100 * each.auroc:.1f}",
        )
        for name, each in rejection.scores.items()
    ]
    columns = ("score", "threshold", "AUROC %, classes of val held out", "AUROC %, given unknown images")
    return table(None, columns[: 4 if any(row[3] for row in rows) else 3], [row[: 4 if any(row[3] for row in rows) else 3] for row in rows])


def cache_rows(contents: CacheContents) -> list[tuple[Any, ...]]:
    """Key, images, side in pixels, MiB and when it was last used, for each entry."""
    return [
        (each.key, each.images, each.side, f"{each.bytes / 2**20:,.0f}", f"{datetime.fromtimestamp(each.last_used):%Y-%m-%d %H:%M}")
        for each in contents.entries
    ]


def fields_rows(fields: Sequence[RecipeField]) -> list[tuple[str, ...]]:
    """Key, type, default and meaning of each field."""
    return [
        (
            each.key if each.variant is None else f"{each.key} ({each.variant})",
            each.type,
            as_yaml(each.default),
            f"{each.meaning} ({each.unit})" if each.unit else each.meaning,
        )
        for each in fields
    ]


def fields_as_json(fields: Sequence[RecipeField]) -> list[dict[str, Any]]:
    return [{**asdict(each), "default": as_yaml(each.default)} for each in fields]


def as_yaml(value: Any) -> str:
    """The default of a field as one would write it in a recipe."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return f"[{', '.join(as_yaml(item) for item in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)
