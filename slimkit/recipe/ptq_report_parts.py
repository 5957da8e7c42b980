"""From what PTQ and verification found to the parts of their report."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from slimkit.deploy.compare import Agreement
from slimkit.deploy.runtime import RUNTIMES
from slimkit.deploy.verify_report import VerifyReport, VerifyRow
from slimkit.numerics.histogram import AbsHistogram
from slimkit.quant.analysis.ranges import grid_ends
from slimkit.quant.table import QuantizedOp, QuantTable
from slimkit.recipe.ptq_report import (
    Closeness,
    DeployedResult,
    GridRange,
    PlannedLayer,
    RuntimePlan,
    TensorGrid,
    Timing,
)
from slimkit.recipe.run_report import Histogram, SkippedOp

__all__ = ["deployed_results", "grid_ends", "runtime_plan", "signed_histogram", "tensor_grids"]


def deployed_results(report: VerifyReport) -> List[DeployedResult]:
    """The rows of a verification, a result each."""
    return [_result(row, report) for row in report.rows]


def _result(row: VerifyRow, report: VerifyReport) -> DeployedResult:
    base = report.base(row)
    status = "ok" if RUNTIMES[row.runtime].runs_here else "converted"
    if row.error is not None:
        status = "unavailable" if row.unavailable else "failed"
    ratio = None
    if base is not None and base is not row and base.size_bytes and row.size_bytes:
        ratio = round(row.size_bytes / base.size_bytes, 4)
    return DeployedResult(
        runtime=row.runtime,
        title=row.title,
        model=row.precision,
        status=status,  # type: ignore[arg-type]
        reason=row.error or "",
        notes=list(row.notes),
        metrics=dict(row.metrics),
        samples=row.samples,
        size_bytes=row.size_bytes,
        size_ratio=ratio,
        latency={
            str(size): Timing(**{k: v for k, v in latency.to_dict().items() if k != "calls"})
            for size, latency in row.latency.items()
        },
        speed_ratio={str(size): round(value, 3) for size, value in row.speed_ratio.items()},
        against_float=_closeness(row.against_float),
        outputs_against_float=[c for c in map(_closeness, row.outputs_against_float) if c is not None],
        against_simulated=_closeness(row.against_simulated),
        across_runtimes=_closeness(row.across_runtimes),
        int8_ops=row.int8_primitives,
        float_ops=row.float_primitives,
        fallback=[{key: str(value) for key, value in item.items()} for item in row.fallback],
    )


def _closeness(agreement: Optional[Agreement]) -> Optional[Closeness]:
    return None if agreement is None else Closeness(**agreement.to_dict())


def runtime_plan(runtime: str, table: QuantTable, op_counts: Optional[Mapping[str, int]] = None) -> RuntimePlan:
    """What a table quantizes for a runtime, and what stays float.

    Args:
        runtime: its name.
        table: its grids.
        op_counts: op type -> count in the whole model.
    """
    from slimkit.quant.capabilities import CAPABILITIES

    layers = [_layer(op, table) for op in table.ops]
    skipped = [SkippedOp(op=str(s["op"]), type=str(s["type"]), reason=str(s["reason"])) for s in table.skipped]
    row = CAPABILITIES.get(runtime)
    listed = {*(row.weight_ops + row.activation_ops if row else ()), *(layer.op_type for layer in layers)}
    listed |= {item.type for item in skipped} | {"feed", "fetch"}
    others = {kind: count for kind, count in (op_counts or {}).items() if kind not in listed}
    return RuntimePlan(runtime=runtime, quantized=layers, skipped=skipped, other_ops=others)


def _layer(op: QuantizedOp, table: QuantTable) -> PlannedLayer:
    grids = [table.params[key] for key in op.inputs.values() if key in table.params]
    weight = next((grid for grid in grids if grid.is_weight), None)
    activations = [grid for grid in grids if not grid.is_weight]
    return PlannedLayer(
        name=op.output,
        op_type=op.type,
        weight=weight.tensor if weight else "",
        activations=[grid.tensor for grid in activations],
        weight_bits=weight.bits if weight else None,
        activation_bits=activations[0].bits if activations else None,
        per_channel=weight.axis is not None if weight else None,
        quantized_result=bool(op.outputs),
    )


def tensor_grids(
    tables: Mapping[str, QuantTable], statistics: Mapping[str, AbsHistogram], bins: int = 64
) -> List[TensorGrid]:
    """The quantized activations of all runtimes with their histograms, in the order of the network.

    Args:
        tables: runtime -> grids.
        statistics: tensor -> what calibration saw.
        bins: of a histogram in the report.
    """
    found: Dict[str, Dict[Tuple[float, float, int], List[str]]] = {}
    for runtime, table in tables.items():
        for params in table.activations().values():
            ends = grid_ends(params)
            if params.scale.size == 1 and ends is not None:
                key = (*ends, params.bits)
                found.setdefault(params.tensor, {}).setdefault(key, []).append(runtime)
    grids = []
    for tensor, ranges in found.items():
        seen = statistics.get(tensor)
        rows = [
            GridRange(runtimes=names, low=low, high=high, bits=bits, clipped=_beyond(seen, low, high))
            for (low, high, bits), names in ranges.items()
        ]
        grids.append(TensorGrid(name=tensor, ranges=rows, histogram=signed_histogram(seen, bins) if seen else None))
    return grids


def _beyond(seen: Optional[AbsHistogram], low: float, high: float) -> Optional[float]:
    """The fraction of values beyond a range, to half a bin of the statistics."""
    if seen is None or not seen.total or not seen.limit:
        return None
    middle = (np.arange(seen.counts.size) + 0.5) * seen.width
    positive = seen.counts - seen.negative
    beyond = int(positive[middle > high].sum()) + int(seen.negative[middle > -low].sum())
    return beyond / seen.total


def signed_histogram(seen: AbsHistogram, bins: int) -> Optional[Histogram]:
    """Counts over the range of the values seen, of about ``bins`` equal bins; None when all were 0.

    The statistics' own bins are joined, never split, so that the outer edges may lie a little beyond the values.
    """
    used = int(np.flatnonzero(seen.counts)[-1]) + 1 if seen.total and seen.limit else 0
    if not used:
        return None
    below = np.flatnonzero(seen.negative)
    left = int(below[-1]) + 1 if below.size else 0
    right_filled = np.flatnonzero(seen.counts - seen.negative)
    right = int(right_filled[-1]) + 1 if right_filled.size else 0
    join = max(1, -(-(left + right) // bins))
    positive = _joined((seen.counts - seen.negative)[:right], join)
    negative = _joined(seen.negative[:left], join)[::-1]
    width = seen.width * join
    counts: List[Any] = [*negative.tolist(), *positive.tolist()]
    return Histogram(low=-len(negative) * width, high=max(len(positive), 0) * width, counts=counts)


def _joined(counts: np.ndarray, join: int) -> np.ndarray:
    padded = np.concatenate([counts, np.zeros(-len(counts) % join, counts.dtype)])
    return padded.reshape(-1, join).sum(axis=1)
