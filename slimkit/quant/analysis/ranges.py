"""The values of quantized tensors beside their grids: histograms and what is clipped."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple

import numpy as np

from slimkit.errors import ModelError, TrainingError
from slimkit.ir.model import Model
from slimkit.ir.taps import Taps
from slimkit.numerics.error_sums import ErrorSums
from slimkit.numerics.histogram import AbsHistogram
from slimkit.quant.analysis.result import Counts, Error, TensorRange
from slimkit.quant.passes.freeze_weights import along, weight_integers
from slimkit.quant.table import QuantParams, QuantTable

__all__ = ["activation_ranges", "grid_ends", "signed_counts", "weight_error", "weight_range"]

#: Float32 noise of a scale: a value this much beyond the grid's end is not clipped.
_SLACK = 1e-6


def grid_ends(params: QuantParams) -> Optional[Tuple[float, float]]:
    """The smallest and the largest value on a grid (of its widest channel); None when it is found anew in every run."""
    if params.dynamic:
        return None
    if params.symmetric:
        top = float(params.scale.max())
        return -top, top
    step = params.scale.astype(np.float64) / params.qmax
    return float((-params.zero_point * step).min()), float(((params.qmax - params.zero_point) * step).max())


class _Watched:
    """Histogram, clipped values and size of one activation."""

    def __init__(self, grids: Mapping[str, QuantParams]) -> None:
        self.histogram = AbsHistogram()
        self.ends = {key: ends for key, params in grids.items() for ends in [grid_ends(params)] if ends is not None}
        self.beyond = dict.fromkeys(self.ends, 0)

    def update(self, value: np.ndarray) -> None:
        self.histogram.update(value)
        for key, (low, high) in self.ends.items():
            slack = _SLACK * max(-low, high)
            self.beyond[key] += int(np.count_nonzero((value > high + slack) | (value < low - slack)))


def activation_ranges(
    model: Model,
    table: QuantTable,
    feeds: Iterable[Mapping[str, np.ndarray]],
    *,
    bins: int,
    place: Any = None,
    progress: Optional[Callable[[], None]] = None,
) -> Dict[str, TensorRange]:
    """One pass of the float model: the range of each activation of a table, by key.

    Args:
        model: float.
        table: the grids.
        feeds: small batches.
        bins: of a histogram; 0: none.
        place: device.
        progress: called after each batch.

    Raises:
        TrainingError: an activation is NaN or infinite.
    """
    grids = table.activations()
    watched = {
        tensor: _Watched({key: p for key, p in grids.items() if p.tensor == tensor})
        for tensor in dict.fromkeys(p.tensor for p in grids.values())
    }

    def tap(tensor: str) -> Callable[[np.ndarray], None]:
        def update(value: np.ndarray) -> None:
            try:
                watched[tensor].update(value)
            except ValueError as error:
                raise TrainingError(f"The activation '{tensor}' cannot be analyzed: {error}; check the data.") from None

        return update

    with Taps(model, {tensor: tap(tensor) for tensor in watched}, place) as taps:
        for feed in feeds:
            taps.run(feed)
            if progress is not None:
                progress()
    return {key: _range(params, watched[params.tensor], key, bins) for key, params in grids.items()}


def _range(params: QuantParams, seen: _Watched, key: str, bins: int) -> TensorRange:
    low, high = seen.ends.get(key, (None, None))
    total = seen.histogram.total
    clipped = seen.beyond[key] / total if total and key in seen.beyond else None
    counts = signed_counts(seen.histogram, bins) if bins and total else None
    return TensorRange(params.tensor, params.bits, low, high, clipped, counts)


def signed_counts(histogram: AbsHistogram, bins: int) -> Counts:
    """A histogram of magnitudes as one of values, over their range; a bin goes where its centre lies.

    Args:
        histogram: at least one value.
        bins: to return.
    """
    low, high = histogram.low, histogram.high if histogram.high > histogram.low else histogram.low + 1.0
    centres = (np.arange(histogram.counts.size) + 0.5) * histogram.width
    centres[0] = 0.0  # the first bin does not tell negative values apart
    counts = np.zeros(bins, np.int64)
    for sign, values in ((1.0, histogram.counts - histogram.negative), (-1.0, histogram.negative)):
        at = ((np.clip(sign * centres, low, high) - low) / (high - low) * bins).astype(np.int64)
        np.add.at(counts, np.minimum(at, bins - 1), values)
    return Counts(low, high, counts.tolist())


def weight_range(scope: Any, params: QuantParams, bins: int) -> TensorRange:
    """The range of a weight; what is clipped is counted channel by channel."""
    value = _value(scope, params.tensor)
    low, high = grid_ends(params) or (None, None)
    clipped = None
    if params.symmetric:
        top = along(params.scale.astype(np.float32), value.ndim, params.axis)
        clipped = float(np.mean(np.abs(value) > top * (1 + _SLACK)))
    counts = None
    if bins and value.size:
        found, edges = np.histogram(value, bins)
        counts = Counts(float(edges[0]), float(edges[-1]), found.tolist())
    return TensorRange(params.tensor, params.bits, low, high, clipped, counts)


def weight_error(scope: Any, params: QuantParams) -> Error:
    """Error of a weight's own values on its grid."""
    value = _value(scope, params.tensor)
    sums = ErrorSums()
    step = along(params.scale.astype(np.float32), value.ndim, params.axis) / np.float32(params.qmax)
    zero = 0 if params.symmetric else along(params.zero_point.astype(np.float32), value.ndim, params.axis)
    sums.add(value, (weight_integers(value, params) - zero) * step)
    return Error(sums.sqnr_db, sums.cosine)


def _value(scope: Any, name: str) -> np.ndarray:
    var = scope.find_var(name)
    if var is None or not var.get_tensor()._is_initialized():
        raise ModelError(f"The weight '{name}' has no value; load the model with its parameters.")
    return np.array(var.get_tensor())


def activations_of(op_inputs: Mapping[str, str], ranges: Mapping[str, TensorRange]) -> List[TensorRange]:
    """The ranges of an op's activations, each once."""
    return [ranges[key] for key in dict.fromkeys(op_inputs.values()) if key in ranges]
