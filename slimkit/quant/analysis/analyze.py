"""Which layer hurts: see :func:`analyze`."""

from __future__ import annotations

import time
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence

import numpy as np

from slimkit.errors import ModelError
from slimkit.numerics.error_sums import ErrorSums
from slimkit.quant.analysis.accumulated import output_errors
from slimkit.quant.analysis.errors import as_error, before_squashing
from slimkit.quant.analysis.feeds import cut, sample_count
from slimkit.quant.analysis.greedy import Metric, curve_runs, float_curve
from slimkit.quant.analysis.isolated import Isolated, isolated_errors
from slimkit.quant.analysis.probe import ACTIVATION, BOTH, WEIGHT
from slimkit.quant.analysis.ranges import activation_ranges, activations_of, weight_error, weight_range
from slimkit.quant.analysis.result import Analysis, Error, LayerAnalysis, TensorRange
from slimkit.quant.analysis.subset import skip_rules
from slimkit.quant.export import export_program
from slimkit.quant.quantized import Quantized

__all__ = ["BINS", "analyze", "rank", "rank_layers"]

#: Bins of a histogram.
BINS = 64

#: Called with what is being done, how much of it is done, and how much there is.
Progress = Callable[[str, int, int], None]


def analyze(
    quantized: Quantized,
    feeds: Iterable[Mapping[str, np.ndarray]],
    *,
    place: Any = None,
    histograms: bool = True,
    leave_float: int = 5,
    metric: Optional[Metric] = None,
    limit: Optional[int] = None,
    progress: Optional[Progress] = None,
) -> Analysis:
    """Measures each quantized op in isolation and in the whole, and what leaving the worst ones float wins back.

    In isolation only the op's own inputs are quantized and everything before it is float. It takes about half a run
    of the model for each op and batch, so a few images are the right amount. Where the model ends with a softmax or
    sigmoid, its results are compared before it: behind it most errors vanish, and those near a tie are exaggerated.

    Args:
        quantized: float model and table; neither is changed.
        feeds: batches by feed name.
        place: device; None: CPU.
        histograms: of activations and weights.
        leave_float: how many layers the curve leaves float.
        metric: figures of merit, measured at each point of the curve.
        limit: samples to measure on; None: all.
        progress: told where the work stands.

    Raises:
        DataError: there is no sample.
        ModelError: the table names no op of the model.
        TrainingError: an activation is NaN or infinite.
    """
    asked, table = quantized.model, quantized.table
    model = before_squashing(asked)
    quantized = Quantized(model, table)
    if not table.ops:
        raise ModelError("The table names no quantized op, so there is nothing to analyze; quantize the model first.")
    clock = _Clock(progress)
    small = cut(model, feeds, limit)
    bins = BINS if histograms else 0
    clock.start("ranges of tensors", len(small))
    ranges = activation_ranges(model, table, small, bins=bins, place=place, progress=clock.tick)
    clock.start("everything quantized", len(small))
    reference = [dict(zip(model.fetches, model.run(feed, place=place))) for feed in small]
    outputs = [op.output for op in table.ops]
    exported = export_program(model, table, place=place)
    accumulated = output_errors(model, exported, outputs, small, place, clock.tick)
    clock.start("each layer alone", len(small) * len(outputs))
    alone = isolated_errors(quantized, small, reference, place, clock.tick)
    layers = _layers(quantized, ranges, alone, accumulated, bins)
    ranking = rank(layers)
    clock.start("layers left float", curve_runs(leave_float, len(ranking)))
    curve = float_curve(
        quantized,
        ranking,
        small,
        reference,
        leave_float,
        metric=metric,
        metric_model=asked,
        place=place,
        tick=clock.tick,
    )
    left = [step.op for step in curve[1:]]
    rules = [skip_rules(model, table, left[: count + 1]) for count in range(len(left))]
    samples = sum(sample_count(feed) for feed in small)
    return Analysis(layers, ranking, curve[0].final, curve, rules, samples, clock.stop())


def rank(layers: Sequence[LayerAnalysis]) -> List[str]:
    """Outputs of the ops, the most harmful first: by the error of the model's results, then of their own output."""

    def key(row: LayerAnalysis) -> Any:
        return (_decibel(row.final), _decibel(row.own))

    return [row.output for row in sorted(layers, key=key)]


def rank_layers(
    quantized: Quantized,
    feeds: Iterable[Mapping[str, np.ndarray]],
    *,
    place: Any = None,
    limit: Optional[int] = None,
    tick: Optional[Callable[[], None]] = None,
) -> List[str]:
    """The ranking of :func:`analyze` alone: outputs of the quantized ops, the most harmful first.

    Args:
        quantized: float model and table.
        feeds: batches by feed name.
        place: device; None: CPU.
        limit: samples to measure on; None: all.
        tick: called after each op and batch.
    """
    model = before_squashing(quantized.model)
    quantized = Quantized(model, quantized.table)
    small = cut(model, feeds, limit)
    reference = [dict(zip(model.fetches, model.run(feed, place=place))) for feed in small]
    found = isolated_errors(quantized, small, reference, place, tick)
    return rank(
        [
            LayerAnalysis(
                op.output, op.type, own=as_error(found[op.output].own[BOTH]), final=found[op.output].final.result()
            )
            for op in quantized.table.ops
        ]
    )


def _decibel(error: Error) -> float:
    """To a hundredth, so that equals are equal; what cannot be compared comes last."""
    return 1e9 if error.sqnr_db is None else round(error.sqnr_db, 2)


def _layers(
    quantized: Quantized,
    ranges: Mapping[str, TensorRange],
    alone: Mapping[str, Isolated],
    accumulated: Mapping[str, ErrorSums],
    bins: int,
) -> List[LayerAnalysis]:
    table, scope = quantized.table, quantized.model.scope
    rows = []
    for op in table.ops:
        weight = next((table.params[key] for key in op.inputs.values() if table.params[key].is_weight), None)
        own = {kind: as_error(sums) for kind, sums in alone[op.output].own.items()}
        rows.append(
            LayerAnalysis(
                output=op.output,
                type=op.type,
                weight=weight_range(scope, weight, bins) if weight is not None else None,
                activations=activations_of(op.inputs, ranges),
                own=own.get(BOTH, Error()),
                own_weight=own.get(WEIGHT, own.get(BOTH, Error()) if weight is not None else Error()),
                own_activation=own.get(ACTIVATION, own.get(BOTH, Error()) if weight is None else Error()),
                final=alone[op.output].final.result(),
                accumulated=as_error(accumulated[op.output]),
                weight_error=weight_error(scope, weight) if weight is not None else Error(),
            )
        )
    return rows


class _Clock:
    """Times the steps and tells how far they are."""

    def __init__(self, progress: Optional[Progress]) -> None:
        self._progress = progress
        self._seconds: Dict[str, float] = {}
        self._name, self._done, self._total, self._since = "", 0, 0, 0.0

    def start(self, name: str, total: int) -> None:
        self.stop()
        self._name, self._done, self._total, self._since = name, 0, total, time.perf_counter()
        self._tell()

    def tick(self) -> None:
        self._done += 1
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._name, min(self._done, self._total), self._total)

    def stop(self) -> Dict[str, float]:
        if self._name:
            self._seconds[self._name] = time.perf_counter() - self._since
        return self._seconds
