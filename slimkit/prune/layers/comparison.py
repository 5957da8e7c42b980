"""Whether a layer computes the same before and after: what its parts and it itself give."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import paddle
from paddle import nn

from slimkit.ir.tracing import mode

__all__ = ["difference", "results"]

_SAMPLES = 4096
#: Sums of other lengths differ by rounding; a wrong network differs by as much as its values are large.
_TOLERANCE = 1e-3

#: A result: its shape, and some of its numbers.
Result = Tuple[List[int], np.ndarray]
Results = Dict[str, List[Result]]


def results(layer: nn.Layer, arguments: Sequence[Any]) -> Results:
    """Runs a layer in eval mode, without gradients.

    Args:
        layer: it.
        arguments: of its forward.

    Returns:
        Name of each part that has no parts, and "" for the layer -> what its calls gave: shape and up to 4096 numbers
        of each floating-point tensor.
    """
    found: Results = {}

    def hook(name: str) -> Any:
        def keep(part: nn.Layer, given: Any, result: Any) -> None:
            found.setdefault(name, []).extend(_numbers(result))

        return keep

    handles = [
        part.register_forward_post_hook(hook(name))
        for name, part in layer.named_sublayers()
        if not list(part.children())
    ]
    try:
        with paddle.no_grad(), mode(layer, False):
            found[""] = _numbers(layer(*arguments))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _numbers(result: Any) -> List[Result]:
    found = []
    for tensor in paddle.utils.flatten(result):
        if isinstance(tensor, paddle.Tensor) and tensor.is_floating_point():
            flat = tensor.astype("float32").reshape([-1])
            step = max(1, -(-flat.shape[0] // _SAMPLES))
            found.append((list(tensor.shape), flat[::step].numpy()))
    return found


def difference(masked: Results, pruned: Results, discrete: bool = False, shrinks: bool = False) -> Optional[str]:
    """Says where a pruned layer computes something else than the masked one; None where it does not.

    Parts whose results have other shapes by now are passed over.

    Args:
        masked: with zeros.
        pruned: physically.
        discrete: the results are chosen boxes, which flip where two scores are nearly equal; its parts are compared.
        shrinks: channels of the results go.
    """
    shapes = [[shape for shape, _ in found.get("", ())] for found in (masked, pruned)]
    if not discrete and not shrinks and shapes[0] != shapes[1]:
        return f"its results have the shapes {shapes[1]} then, and not {shapes[0]}"
    for name, expected in masked.items():
        if (discrete and name == "") or len(expected) != len(pruned.get(name, ())):
            continue
        for (shape, one), (now, other) in zip(expected, pruned[name]):
            if shape == now and not _close(one, other):
                place = f"its part '{name}' computes" if name else "it computes"
                worst = float(np.nanmax(np.abs(one - other)))
                return f"{place} something else, by up to {worst:.2g} where numbers are up to {np.abs(one).max():.2g}"
    return None


def _close(one: np.ndarray, other: np.ndarray) -> bool:
    same = np.isfinite(one) & np.isfinite(other)
    if not np.array_equal(np.isfinite(one), np.isfinite(other)):
        return False
    scale = float(np.abs(one[same]).max(initial=0.0))
    return bool((np.abs(one - other)[same] <= _TOLERANCE * scale + 1e-6).all())
