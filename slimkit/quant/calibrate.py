"""Initial ranges from observed activations of the float model, before training starts."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping, Optional

import numpy as np

from slimkit.errors import TrainingError
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.numerics.thresholds import AbsHistogram, mse_threshold, percentile_threshold
from slimkit.quant.config import PactConfig

__all__ = ["initial_ranges", "observe"]


def observe(
    model: Model, tensors: List[str], feeds: Iterable[Mapping[str, np.ndarray]], place: Any = None
) -> Dict[str, AbsHistogram]:
    """One pass over the data: a histogram of each tensor; memory does not grow with the number of batches.

    Args:
        model: float model in test mode.
        tensors: variable names.
        feeds: batches by feed name.
        place: device.

    Raises:
        TrainingError: no batch, or a tensor with NaN or infinity.
    """
    import paddle

    histograms = {name: AbsHistogram() for name in tensors}
    computed = [name for name in tensors if name not in model.feeds]  # what is left may need no op at all
    with legacy_ir():
        block = model.program.global_block()
        pruned = model.program._prune_with_input(list(model.feeds), [block.vars[name] for name in computed])
        executor = paddle.static.Executor(place or paddle.CPUPlace())
        batches = 0
        for feed in feeds:
            known = pruned.global_block().vars
            needed = {n: np.ascontiguousarray(v) for n, v in feed.items() if n in known}
            values = executor.run(pruned, feed=needed, fetch_list=computed, scope=model.scope) if computed else []
            batches += 1
            for name, value in [*zip(computed, values), *((n, feed[n]) for n in tensors if n in model.feeds)]:
                try:
                    histograms[name].update(np.asarray(value))
                except ValueError as error:
                    raise TrainingError(
                        f"The activation '{name}' cannot be calibrated in batch {batches}: {error}; "
                        "check the images' normalisation and the float weights."
                    ) from None
    if batches == 0:
        raise TrainingError("Calibration got no batch; give at least one batch of training data.")
    return histograms


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
