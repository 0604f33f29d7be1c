"""One-file HTML pages from the templates of the package; names in them are text, never code."""

from __future__ import annotations

import base64
import hashlib
import io
import math
from collections.abc import Mapping
from typing import Any

from PIL import Image

from fieldmark.core.summary import MeasuredInterval, SplitMetrics
from fieldmark.scoring.metrics import Metric


def render(template: str, content: Mapping[str, Any]) -> str:
    """The page of a template, named by its path within the package. The look that all pages share is `reports/style.css`.

    Beside Jinja's own there are the filters `count` (1,234), `fixed` (a number of decimals, a dash for None), `probability`, `accuracy` and
    `promise` (in per cent) and `sha256` (as a content security policy names a script).
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("fieldmark", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "count": count,
        "fixed": fixed,
        "probability": probability,
        "accuracy": accuracy,
        "promise": promise,
        "sha256": _sha256,
    }
    return environment.get_template(template).render(content)


def count(number: int) -> str:
    return f"{number:,}"


def fixed(value: float | None, digits: int = 1) -> str:
    """A dash stands for what is not defined or not finite."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def with_interval(measured: MeasuredInterval, digits: int = 1, unit: str = "") -> tuple[str, str]:
    """A value and its interval, written out; a dash, and nothing, if the value is not a finite number."""
    value, low, high = measured
    if value is None:
        return "–", ""
    return f"{fixed(value, digits)}{unit}", f"{fixed(low, digits)}–{fixed(high, digits)}"


def stated(metric: Metric, figures: SplitMetrics, state: str = "") -> tuple[str, str]:
    """A metric of a split, corrected for what few images bias, and its interval, written out; `state` is "" or "_calibrated"."""
    return with_interval(figures.estimate(f"{metric.key}{state}"), metric.digits, unit_of(metric))


def as_computed(metric: Metric, figures: SplitMetrics, state: str = "") -> str:
    """The value that `stated` corrects, written out; empty if it corrects nothing."""
    key = f"{metric.key}{state}"
    if not figures.has(f"{key}_corrected"):
        return ""
    return f"{with_interval(figures.interval(key), metric.digits, unit_of(metric))[0]} as computed"


def unit_of(metric: Metric) -> str:
    """As it is written after a value."""
    return "\u00a0%" if metric.unit == "%" else ""


def accuracy(value: float) -> str:
    """In per cent, with as many decimals as it takes not to say that all are right where some are not."""
    digits = 1
    while value < 100 and round(value, digits) == 100:
        digits += 1
    return f"{value:.{digits}f}"


def promise(share: float) -> str:
    """A share in [0, 1] in per cent, as it was asked for."""
    return f"{100 * share:.6g}"


def probability(value: float) -> str:
    """A probability in [0, 1] in per cent, never rounded to certainty."""
    if math.isnan(value):
        return "–"
    text = ">99.9" if value > 0.9995 else "<0.1" if value < 0.0005 else f"{100 * value:.1f}"
    return f"{text}\u00a0%"


def jpeg_uri(image: Image.Image, quality: int = 85) -> str:
    """An image as a JPEG within the page."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return data_uri(stream.getvalue(), "jpeg")


def data_uri(data: bytes, kind: str) -> str:
    """The bytes of an image/`kind` within the page."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(str(text).encode()).digest()).decode()
