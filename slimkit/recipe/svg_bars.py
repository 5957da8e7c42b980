"""Pairs of bars as inline SVG, one pair a layer, in the order of the network; see ``svg_charts``."""

from __future__ import annotations

import math
from html import escape
from typing import Optional, Sequence, Tuple

from slimkit.recipe.svg_charts import ticks

__all__ = ["paired_bars"]

#: Name, first value, second value.
Item = Tuple[str, Optional[float], Optional[float]]


def paired_bars(
    items: Sequence[Item],
    *,
    title: str,
    y_label: str,
    marked: Sequence[str] = (),
    most: float = 60.0,
    size: Tuple[int, int] = (1060, 240),
) -> str:
    """Returns pairs of bars with a common axis; the second of a pair stands before the first.

    Args:
        items: a pair each; None leaves a bar out.
        title: what it shows, read aloud by screen readers.
        y_label: of the values.
        marked: names of pairs with a dot under them.
        most: values above are cut there.
        size: width and height of the view box.
    """
    width, height = size
    left, right, top, bottom = 40, 8, 20, 26
    values = [min(v, most) for _, a, b in items for v in (a, b) if v is not None and math.isfinite(v)]
    low, high = min([0.0, *values]), max([1.0, *values])

    def sy(value: float) -> float:
        return top + (high - max(low, min(high, value))) / (high - low) * (height - top - bottom)

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title, quote=True)}">']
    for value in ticks(low, high, 5):
        y = sy(value)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 7}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts.append(f'<text class="tick" x="0" y="11">{escape(y_label)}</text>')
    step = (width - left - right) / max(1, len(items))
    bar = min(18.0, step * 0.76)
    for index, (name, first, second) in enumerate(items):
        x = left + (index + 0.5) * step
        tip = f"{name}: {_text(first)} alone, {_text(second)} with everything quantized"
        parts.append(f"<g><title>{escape(tip)}</title>")
        for css, height_of, part in (("bar", first, 1.0), ("bar-b", second, 0.5)):
            if height_of is not None and math.isfinite(height_of):
                a, b = sorted((sy(0.0), sy(height_of)))
                parts.append(
                    f'<rect class="{css}" x="{x - bar * part / 2:.1f}" width="{bar * part:.1f}" y="{a:.1f}" '
                    f'height="{max(0.5, b - a):.1f}"/>'
                )
        if name in marked:
            parts.append(f'<circle class="mark" cx="{x:.1f}" cy="{height - bottom + 9}" r="3.5"/>')
        parts.append("</g>")
    parts.append(f'<line class="axis" x1="{left}" x2="{width - right}" y1="{sy(0):.1f}" y2="{sy(0):.1f}"/>')
    label = "layers, in the order of the network"
    parts.append(
        f'<text class="tick" x="{(left + width) / 2:.0f}" y="{height - 2}" text-anchor="middle">{label}</text>'
    )
    return "".join([*parts, "</svg>"])


def _text(value: Optional[float]) -> str:
    return "nothing to compare" if value is None else f"{value:.1f}"
