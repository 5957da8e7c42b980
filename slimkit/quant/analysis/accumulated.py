"""The error of each op's output when everything is quantized."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Sequence

import numpy as np

from slimkit.ir.model import Model
from slimkit.ir.taps import Taps
from slimkit.numerics.error_sums import ErrorSums
from slimkit.quant.analysis.errors import grouped, sizes
from slimkit.quant.analysis.feeds import Feed

__all__ = ["output_errors"]


def output_errors(
    model: Model,
    simulated: Model,
    outputs: Sequence[str],
    feeds: Sequence[Feed],
    place: Any = None,
    tick: Optional[Callable[[], None]] = None,
) -> Dict[str, ErrorSums]:
    """Compares variables of a float and of a quantized model, those inside control flow too, turn by turn.

    Args:
        model: float.
        simulated: quantized, with the same names.
        outputs: variables to compare.
        feeds: small batches; of one, the float values of a group of variables are held.
        place: device.
        tick: called after each batch of each group.
    """
    found = {name: ErrorSums() for name in outputs}
    size = sizes(model, outputs, feeds[0]) if outputs else {}
    for group in grouped({name: [name] for name in outputs}, size):
        held: Dict[str, List[np.ndarray]] = {name: [] for name in group}
        keep = {name: _keeper(held[name]) for name in group}
        compare = {name: _comparer(found[name], held[name]) for name in group}
        with Taps(model, keep, place) as exact, Taps(simulated, compare, place) as quantized:
            for feed in feeds:
                exact.run(feed)
                quantized.run(feed)
                for values in held.values():
                    values.clear()
                if tick is not None:
                    tick()
    return found


def _keeper(held: List[np.ndarray]) -> Callable[[np.ndarray], None]:
    return lambda value: held.append(value.copy())


def _comparer(sums: ErrorSums, held: List[np.ndarray]) -> Callable[[np.ndarray], None]:
    def compare(value: np.ndarray) -> None:
        exact = held.pop(0) if held else None  # a loop may turn more often than the float one
        if exact is not None and exact.shape == value.shape:
            sums.add(exact, value)

    return compare
