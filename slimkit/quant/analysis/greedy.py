"""Leaving the most harmful layers float, one after the other: what each wins back."""

from __future__ import annotations

from typing import Any, Callable, List, Mapping, Optional, Sequence

import numpy as np

from slimkit.ir.model import Model
from slimkit.quant.analysis.errors import ResultErrors
from slimkit.quant.analysis.feeds import Feed
from slimkit.quant.analysis.result import Error, FloatStep
from slimkit.quant.analysis.subset import leave_float
from slimkit.quant.export import export_program
from slimkit.quant.quantized import Quantized

__all__ = ["Metric", "curve_runs", "final_error", "float_curve"]

#: Layers, the next in the ranking, of which each step leaves the one float that helps most: noise of layers cancels and
#: adds up, so the next one is not always the best.
LOOKAHEAD = 3

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


def curve_runs(most: int, layers: int) -> int:
    """How often :func:`float_curve` measures the model."""
    return 1 + sum(min(LOOKAHEAD, layers - done) for done in range(min(most, layers)))


def float_curve(
    quantized: Quantized,
    ranking: Sequence[str],
    feeds: Sequence[Feed],
    reference: Sequence[Mapping[str, np.ndarray]],
    most: int,
    *,
    metric: Optional[Metric] = None,
    metric_model: Optional[Model] = None,
    place: Any = None,
    tick: Optional[Callable[[], None]] = None,
) -> List[FloatStep]:
    """Leaves 0, 1, ... ``most`` layers float, each time the one of the next few that helps most.

    Args:
        quantized: with everything quantized.
        ranking: outputs of the ops, the most harmful first.
        feeds: small batches.
        reference: the float model's results for each.
        most: layers to leave float.
        metric: measured at each point as well; None: the error alone.
        metric_model: the float model with the results that the metric takes; None: that of ``quantized``.
        place: device.
        tick: called after each measurement of the error.
    """

    def without(names: List[str]) -> Error:
        table = leave_float(quantized.table, names)
        error = final_error(Quantized(quantized.model, table), feeds, reference, place)
        if tick is not None:
            tick()
        return error

    def point(names: List[str], error: Error) -> FloatStep:
        part = Quantized(metric_model or quantized.model, leave_float(quantized.table, names))
        return FloatStep(len(names), names[-1] if names else "", error, dict(metric(part)) if metric else {})

    chosen: List[str] = []
    curve = [point([], without([]))]
    while len(chosen) < min(most, len(ranking)):
        ahead = [name for name in ranking if name not in chosen][:LOOKAHEAD]
        errors = {name: without([*chosen, name]) for name in ahead}
        best = max(ahead, key=lambda name: _decibel(errors[name]))
        chosen.append(best)
        curve.append(point(list(chosen), errors[best]))
    return curve


def _decibel(error: Error) -> float:
    return -1e9 if error.sqnr_db is None else error.sqnr_db
