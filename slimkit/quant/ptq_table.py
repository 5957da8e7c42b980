"""Statistics of a calibration -> the ``QuantTable`` of a plan."""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

import numpy as np

from slimkit.errors import ModelError
from slimkit.numerics.histogram import AbsHistogram
from slimkit.numerics.observers import observer
from slimkit.numerics.scales import abs_max, channel_wise_abs_max
from slimkit.quant.passes.extract_table import affine_params
from slimkit.quant.ptq_config import PtqConfig
from slimkit.quant.ptq_plan import Plan
from slimkit.quant.table import QuantizedOp, QuantParams, QuantTable

__all__ = ["activation_grid", "build_table", "weight_grid"]

#: The smallest threshold: a tensor that is always 0 has a grid all the same.
_SMALLEST = 1e-6


#: Grids found already, for the runtimes of one run: (tensor, bits, affine) -> grid.
Found = Dict[Tuple[str, int, bool], QuantParams]


def build_table(
    plan: Plan,
    scope: Any,
    statistics: Mapping[str, AbsHistogram],
    config: PtqConfig,
    found: Optional[Found] = None,
) -> QuantTable:
    """The grids of a plan.

    Args:
        plan: what is quantized.
        scope: holds the float weights.
        statistics: histogram of each activation of the plan.
        config: algorithm and options.
        found: grids of this config from another plan; filled further.
    """
    table, found = QuantTable(skipped=list(plan.skipped)), {} if found is None else found
    affine = plan.capability.affine_activations and config.affine is not False
    grids: Dict[Tuple[str, int], str] = {}

    def activation(tensor: str, bits: int) -> str:
        if (tensor, bits) not in grids:
            key = (tensor, bits, affine)
            if key not in found:
                found[key] = activation_grid(tensor, statistics[tensor], bits, config, affine)
            grids[tensor, bits] = table.add(found[key])
        return grids[tensor, bits]

    for op in plan.ops:
        inputs = {slot: activation(tensor, op.activation_bits) for slot, tensor in op.activations.items()}
        if op.weight is not None:
            slot, name, axis = op.weight
            inputs[slot] = table.add(weight_grid(name, _weight(scope, name), op.weight_bits, axis))
        outputs = {op.result: activation(op.result, op.activation_bits)} if op.result else {}
        table.ops.append(QuantizedOp(op.type, op.output, inputs, outputs))
    return table


def activation_grid(
    tensor: str, histogram: AbsHistogram, bits: int, config: PtqConfig, affine: bool = False
) -> QuantParams:
    """An activation's grid by the config's algorithm.

    Args:
        tensor: its name.
        histogram: of its values.
        bits: 2 to 16.
        config: algorithm and options.
        affine: with a zero point, 2**bits levels over [low, high].
    """
    row = observer(config.algo)
    if not affine:
        threshold = max(row.threshold(histogram, bits, hist_percent=config.hist_percent), _SMALLEST)
        return QuantParams(tensor, np.array([threshold], np.float32), bits)
    ends = row.affine_range(histogram, bits, hist_percent=config.hist_percent)
    low, high = np.array(ends, np.float32).reshape(2, 1)
    high = np.maximum(high, low + np.float32(_SMALLEST))
    width, zero = affine_params(low, high, bits)
    return QuantParams(tensor, width, bits, None, False, zero, rounding="half_even")


def weight_grid(name: str, value: np.ndarray, bits: int, axis: Optional[int]) -> QuantParams:
    """A weight's symmetric grid: its largest magnitude, per channel of ``axis`` or in all."""
    scale = abs_max(value) if axis is None else channel_wise_abs_max(value, axis)
    scale = np.maximum(np.asarray(scale, np.float32).reshape(-1), np.float32(1e-8))
    return QuantParams(name, scale, bits, axis, is_weight=True)


def _weight(scope: Any, name: str) -> np.ndarray:
    held = scope.find_var(name)
    if held is None or not held.get_tensor()._is_initialized():
        raise ModelError(f"The weight '{name}' has no value, so it cannot be quantized; load the model's parameters.")
    value = np.array(held.get_tensor())
    if not np.all(np.isfinite(value)):
        raise ModelError(f"The weight '{name}' holds NaN or infinity, so it cannot be quantized; check the model.")
    return value
