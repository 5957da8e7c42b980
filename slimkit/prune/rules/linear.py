"""Products of matrices: fully connected layers, attention, embeddings."""

from __future__ import annotations

from typing import List, Optional, Tuple

import numpy as np

from slimkit.ir.graph_nodes import GraphOp, GraphVar
from slimkit.prune.flow import Flow, View, tracked
from slimkit.prune.groups import INPUT, OUTPUT
from slimkit.prune.rules.rule import Rule
from slimkit.prune.wording import an

__all__ = ["RULES"]


def _mul(flow: Flow, op: GraphOp) -> None:
    """``mul``: both sides are flattened to matrices."""
    source, weight, result = op.input_var("X"), op.input_var("Y"), op.output_var("Out")
    if source is None or weight is None or result is None:
        return
    last = flow.rank(source) - 1
    if flow.view(weight) is None or op.attr("x_num_col_dims", 1) != last or op.attr("y_num_col_dims", 1) != 1:
        _flattened_mul(flow, op, source, weight, result)
        return
    _weighted(flow, op, source, weight, result, contracted=0)


def _flattened_mul(flow: Flow, op: GraphOp, source: GraphVar, weight: GraphVar, result: GraphVar) -> None:
    """``mul`` on a tensor whose axes behind the batch are flattened, as ``fc`` on feature maps does."""
    split = int(op.attr("x_num_col_dims", 1))
    shape = flow.shape(source)
    labels = flow.channels(source)
    if flow.view(weight) is None or op.attr("y_num_col_dims", 1) != 1:
        flow.fix_inputs(op, "a mul op of two computed tensors reads them")
        return
    if labels is not None:
        for axis in range(split):
            labels = flow.hold(labels, axis, f"the mul op of '{weight.name}' keeps this axis")
    if labels is not None and any(size < 0 for size in shape[split:]):
        flow.labels.fix(labels, f"the mul op of '{weight.name}' flattens them with axes of unknown size")
        labels = None
    if labels is not None:
        flow.bind(weight, 0, np.broadcast_to(labels[(0,) * split], shape[split:]).ravel(), INPUT, op)
    out = flow.labels.fresh(int(weight.shape[1]))
    flow.bind(weight, 1, out, OUTPUT, op)
    flow.set(result, out.reshape([1] * (flow.rank(result) - 1) + [-1]))


def _weighted(
    flow: Flow, op: GraphOp, source: GraphVar, weight: GraphVar, result: GraphVar, contracted: int
) -> None:  # fmt: skip
    """A product with a stored matrix over the last axis of ``source``."""
    labels = flow.channels(source)
    last = flow.rank(source) - 1
    other = list(tracked(labels)) if labels is not None else []
    if labels is not None and any(axis != last for axis in other):
        labels = flow.hold(labels, last, f"the product with '{weight.name}' mixes another axis")
        flow.set(result, labels)
        return
    read = None if labels is None else flow.along(source, last, "")
    if read is not None:
        flow.bind(weight, contracted, read, INPUT, op)
    out = flow.labels.fresh(int(weight.shape[1 - contracted]))
    flow.bind(weight, 1 - contracted, out, OUTPUT, op)
    flow.set(result, out.reshape([1] * (flow.rank(result) - 1) + [-1]))


def _flags(op: GraphOp) -> Tuple[bool, bool]:
    if op.type == "matmul":
        return bool(op.attr("transpose_X", False)), bool(op.attr("transpose_Y", False))
    return bool(op.attr("trans_x", False)), bool(op.attr("trans_y", False))


def _matmul(flow: Flow, op: GraphOp) -> None:
    source, other, result = op.input_var("X"), op.input_var("Y"), op.output_var("Out")
    if source is None or other is None or result is None:
        return
    turned = _flags(op)
    view: Optional[View] = flow.view(other)
    if view is not None and len(view.axes) == 2 and not turned[0] and flow.rank(source) >= 2:
        _weighted(flow, op, source, other, result, contracted=1 if turned[1] else 0)
    elif flow.view(source) is not None or view is not None or min(flow.rank(source), flow.rank(other)) < 2:
        flow.fix_inputs(op, f"{an(op.type)} op with a stored matrix in this place has no rule")
    else:
        _activations(flow, op, source, other, result, turned)


def _activations(
    flow: Flow, op: GraphOp, source: GraphVar, other: GraphVar, result: GraphVar, turned: Tuple[bool, bool]
) -> None:
    """A product of two computed tensors: attention. The summed axis must not shrink; heads go whole."""
    reason = f"{an(op.type)} op sums the product of two computed tensors over them"
    sides: List[Optional[np.ndarray]] = []
    for labels, turn, contracted in ((flow.channels(source), turned[0], -1), (flow.channels(other), turned[1], -2)):
        if labels is not None and turn:
            labels = np.swapaxes(labels, -1, -2)
        sides.append(flow.hold(labels, contracted, reason))
    shapes = [flow.shape(source)[:-2], flow.shape(other)[:-2]]
    for place, labels in enumerate(list(sides)):
        for axis in tracked(labels)[::-1] if labels is not None else []:
            from_end = axis - (0 if labels is None else labels.ndim)
            if from_end < -2 and _stays(sides[1 - place], shapes[1 - place], from_end):
                sides[place] = flow.hold(sides[place], from_end, f"{an(op.type)} op pairs them with channels that stay")
    flow.set(result, _paired(flow, sides, flow.rank(result)))


def _stays(mate: Optional[np.ndarray], lead: List[int], from_end: int) -> bool:
    """Whether a batch axis has another length than 1 on the other side, and does not shrink there."""
    if mate is not None and mate.ndim >= -from_end and mate.shape[from_end] > 1:
        return False
    return len(lead) >= -from_end - 2 and lead[from_end + 2] != 1


def _paired(flow: Flow, sides: List[Optional[np.ndarray]], rank: int) -> Optional[np.ndarray]:
    """Joins the labels of both sides of a batched product: batch axes are shared; of rows and columns one side's."""
    found = [s.reshape((1,) * (rank - s.ndim) + s.shape) for s in sides if s is not None]
    for place, labels in enumerate(found):
        if any(axis < rank - 2 for axis in tracked(labels)):
            for axis in (rank - 2, rank - 1):
                labels = flow.labels.unite_along(labels, axis)
            found[place] = labels
    if len(found) < 2:
        return found[0] if found else None
    one, other = found
    if all(any(axis < rank - 2 for axis in tracked(labels)) for labels in found):
        flow.labels.unite(one, other)
        return np.broadcast_arrays(one, other)[0]
    flow.labels.fix(other, "a product of two computed tensors has them beside other channels that can go")
    return one


def _embedding(flow: Flow, op: GraphOp) -> None:
    table, result = op.input_var("W"), op.output_var("Out")
    if table is None or result is None or flow.view(table) is None:
        return
    out = flow.labels.fresh(int(table.shape[1]))
    flow.bind(table, 1, out, OUTPUT, op)
    flow.set(result, out.reshape([1] * (flow.rank(result) - 1) + [-1]))


RULES = {
    "mul": Rule(_mul),
    "matmul": Rule(_matmul),
    "matmul_v2": Rule(_matmul),
    "bmm": Rule(_matmul),
    "lookup_table_v2": Rule(_embedding),
}
