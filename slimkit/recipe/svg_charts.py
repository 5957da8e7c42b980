"""Charts as inline SVG: no raster, no script, the page's CSS colours them, titles for screen readers.

Classes used: ``axis``, ``grid``, ``tick``, ``line-a``, ``line-b``, ``dot``, ``bar``, ``before``, ``after``.
"""

from __future__ import annotations

import math
from html import escape
from typing import Any, List, Optional, Sequence, Tuple

__all__ = ["histogram", "line_chart", "ticks", "training_charts"]

Points = Sequence[Tuple[float, float]]


def ticks(low: float, high: float, count: int = 5) -> List[float]:
    """Returns about ``count`` round numbers from ``low`` to ``high``."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _number(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:.0e}".replace("e-0", "e-") if abs(value) < 1e-3 else f"{value:,.4g}"


def _bounds(values: Sequence[float], pad: float = 0.06) -> Tuple[float, float]:
    low, high = min(values), max(values)
    if high <= low:
        return low - max(abs(low) * 0.05, 1e-9), high + max(abs(high) * 0.05, 1e-9)
    return low - (high - low) * pad, high + (high - low) * pad


def _smoothed(points: Points) -> List[Tuple[float, float]]:
    """Returns the running mean over a window of a thirtieth of the points, centred on each."""
    half = max(1, len(points) // 60)
    windows = [points[max(0, i - half) : i + half + 1] for i in range(len(points))]
    return [(x, sum(y for _, y in window) / len(window)) for (x, _), window in zip(points, windows)]


def line_chart(
    points: Points,
    *,
    title: str,
    x_label: str,
    css: str = "line-a",
    reference: Optional[Tuple[float, str]] = None,
    dots: bool = False,
    percent: bool = False,
    smooth: bool = False,
    x_range: Optional[Tuple[float, float]] = None,
    size: Tuple[int, int] = (340, 200),
) -> str:
    """Returns a line chart with axes.

    Args:
        points: (x, y) pairs in the order of x.
        title: what it shows, read aloud by screen readers.
        x_label: label of the x axis.
        css: class of the line.
        reference: a horizontal dashed line and its label.
        dots: mark each point.
        percent: y is a fraction, shown as a percentage.
        smooth: draw the points faintly and their running mean over them.
        x_range: ends of the x axis; None takes the points'.
        size: width and height of the view box.
    """
    width, height = size
    left, right, top, bottom = 46, 8, 10, 36
    finite = [(x, y) for x, y in points if math.isfinite(y)]
    if not finite:
        return f'<p class="muted">{escape(title)}: nothing to show.</p>'
    low, high = _bounds([y for _, y in finite] + ([reference[0]] if reference else []))
    x_low, x_high = x_range or (finite[0][0], finite[-1][0])
    if x_high <= x_low:
        x_low, x_high = x_low - 1, x_high + 1

    def sx(x: float) -> float:
        return left + (x - x_low) / (x_high - x_low) * (width - left - right)

    def sy(y: float) -> float:
        return height - bottom - (y - low) / (high - low) * (height - top - bottom)

    parts = [_open(title, width, height)]
    for value in ticks(low, high, 4):
        text = f"{value * 100:.4g}%" if percent else _number(value)
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{sy(value):.1f}" y2="{sy(value):.1f}"/>')
        parts.append(f'<text class="tick" x="{left - 7}" y="{sy(value) + 4:.1f}" text-anchor="end">{text}</text>')
    for value in ticks(x_low, x_high, 5):
        parts.append(
            f'<text class="tick" x="{sx(value):.1f}" y="{height - bottom + 16}" text-anchor="middle">'
            f"{_number(value)}</text>"
        )
    parts.append(
        f'<text class="tick" x="{(left + width - right) / 2:.0f}" y="{height - 3}" text-anchor="middle">'
        f"{escape(x_label)}</text>"
    )
    if reference:
        y = sy(reference[0])
        parts.append(f'<line class="reference" x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        beside = y + 14 if y < top + 16 else y - 5
        parts.append(f'<text class="tick" x="{left + 4}" y="{beside:.1f}">{escape(reference[1])}</text>')
    lines = [(f"{css} faint", finite), (css, _smoothed(finite))] if smooth else [(css, finite)]
    for name, line in lines:
        path = " ".join(f"{sx(x):.1f},{sy(y):.1f}" for x, y in line)
        parts.append(f'<polyline class="{name}" points="{path}"/>')
    if dots:
        for x, y in finite:
            tip = f"{_number(x)}: {y * 100:.2f}%" if percent else f"{_number(x)}: {_number(y)}"
            parts.append(f'<circle class="dot" cx="{sx(x):.1f}" cy="{sy(y):.1f}" r="3.5"><title>{tip}</title></circle>')
    return "".join([*parts, "</svg>"])


def histogram(
    counts: Sequence[int],
    low: float,
    high: float,
    *,
    title: str,
    before: Optional[float] = None,
    after: Optional[float] = None,
    ranges: Sequence[Tuple[str, float, float]] = (),
    size: Tuple[int, int] = (260, 110),
) -> str:
    """Returns a small histogram on a logarithmic count axis with clipping thresholds.

    Args:
        counts: values in each of the equal bins from ``low`` to ``high``.
        low, high: outer edges.
        title: what it shows.
        before, after: symmetric thresholds; lines at plus and, where there are values, at minus.
        ranges: (class, low, high) of further ranges; a line at the low end only where there are values below zero.
        size: width and height of the view box.
    """
    width, height = size
    left, right, top, bottom = 4, 4, 6, 18
    symmetric = [(css, -t, t) for css, t in (("before", before), ("after", after)) if t is not None]
    drawn = [(css, a, b) for css, a, b in [*symmetric, *ranges] if math.isfinite(a) and math.isfinite(b)]
    x_low = min([low, *(a for _, a, _ in drawn)]) if low < 0 else 0.0
    x_high = max([high, *(b for _, _, b in drawn)])
    if x_high <= x_low:
        x_high = x_low + 1.0
    pad = (x_high - x_low) * 0.02
    x_low, x_high = x_low - pad, x_high + pad
    peak = math.log1p(max([1, *counts]))

    def sx(x: float) -> float:
        return left + (x - x_low) / (x_high - x_low) * (width - left - right)

    base = height - bottom
    parts = [_open(title, width, height)]
    step = (high - low) / max(1, len(counts))
    outline = [f"M{sx(low):.1f},{base}"]
    for index, count in enumerate(counts):
        y = base - math.log1p(count) / peak * (base - top)
        outline.append(f"V{y:.1f}H{sx(low + (index + 1) * step):.1f}")
    parts.append(f'<path class="bar" d="{"".join(outline)}V{base}Z"/>')
    parts.append(f'<line class="axis" x1="{left}" x2="{width - right}" y1="{base}" y2="{base}"/>')
    for css, a, b in drawn:
        for value in (a, b) if low < 0 else (b,):
            x = sx(value)
            parts.append(f'<line class="{css}" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 4}" y2="{base}"/>')
    for value in ticks(x_low, x_high, 4):
        anchor = "start" if sx(value) < left + 12 else "end" if sx(value) > width - right - 12 else "middle"
        x = sx(value)
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 4}" text-anchor="{anchor}">{_number(value)}</text>')
    return "".join([*parts, "</svg>"])


def _open(title: str, width: int, height: int) -> str:
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(title, quote=True)}">'


def training_charts(
    curves: Any, accuracy: Points, heading: str, title: str, reference: Any
) -> List[Tuple[str, str]]:
    """The charts of a training: its loss, a figure of merit, its learning rate.

    Args:
        curves: ``steps``, ``loss`` and ``rate`` of a report.
        accuracy: (step, fraction) of each evaluation.
        heading: above the chart of them.
        title: of that chart.
        reference: see ``line_chart``.

    Returns:
        Heading and SVG of each.
    """
    ends = (0.0, float(curves.steps[-1]))
    loss, rate = list(zip(curves.steps, curves.loss)), list(zip(curves.steps, curves.rate))
    return [
        ("Training loss", line_chart(
            loss, title="Training loss over steps", x_label="step", smooth=len(loss) > 60, x_range=ends)),
        (heading, line_chart(
            accuracy, title=title, x_label="step", x_range=ends, dots=True, percent=True, reference=reference)),
        ("Learning rate", line_chart(
            rate, title="Learning rate over steps", x_label="step", css="line-b", x_range=ends)),
    ]  # fmt: skip
