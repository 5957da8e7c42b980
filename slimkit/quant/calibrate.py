"""Initial ranges from observed activations of the float model, before training starts."""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional

import numpy as np

from slimkit.errors import TrainingError
from slimkit.ir.model import Model
from slimkit.ir.taps import Taps
from slimkit.numerics.thresholds import AbsHistogram, mse_threshold, percentile_threshold
from slimkit.quant.config import PactConfig

__all__ = ["NO_BATCH", "initial_ranges", "observe", "observe_channels"]

NO_BATCH = "Calibration got no batch; give at least one batch of training data."


def observe(
    model: Model,
    tensors: List[str],
    feeds: Iterable[Mapping[str, np.ndarray]],
    place: Any = None,
    progress: Optional[Callable[[], None]] = None,
) -> Dict[str, AbsHistogram]:
    """One pass over the data: a histogram of each tensor, taken while the tensor is alive; memory does not grow with
    the number of batches, nor with the number of tensors.

    Args:
        model: float model in test mode.
        tensors: variable names, of control-flow blocks too.
        feeds: batches by feed name; their shapes may differ.
        place: device.
        progress: called after each batch.

    Raises:
        TrainingError: no batch, or a tensor with NaN or infinity.
    """
    histograms = {name: AbsHistogram() for name in tensors}
    batches = 0

    def tap(name: str) -> Callable[[np.ndarray], None]:
        def update(value: np.ndarray) -> None:
            try:
                histograms[name].update(value)
            except ValueError as error:
                raise TrainingError(
                    f"The activation '{name}' cannot be calibrated in batch {batches + 1}: {error}; "
                    "check the images' normalisation and the float weights."
                ) from None

        return update

    with Taps(model, {name: tap(name) for name in tensors}, place) as taps:
        for feed in feeds:
            taps.run(feed)
            batches += 1
            if progress is not None:
                progress()
    if batches == 0:
        raise TrainingError(NO_BATCH)
    return histograms


def observe_channels(
    model: Model, tensors: List[str], feeds: Iterable[Mapping[str, np.ndarray]], place: Any = None, every: int = 4
) -> Dict[str, np.ndarray]:
    """The largest magnitude of each channel over every fourth batch, the first included.

    Args:
        model: float model in test mode.
        tensors: variables of shape [N, channels, ...].
        feeds: batches by feed name.
        place: device.
        every: how many batches to go on by.

    Returns:
        tensor -> float32, shape [channels].
    """
    ranges: Dict[str, np.ndarray] = {}

    def tap(name: str) -> Callable[[np.ndarray], None]:
        def update(value: np.ndarray) -> None:
            axes = (0, *range(2, value.ndim))
            found = np.maximum(value.max(axis=axes), -value.min(axis=axes))
            ranges[name] = np.maximum(ranges[name], found) if name in ranges else found

        return update

    with Taps(model, {name: tap(name) for name in tensors}, place) as taps:
        for number, feed in enumerate(feeds):
            if number % every == 0:
                taps.run(feed)
    return ranges


def initial_ranges(
    model: Model,
    tensors: List[str],
    feeds: Iterable[Mapping[str, np.ndarray]],
    bits: Mapping[str, int],
    pact: Optional[PactConfig],
    place: Any = None,
) -> Dict[str, Dict[str, float]]:
    """Where scales and alpha start.

    Args:
        model: float model in test mode.
        tensors: activations to quantize.
        feeds: batches.
        bits: bits of each tensor's grid.
        pact: how alpha starts; None: alpha is not needed.
        place: device.

    Returns:
        tensor -> ``abs_max`` (mean of the batches' largest magnitudes), ``low``, ``high`` and ``alpha``.
    """
    ranges = {}
    for name, histogram in observe(model, tensors, feeds, place).items():
        ranges[name] = {
            "abs_max": max(histogram.mean_abs_max, 1e-6),
            "low": min(histogram.low, 0.0),
            "high": max(histogram.high, 0.0),
            "alpha": max(_alpha(histogram, bits[name], pact), 1e-2),
        }
    return ranges


def _alpha(histogram: AbsHistogram, bits: int, pact: Optional[PactConfig]) -> float:
    if pact is None or pact.init == "max":
        return histogram.abs_max
    if pact.init == "percentile":
        return percentile_threshold(histogram, pact.percentile)
    return mse_threshold(histogram, bits)
