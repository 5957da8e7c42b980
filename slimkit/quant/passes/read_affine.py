"""Affine grids read back: neither export format has them, so slimkit's exports compute them with plain ops.

Activations: ``(clip(round(x / step) - mz, 0, 2**bits - 1) + mz) * step`` with ``mz`` minus the zero point. Weights:
``(stored + offset) * step`` of a parameter that is stored as signed integers.
"""

from __future__ import annotations

from typing import Any, Collection, List, Optional

import numpy as np

from slimkit.ir.graph import GraphOp, GraphVar
from slimkit.quant.passes.extract_table import Found, scope_value
from slimkit.quant.passes.read_linear import store_floats
from slimkit.quant.table import QuantParams

__all__ = ["read_affine"]

_CHAIN = ("elementwise_mul", "elementwise_add", "clip", "elementwise_sub", "round", "elementwise_div")


def read_affine(scope: Any, op: GraphOp, integers: Collection[str]) -> Optional[Found]:
    """The affine grid whose last op is ``op``, or None.

    Args:
        scope: holds steps, zero points and weights; a stored weight becomes float in it.
        op: any op.
        integers: names of the parameters that are stored as integers.
    """
    if op.type != "elementwise_mul":
        return None
    step, before = op.input_var("Y"), _producer(op.input_var("X"), "elementwise_add")
    if step is None or before is None or not step.persistable:
        return None
    stored = before.input_var("X")
    if stored is not None and stored.name in integers and stored.persistable:
        return _weight(scope, op, before, stored, step)
    chain = _chain(op)
    return _activation(scope, op, chain, step) if chain is not None else None


def _producer(var: Optional[GraphVar], op_type: str) -> Optional[GraphOp]:
    return var.producer if var is not None and var.producer is not None and var.producer.type == op_type else None


def _chain(last: GraphOp) -> Optional[List[GraphOp]]:
    ops = [last]
    for op_type in _CHAIN[1:]:
        op = _producer(ops[-1].input_var("X"), op_type)
        if op is None:
            return None
        ops.append(op)
    zeros, steps = (ops[1].input_var("Y"), ops[3].input_var("Y")), (ops[0].input_var("Y"), ops[5].input_var("Y"))
    same = zeros[0] is zeros[1] and steps[0] is steps[1] and zeros[0] is not None
    return ops if same and zeros[0].persistable and ops[2].attr("min") == 0 else None  # type: ignore[union-attr]


def _activation(scope: Any, op: GraphOp, chain: List[GraphOp], step: GraphVar) -> Optional[Found]:
    x, out = chain[-1].input_var("X"), op.output_var("Out")
    if x is None or out is None:
        return None
    levels = float(chain[2].attr("max"))
    bits = round(float(np.log2(levels + 1)))
    width = scope_value(scope, step.name).astype(np.float32).reshape(-1) * np.float32(levels)
    zero = -scope_value(scope, chain[1].input_names("Y")[0]).reshape(-1)
    return QuantParams(x.name, width, bits, None, False, zero.astype(np.int64), rounding="half_even"), x, out


def _weight(scope: Any, op: GraphOp, add: GraphOp, stored: GraphVar, step: GraphVar) -> Optional[Found]:
    out, offset_name = op.output_var("Out"), add.input_names("Y")[0]
    if out is None:
        return None
    steps, offset = scope_value(scope, step.name), scope_value(scope, offset_name)
    q = scope_value(scope, stored.name)
    axis, bits = _channels(steps, q.ndim), _bits(q)
    store_floats(scope, stored, (q + offset) * steps)
    zero = (2 ** (bits - 1) - offset).reshape(-1).astype(np.int64)
    width = steps.astype(np.float32).reshape(-1) * np.float32(2**bits - 1)
    params = QuantParams(stored.name, width, bits, axis, False, zero, is_weight=True, rounding="half_even")
    return params, stored, out


def _channels(steps: np.ndarray, ndim: int) -> Optional[int]:
    return next((d for d in range(ndim) if steps.ndim == ndim and steps.shape[d] > 1), None)


def _bits(q: np.ndarray) -> int:
    """The width whose signed integers the weight fills: a min-max grid reaches both ends."""
    most = max(-float(q.min(initial=0)), float(q.max(initial=0)) + 1)
    return next(bits for bits in range(2, 33) if 2 ** (bits - 1) >= most)
