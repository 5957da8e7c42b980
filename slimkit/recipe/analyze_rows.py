"""What of an analysis is shown, on the terminal and on the page."""

from __future__ import annotations

from typing import Dict, List, Optional

from slimkit.quant.analysis import Analysis, Error, FloatStep, LayerAnalysis
from slimkit.recipe.html_parts import DASH, percent

__all__ = ["cause", "curve_rows", "decibel", "layer_rows", "rules_text", "verdict"]

#: Decibels by which the noise of weights or of activations must outweigh the other's to be the cause.
_CLEARLY = 3.0


def decibel(error: Error) -> str:
    """Formats an SQNR."""
    value = error.sqnr_db
    return DASH if value is None else "exact" if value >= 200 else f"{value:.1f}"


def cause(row: LayerAnalysis) -> str:
    """What of a layer's own error is due to its weight, and what to its activations."""
    weight, activation = row.own_weight.sqnr_db, row.own_activation.sqnr_db
    clipped = max((a.clipped or 0.0 for a in row.activations), default=0.0)
    if weight is None or (activation is not None and activation < weight - _CLEARLY):
        return f"activation ({percent(clipped, 1)} clipped)" if clipped >= 1e-3 else "activation"
    return "weight" if activation is None or weight < activation - _CLEARLY else "both"


def layer_rows(found: Analysis, count: Optional[int] = None) -> List[Dict[str, str]]:
    """The layers, the most harmful first, as text."""
    rows = [found.layer(name) for name in found.ranking[:count]]
    return [
        {
            "name": row.name,
            "output": row.output,
            "type": row.type,
            "final": decibel(row.final),
            "own": decibel(row.own),
            "weight": decibel(row.own_weight),
            "activation": decibel(row.own_activation),
            "accumulated": decibel(row.accumulated),
            "cosine": DASH if row.own.cosine is None else f"{row.own.cosine:.4f}",
            "cause": cause(row),
        }
        for row in rows
    ]


def curve_rows(found: Analysis, headline: str) -> List[Dict[str, str]]:
    """The points of the curve, as text."""
    return [
        {
            "count": str(step.count),
            "layer": found.layer(step.op).name if step.op else "everything quantized",
            "sqnr": decibel(step.final),
            "metric": percent(step.metrics.get(headline)) if headline else "",
            "suggested": "suggested" if found.suggested and step.count == found.suggested else "",
        }
        for step in found.curve
    ]


def rules_text(found: Analysis) -> str:
    """The suggested rules as YAML, for the config of ``slimkit ptq``; "" when there are none."""
    import yaml

    if not found.rules:
        return ""
    rules = [rule.model_dump(exclude_defaults=True) for rule in found.rules]
    return yaml.safe_dump({"ptq": {"rules": rules}}, sort_keys=False, default_flow_style=None, width=110).rstrip()


def verdict(found: Analysis, headline: str = "") -> str:
    """The sentence that says what to do."""
    if not found.curve:
        return f"{len(found.layers)} layers were measured."
    start = found.curve[0]
    if not found.suggested:
        many = len(found.curve) - 1
        return (
            f"With everything quantized the results have {_value(start, headline)}, and leaving up to {many} layers "
            "float does not change that much: the noise comes from many layers, or there is little."
        )
    end = found.curve[found.suggested]
    layers = "layer" if found.suggested == 1 else "layers"
    return (
        f"Leaving {found.suggested} {layers} of {len(found.layers)} float brings the results from "
        f"{_value(start, headline)} to {_value(end, headline)}."
    )


def _value(step: FloatStep, headline: str) -> str:
    text = f"an SQNR of {decibel(step.final)} dB"
    return f"{headline} {percent(step.metrics[headline])} ({text})" if headline else text
