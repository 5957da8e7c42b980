"""Ops on two tensors of one shape, or of one that spreads over the other."""

from __future__ import annotations

from typing import List, Optional

import numpy as np

from slimkit.ir.graph_nodes import GraphOp, GraphVar
from slimkit.prune.flow import Flow, tracked
from slimkit.prune.groups import VECTOR
from slimkit.prune.rules.rule import Rule
from slimkit.prune.wording import an

__all__ = ["RULES", "join", "with_parameter"]

#: Ops whose second operand may not be 0 everywhere.
_DIVIDING = ("elementwise_div", "elementwise_pow", "elementwise_mod", "elementwise_floordiv")


def _offset(op: GraphOp, own: int, rank: int) -> int:
    """How many axes of the result lie before an operand's first."""
    axis = int(op.attr("axis", -1))
    return rank - own if axis == -1 else min(axis, rank - own)


def _widen(labels: Optional[np.ndarray], before: int, rank: int) -> Optional[np.ndarray]:
    if labels is None:
        return None
    return labels.reshape((1,) * before + labels.shape + (1,) * (rank - before - labels.ndim))


def _binary(flow: Flow, op: GraphOp) -> None:
    one, other, result = op.input_var("X"), op.input_var("Y"), op.output_var("Out")
    if one is None or other is None or result is None:
        return
    if op.type in _DIVIDING:
        flow.labels.not_zero(flow.channels(other))
    rank = max(flow.rank(one), flow.rank(other))
    stored = [flow.view(var) is not None for var in (one, other)]
    if all(stored):
        return
    if any(stored):
        parameter, computed = (one, other) if stored[0] else (other, one)
        labels = _widen(flow.channels(computed), _offset(op, flow.rank(computed), rank), rank)
        flow.set(result, with_parameter(flow, op, parameter, labels, rank))
        return
    arrays = [_widen(flow.channels(v), _offset(op, flow.rank(v), rank), rank) for v in (one, other)]
    shapes = [_full_shape(flow, op, v, rank) for v in (one, other)]
    flow.set(result, join(flow, arrays, shapes, op.type))


def _full_shape(flow: Flow, op: GraphOp, var: GraphVar, rank: int) -> List[int]:
    shape, before = flow.shape(var), _offset(op, flow.rank(var), rank)
    return [1] * before + shape + [1] * (rank - before - len(shape))


def with_parameter(
    flow: Flow, op: GraphOp, parameter: GraphVar, labels: Optional[np.ndarray], rank: int
) -> Optional[np.ndarray]:
    """A stored bias or scale: it shrinks along the channels it spreads over."""
    before = _offset(op, flow.rank(parameter), rank)
    view = flow.view(parameter)
    sizes = list(parameter.shape)
    if labels is None or view is None:
        return None
    for axis in tracked(labels):
        inner = axis - before
        if not 0 <= inner < len(sizes) or sizes[inner] == 1:
            continue
        if len(tracked(labels)) > 1:  # a stored tensor over (heads, width) and the like: only whole rows can go
            others = [a for a in tracked(labels) if a != axis]
            for a in others:
                labels = flow.labels.unite_along(labels, a)
        flow.bind(parameter, inner, labels.ravel(), VECTOR, op)
    return labels


def join(flow: Flow, arrays: List[Optional[np.ndarray]], shapes: List[List[int]], what: str) -> Optional[np.ndarray]:
    """Joins tensors that are combined element by element: their channels go together.

    Args:
        flow: the flow.
        arrays: each tensor's labels, of one rank.
        shapes: each tensor's shape, of that rank; -1 where it is not known.
        what: the op, for reasons.

    Returns:
        The labels of the result.
    """
    held = list(arrays)
    for place, labels in enumerate(arrays):
        for axis in tracked(labels) if labels is not None else []:
            for mate, shape in enumerate(shapes):
                other = arrays[mate]
                if mate != place and (other is None or other.shape[axis] == 1) and shape[axis] != 1:
                    reason = f"{an(what)} op joins them with channels that stay"
                    held[place] = flow.hold(held[place], axis, reason)
                    break
    found = [labels for labels in held if labels is not None]
    if not found:
        return None
    result = found[0]
    for labels in found[1:]:
        if set(tracked(result)) & set(tracked(labels)):
            flow.labels.unite(result, labels)
            result = np.broadcast_arrays(result, labels)[0]
        else:
            flow.labels.fix(labels, f"{an(what)} op spreads them over other channels that can go")
    return result


BINARY = Rule(_binary)

_TYPES = (
    *("elementwise_add", "elementwise_sub", "elementwise_mul", "elementwise_div", "elementwise_max"),
    *("elementwise_min", "elementwise_pow", "elementwise_mod", "elementwise_floordiv", "elementwise_fmax"),
    *("elementwise_fmin", "greater_than", "greater_equal", "less_than", "less_equal", "equal", "not_equal"),
    *("logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor"),
)

RULES = dict.fromkeys(_TYPES, BINARY)
