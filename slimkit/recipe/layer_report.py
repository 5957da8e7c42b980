"""Per-layer error and activation histograms for the report, streamed so that memory stays bounded."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Callable, Dict, Iterator, List, Mapping, Optional, Sequence

import numpy as np

from slimkit.numerics.error_sums import ErrorSums
from slimkit.quant.table import QuantParams, QuantTable
from slimkit.recipe.run_report import Histogram, LayerResult

__all__ = ["StreamedHistogram", "describe_layers", "measure_layers", "slices", "thresholds"]

Feed = Dict[str, np.ndarray]
Fetch = Callable[[Feed, List[str]], List[np.ndarray]]

#: Input values in one batch of the measurement: 16 images of 3x48x48, or 2 of 3x224x224.
_BATCH_VALUES = 2 * 3 * 224 * 224


@dataclass
class StreamedHistogram:
    """Counts over a range found in a first pass, and the values beyond a threshold."""

    low: float = math.inf
    high: float = -math.inf
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    beyond: int = 0
    total: int = 0

    def widen(self, values: np.ndarray) -> None:
        """First pass: takes the range of a batch in."""
        if values.size:
            self.low = min(self.low, float(values.min()))
            self.high = max(self.high, float(values.max()))

    def count(self, values: np.ndarray, bins: int, threshold: Optional[float]) -> None:
        """Second pass: counts a batch."""
        if not self.counts.size:
            self.counts = np.zeros(bins, np.int64)
        high = self.high if self.high > self.low else self.low + 1.0
        self.counts += np.histogram(values, bins, (self.low, high))[0]
        self.total += values.size
        if threshold is not None:
            self.beyond += int((np.abs(values) > threshold * (1 + 1e-6)).sum())

    def result(self) -> Optional[Histogram]:
        """Returns the histogram, None when nothing finite was seen."""
        if not self.counts.size or not (math.isfinite(self.low) and math.isfinite(self.high)):
            return None
        high = self.high if self.high > self.low else self.low + 1.0
        return Histogram(low=self.low, high=high, counts=self.counts.tolist())


def thresholds(table: QuantTable, alphas: Mapping[str, float]) -> Dict[str, float]:
    """Returns the clipping threshold of each quantized activation: alpha with PACT, else its scale.

    Affine and dynamic grids have no single threshold and are left out.
    """
    found: Dict[str, float] = {}
    for params in table.activations().values():
        if params.symmetric and not params.dynamic and params.scale.size == 1:
            found[params.tensor] = float(alphas.get(params.tensor, params.scale[0]))
    return found


def describe_layers(
    table: QuantTable,
    before: Mapping[str, float],
    after: Mapping[str, float],
    paths: Optional[Mapping[str, str]] = None,
) -> List[LayerResult]:
    """Returns a row for each quantized op of a table, without measurements.

    Args:
        table: the trained table.
        before, after: activation -> clipping threshold before and after training.
        paths: parameter -> its path in the network, such as ``features.0.conv.weight``.
    """
    layers = []
    for op in table.ops:
        grids: List[QuantParams] = [table.params[key] for key in op.inputs.values() if key in table.params]
        weight = next((g for g in grids if g.is_weight), None)
        activation = next((g for g in grids if not g.is_weight), None)
        tensor = activation.tensor if activation else ""
        layers.append(
            LayerResult(
                name=op.output,
                op_type=op.type,
                layer=(paths or {}).get(weight.tensor if weight else "", "").rpartition(".")[0],
                weight=weight.tensor if weight else "",
                activation=tensor,
                weight_bits=weight.bits if weight else None,
                activation_bits=activation.bits if activation else None,
                threshold_before=before.get(tensor),
                threshold_after=after.get(tensor),
            )
        )
    return layers


def slices(feeds: Iterator[Feed], images: int, image: str = "image") -> List[Feed]:
    """Cuts the first ``images`` samples of a data set into small feeds, a bounded number of values each."""
    cut: List[Feed] = []
    left = images
    for feed in feeds:
        values = feed[image]
        size = max(1, min(16, _BATCH_VALUES // max(1, int(np.prod(values.shape[1:])))))
        for start in range(0, min(len(values), left), size):
            stop = min(start + size, left, len(values))
            cut.append({name: array[start:stop] for name, array in feed.items()})
        left -= min(len(values), left)
        if left <= 0:
            break
    return cut


def measure_layers(
    layers: Sequence[LayerResult],
    feeds: Sequence[Feed],
    run_float: Fetch,
    run_simulated: Fetch,
    *,
    bins: int,
    tick: Optional[Callable[[], None]] = None,
) -> List[LayerResult]:
    """Fills in the errors and histograms of quantized ops.

    Args:
        layers: rows of :func:`describe_layers`.
        feeds: small batches; each goes through the float model twice and the simulated one once.
        run_float: fetches variables of the float model.
        run_simulated: fetches variables of the simulated quantized model.
        bins: of a histogram.
        tick: called after each pass of a batch; twice per feed.

    Returns:
        The rows with ``sqnr_db``, ``cosine``, ``histogram`` and ``clipped``.
    """
    outputs = list(dict.fromkeys(layer.name for layer in layers))
    limits = {layer.activation: layer.threshold_after for layer in layers if layer.activation}
    inputs = list(limits)
    errors = {name: ErrorSums() for name in outputs}
    histograms = {name: StreamedHistogram() for name in inputs}
    for feed in feeds:
        names = list(dict.fromkeys([*outputs, *inputs]))
        exact = dict(zip(names, run_float(feed, names)))
        for name, value in zip(outputs, run_simulated(feed, outputs)):
            errors[name].add(exact[name], value)
        for name in inputs:
            histograms[name].widen(exact[name])
        if tick:
            tick()
    for feed in feeds:
        for name, value in zip(inputs, run_float(feed, inputs)):
            histograms[name].count(value, bins, limits[name])
        if tick:
            tick()
    return [_filled(layer, errors[layer.name], histograms.get(layer.activation)) for layer in layers]


def _filled(layer: LayerResult, error: ErrorSums, histogram: Optional[StreamedHistogram]) -> LayerResult:
    update = {"sqnr_db": error.sqnr_db, "cosine": error.cosine}
    if histogram is None:
        return layer.model_copy(update=update)
    clipped = histogram.beyond / histogram.total if histogram.total and layer.threshold_after is not None else None
    return layer.model_copy(update={**update, "histogram": histogram.result(), "clipped": clipped})
