"""The values quantization-aware training starts from: scales and alpha before the first step."""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, Mapping

import numpy as np

from slimkit.quant.passes.insert_fake_quant import FakeQuantReport
from slimkit.quant.quantizers import set_tensor

__all__ = ["activation_widths", "start_values", "write_start_values"]

def activation_widths(report: FakeQuantReport, weights: Iterable[str]) -> Dict[str, List[int]]:
    """Activation -> the widths (bits) of its grids, narrowest first.

    Args:
        report: of the training program.
        weights: names that are no activations.
    """
    fixed = set(weights)
    widths: Dict[str, List[int]] = {}
    for row in report.quantized:
        for slot, tensor in row["inputs"].items():
            if tensor not in fixed:
                widths[tensor] = sorted({*widths.get(tensor, []), row["bits"][slot]})
    return widths


def start_values(name: str, bits: int, found: Mapping[str, float], moving_rate: float) -> Dict[str, float]:
    """State variable -> start value. state = 1/(1-k) makes accum/state the plain moving average at once.

    Args:
        name: the activation.
        bits: of one of its grids.
        found: its range from ``initial_ranges``.
        moving_rate: k.
    """
    tail, settled = "" if bits == 8 else str(bits), 1.0 / (1.0 - moving_rate)
    values = {f"{name}@alpha": found["alpha"], f"{name}@scale{tail}": found["abs_max"]}
    values.update({f"{name}@state{tail}": settled, f"{name}@accum{tail}": found["abs_max"] * settled})
    values.update({f"{name}@range_state{tail}": settled})
    for end in ("low", "high"):
        values.update({f"{name}@{end}{tail}": found[end], f"{name}@{end}_accum{tail}": found[end] * settled})
    return values


def write_start_values(
    scope: Any,
    widths: Mapping[str, List[int]],
    ranges: Mapping[str, Mapping[str, float]],
    moving_rate: float,
    place: Any,
) -> None:
    """Sets the state variables that a scope has for some activations to their start values.

    Args:
        scope: gets the values.
        widths: activation -> the bits of its grids.
        ranges: from ``initial_ranges``.
        moving_rate: k.
        place: device.
    """
    for name, found in ranges.items():
        for bits in widths[name]:
            for state, value in start_values(name, bits, found, moving_rate).items():
                if scope.find_var(state) is not None:
                    set_tensor(scope, state, np.full(1, value, np.float32), place)
