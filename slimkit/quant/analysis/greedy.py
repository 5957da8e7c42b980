"""Leaving the most harmful layers float, one after the other: what each wins back."""

from __future__ import annotations

from typing import Any, Callable, List, Mapping, Optional, Sequence

import numpy as np

from slimkit.quant.analysis.errors import ResultErrors
from slimkit.quant.analysis.feeds import Feed
from slimkit.quant.analysis.result import Error, FloatStep
from slimkit.quant.analysis.subset import leave_float
from slimkit.quant.export import export_program
from slimkit.quant.quantized import Quantized

__all__ = ["Metric", "final_error", "float_curve"]

#: Figures of merit of a quantized model, the headline first; more is better.
Metric = Callable[[Quantized], Mapping[str, float]]


def final_error(
    quantized: Quantized, feeds: Sequence[Feed], reference: Sequence[Mapping[str, np.ndarray]], place: Any = None
) -> Error:
    """Error of the model's results with a whole table active."""
    exported = export_program(quantized.model, quantized.table, place=place)
    errors = ResultErrors(exported.fetches)
    for feed, exact in zip(feeds, reference):
        errors.add(exact, dict(zip(exported.fetches, exported.run(feed, place=place))))
    return errors.result()


def float_curve(
    quantized: Quantized,
    ranking: Sequence[str],
    feeds: Sequence[Feed],
    reference: Sequence[Mapping[str, np.ndarray]],
    most: int,
    *,
    metric: Optional[Metric] = None,
    place: Any = None,
    tick: Optional[Callable[[], None]] = None,
) -> List[FloatStep]:
    """Leaves 0, 1, ... ``most`` layers float and measures the model each time.

    Args:
        quantized: with everything quantized.
        ranking: outputs of the ops, the most harmful first.
        feeds: small batches.
        reference: the float model's results for each.
        most: layers to leave float.
        metric: measured at each point as well; None: the error alone.
        place: device.
        tick: called after each point.
    """
    curve = []
    for count in range(min(most, len(ranking)) + 1):
        part = Quantized(quantized.model, leave_float(quantized.table, ranking[:count]))
        error = final_error(part, feeds, reference, place)
        metrics = dict(metric(part)) if metric is not None else {}
        curve.append(FloatStep(count, ranking[count - 1] if count else "", error, metrics))
        if tick is not None:
            tick()
    return curve
