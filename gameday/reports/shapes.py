"""Has what plot.py and svg.py share: an element of SVG, a coordinate, the end of a scale."""

from __future__ import annotations

import math
from collections.abc import Mapping

from markupsafe import Markup

__all__ = ["element", "nice", "short"]


def element(tag: str, attributes: Mapping[str, str | float], body: Markup | None = None) -> Markup:
    """Return one element. class_ is written class, text_anchor text-anchor."""
    given = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), short(v) if isinstance(v, float) else v)
        for name, v in attributes.items()
    )
    return Markup("<{}{}/>" if body is None else "<{0}{1}>{2}</{0}>").format(tag, given, body)


def short(given: float) -> str:
    """Format with one decimal, without trailing zeros, because half of the page is coordinates."""
    return f"{given:.1f}".removesuffix(".0")


def nice(seconds: float) -> float:
    """Return the least round figure that is not below."""
    power = 10.0 ** math.floor(math.log10(max(seconds, 0.1)))
    return next(factor * power for factor in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if factor * power >= seconds - 1e-9)
