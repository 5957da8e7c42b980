"""The cells of the table of runtimes and the sentence above it, for the page and for the terminal."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from slimkit.recipe.html_parts import DASH, STATE_NAMES, percent, points, size_text
from slimkit.recipe.ptq_report import DeployedReport, DeployedResult, Timing

__all__ = ["delta_text", "deployed", "deployed_rows", "figure_name", "verdict"]

#: Metric -> its name for people; others have their underscores taken out.
_FIGURES = {"top1": "Top-1", "top5": "Top-5", "hmean": "Hmean", "exact_match": "Exact match"}


def figure_name(metric: Optional[str]) -> str:
    """Returns a metric's name for people."""
    if metric is None:
        return "Accuracy"
    return _FIGURES.get(metric, metric.replace("_", " ").capitalize())


def deployed(report: DeployedReport) -> List[DeployedResult]:
    """The quantized models that were run: int8 ones first, then those that only stand for it."""
    order = {"int8": 0, "float on the int8 grid": 1, "simulated": 2}
    ran = [item for item in report.results if item.status == "ok" and item.model != "float"]
    return sorted(ran, key=lambda item: order.get(item.model, 1))


def _lost(report: DeployedReport, item: DeployedResult) -> Optional[float]:
    base = report.base(item)
    own, floats = report.accuracy(item), report.accuracy(base)
    return None if own is None or floats is None or item.model == "float" else own - floats


def delta_text(report: DeployedReport, item: DeployedResult) -> str:
    """Returns "−0.25 points against float", or a dash."""
    lost = _lost(report, item)
    return DASH if lost is None else f"{points(lost)} points against float"


def verdict(report: DeployedReport) -> str:
    """Returns the sentences that say what it came to: one for each runtime on which int8 arithmetic ran."""
    items = deployed(report)
    if not items:
        return "The quantized model could not be run on any runtime; the table says why."
    ints = [item for item in items if item.model == "int8"] or items[:1]
    return " ".join(_sentence(report, item) for item in ints)


def _sentence(report: DeployedReport, item: DeployedResult) -> str:
    text, lost = f"On {item.title}, ", _lost(report, item)
    close = item.against_float
    if report.accuracy(item) is not None:
        text += f"{figure_name(report.headline).lower()} is {percent(report.accuracy(item))}"
        text += "" if lost is None else f", {points(lost)} points against float there"
    elif close is not None:
        if close.sqnr_db is None:
            text += "outputs equal float's"
        else:
            cosine = "" if close.cosine is None else f", cosine {close.cosine:.4f}"
            text += f"outputs agree with float's to {close.sqnr_db:.1f} dB SQNR{cosine}"
    else:
        base = report.base(item)
        alone = base is not None and base.status != "ok"
        text += "the model runs" + (", with no float result there to compare with" if alone else "")
    if item.size_ratio is not None:
        text += f", at {item.size_ratio:.2f} of the size"
    if item.speed_ratio:
        size, factor = max(item.speed_ratio.items(), key=lambda pair: pair[1])
        text += f" and {factor:.2f} times the speed (batch {size})"
    return text + "."


def deployed_rows(report: DeployedReport) -> List[Dict[str, Any]]:
    """Returns the cells of the table of runtimes, a row a result."""
    return [_row(report, item) for item in report.results]


def _row(report: DeployedReport, item: DeployedResult) -> Dict[str, Any]:
    lost, close = _lost(report, item), item.against_float
    sqnr = DASH
    if close is not None:
        sqnr = "equal" if close.sqnr_db is None else f"{close.sqnr_db:.1f} dB"
    ops = DASH
    if item.int8_ops is not None:
        ops = f"{item.int8_ops} / {item.float_ops if item.float_ops is not None else '?'}"
    return {
        "runtime": item.title,
        "model": item.model,
        "status": item.status,
        "state": STATE_NAMES[item.status],
        "notes": [item.reason] if item.reason else item.notes,
        "figure": percent(report.accuracy(item)),
        "delta": DASH if lost is None else points(lost),
        "same": DASH if close is None else percent(close.top1, 1),
        "cosine": DASH if close is None or close.cosine is None else f"{close.cosine:.4f}",
        "sqnr": sqnr,
        "size": size_text(item.size_bytes),
        "ratio": DASH if item.size_ratio is None else f"{item.size_ratio:.2f}×",
        "ops": ops,
        "latency": [_latency(item, str(size)) for size in report.batch_sizes],
    }


def _latency(item: DeployedResult, size: str) -> Dict[str, str]:
    timing: Optional[Timing] = item.latency.get(size)
    if timing is None:
        return {"median": DASH, "spread": "", "speed": ""}
    ratio = item.speed_ratio.get(size)
    return {
        "median": f"{timing.median_ms:.2f} ms",
        "spread": f"{timing.p10_ms:.2f}–{timing.p90_ms:.2f}",
        "speed": "" if ratio is None else f"{ratio:.2f}×",
    }
