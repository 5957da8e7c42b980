"""A picture of the curves: a panel for each parameter, with the loss line and the ratio chosen by it."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any, Mapping, Optional, Tuple, Union

from slimkit.errors import ConfigError
from slimkit.files import atomic_write

__all__ = ["plot_sensitivities"]

_FORMATS = (".svg", ".png")
_CURVE, _LINE, _CHOSEN, _QUIET = "#1f5fa8", "#c2410c", "#15803d", "#6b7280"
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "slimkit",
    "font.family": "sans-serif",
    "font.size": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#9ca3af",
    "axes.linewidth": 0.6,
}
#: Up to so many panels there are five in a row, then eight.
_FEW = 25
_NAME = 22  # characters of a title


def plot_sensitivities(
    sensitivities: Mapping[str, Mapping[float, float]],
    line: Optional[float] = None,
    ratios: Optional[Mapping[str, float]] = None,
    path: Union[str, Path, None] = None,
    title: str = "",
) -> str:
    """Draws the curves, all on one scale, in the order of the sensitivities.

    Args:
        sensitivities: parameter -> ratio -> loss, a fraction of the baseline.
        line: the loss at which ratios were chosen; None: none is drawn.
        ratios: parameter -> the ratio chosen.
        path: also write it there, as ``.svg`` or ``.png``.
        title: above it.

    Returns:
        The picture as SVG.

    Raises:
        ConfigError: there is no point, or the path has another suffix.
    """
    import matplotlib
    from matplotlib.figure import Figure

    drawn = {name: points for name, points in sensitivities.items() if points}
    if not drawn:
        raise ConfigError("There are no sensitivities to draw; measure some first.")
    suffix = Path(path).suffix.lower() if path is not None else ".svg"
    if suffix not in _FORMATS:
        raise ConfigError(f"{path} ends in {suffix or 'nothing'}; a plot is written as {' or '.join(_FORMATS)}.")
    columns = min(len(drawn), 5 if len(drawn) <= _FEW else 8)
    rows = -(-len(drawn) // columns)
    with matplotlib.rc_context(_STYLE):
        width, height = max(columns * 1.6, 4.0) + 0.7, rows * 1.35 + 0.8
        figure = Figure(figsize=(width, height))
        axes = figure.subplots(rows, columns, squeeze=False).ravel()  # shared axes cost the square of their number
        figure.subplots_adjust(0.65 / width, 0.45 / height, 1 - 0.1 / width, 1 - 0.5 / height, 0.12, 0.3)
        scale = _scale(drawn, line)
        for panel, (name, points) in zip(axes, drawn.items()):
            _panel(panel, name, points, scale, line, (ratios or {}).get(name))
        for index, panel in enumerate(axes):
            panel.set_visible(index < len(drawn))
            panel.tick_params(labelleft=index % columns == 0, labelbottom=index + columns >= len(drawn))
        figure.supxlabel("filters removed", fontsize=8, y=0.06 / height)
        figure.supylabel("loss of the metric", fontsize=8, x=0.06 / width)
        _legend(figure, height, line, bool(ratios), title)
        text = _written(figure, "svg").decode()
        if path is not None:
            atomic_write(path, text.encode() if suffix == ".svg" else _written(figure, "png"))
    return text[text.index("<svg") :]


def _scale(drawn: Mapping[str, Mapping[float, float]], line: Optional[float]) -> Tuple[float, float]:
    """The ends of the scale: up to the loss that nine of ten points are below, with room for the line; down to the
    greatest gain, within half of that."""
    losses = sorted(loss for points in drawn.values() for loss in points.values())
    high = losses[min(len(losses) - 1, math.ceil(0.9 * len(losses)))]
    top = max(min(high, 1.0), 2.0 * (line or 0.0), 0.01) * 1.08
    return max(min(0.0, losses[0]), -0.5 * top) * 1.08 - 0.02 * top, top


def _panel(
    panel: Any,
    name: str,
    points: Mapping[float, float],
    scale: Tuple[float, float],
    line: Optional[float],
    ratio: Optional[float],
) -> None:
    from matplotlib.ticker import PercentFormatter

    found = sorted(points.items())
    x, y = [0.0, *(ratio for ratio, _ in found)], [0.0, *(loss for _, loss in found)]
    if line is not None:
        panel.axhline(line, color=_LINE, linewidth=0.8, linestyle=(0, (4, 2)))
    if ratio is not None:
        panel.axvspan(0, ratio, color=_CHOSEN, alpha=0.12, linewidth=0)
        panel.axvline(ratio, color=_CHOSEN, linewidth=0.9)
    panel.plot(x, y, color=_CURVE, linewidth=1.1)
    panel.plot(x[1:], y[1:], color=_CURVE, marker="o", markersize=2.2, linewidth=0)
    short = name if len(name) <= _NAME else f"{name[: _NAME // 2 - 1]}…{name[-_NAME // 2 :]}"
    panel.set_title(short if ratio is None else f"{short}  {ratio:.0%}", fontsize=6.5, pad=2)
    panel.set_ylim(*scale)
    panel.set_xlim(0, 1)
    panel.set_xticks([0, 0.4, 0.8])
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0, decimals=None, symbol="%"))
    panel.tick_params(length=2, width=0.5, labelsize=6, colors=_QUIET, pad=1.5)
    panel.grid(axis="y", color="#e5e7eb", linewidth=0.5)
    panel.set_axisbelow(True)


def _legend(figure: Any, height: float, line: Optional[float], chosen: bool, title: str) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries = [Line2D([], [], color=_CURVE, marker="o", markersize=3, linewidth=1.1, label="measured")]
    if line is not None:
        label = f"loss line, {line:.3g} = {line:.2%}"
        entries.append(Line2D([], [], color=_LINE, linewidth=0.8, linestyle=(0, (4, 2)), label=label))
    if chosen:
        entries.append(Patch(facecolor=_CHOSEN, alpha=0.3, label="chosen ratio"))  # type: ignore[arg-type]
    where = (0.01, 1 - 0.02 / height)
    figure.legend(handles=entries, loc="upper left", bbox_to_anchor=where, ncols=3, frameon=False, fontsize=7)
    if title:
        figure.text(0.99, 1 - 0.1 / height, title, ha="right", va="top", fontsize=8)


def _written(figure: Any, kind: str) -> bytes:
    stream = io.BytesIO()
    about = {"Date": None, "Creator": None} if kind == "svg" else {}
    figure.savefig(stream, format=kind, dpi=150, metadata=about)
    return stream.getvalue()
