"""Convolutions."""

from __future__ import annotations

from typing import Any, Optional, Sequence

import numpy as np

from slimkit.ir.graph_nodes import GraphOp, GraphVar
from slimkit.prune.flow import Flow
from slimkit.prune.groups import DEPTHWISE, INPUT, OUTPUT, VECTOR
from slimkit.prune.rules.rule import Rule, channel_axis
from slimkit.prune.wording import an

__all__ = ["RULES"]


def _spread(labels: np.ndarray, rank: int, axis: int) -> np.ndarray:
    """Labels along one axis of a tensor of a rank."""
    return labels.reshape([-1 if i == axis else 1 for i in range(rank)])


def _emit(flow: Flow, op: GraphOp, out: Optional[np.ndarray], axis: int) -> None:
    result = op.output_var("Output") or op.output_var("Out")
    if out is None or result is None:
        return
    if op.input_var("Bias") is not None:
        flow.bind(op.input_var("Bias"), 0, out, VECTOR, op)
    flow.set(result, _spread(out, flow.rank(result), axis))


def _usable(flow: Flow, op: GraphOp, weight: Optional[GraphVar]) -> bool:
    if weight is None or flow.view(weight) is None:
        maker = "computed" if weight is None or weight.producer is None else f"made by {an(weight.producer.type)} op"
        flow.fix_inputs(op, f"the filters of {an(op.type)} op are {maker}, not stored")
        return False
    return True


def _depthwise(flow: Flow, op: GraphOp, read: Optional[np.ndarray], filters: int) -> Optional[np.ndarray]:
    """One filter (or several) a channel: the channels pass; returns the results' labels."""
    if read is None:
        return None
    out = np.repeat(read, filters // read.size)
    flow.bind(op.input_var("Filter"), 0, out, DEPTHWISE, op)
    return out


def _conv(flow: Flow, op: GraphOp) -> None:
    source, weight = op.input_var("Input"), op.input_var("Filter")
    if source is None or weight is None or not _usable(flow, op, weight):
        return
    for slot in ("Offset", "Mask", "ResidualData"):
        flow.fix(op.input_var(slot), f"{an(op.type)} op reads them as its {slot.lower()}")
    rank = flow.rank(source)
    axis = channel_axis(op, rank)
    read = flow.along(source, axis, f"the {op.type} op of '{weight.name}' reads them")
    filters, per_group = int(weight.shape[0]), int(weight.shape[1])
    groups = int(op.attr("groups", 1) or 1)
    if groups > 1 and per_group == 1:
        out = _depthwise(flow, op, read, filters)
    else:
        out = flow.labels.fresh(filters)
        if groups > 1:
            flow.labels.unite_along(out.reshape(groups, -1), 0)
        flow.bind(weight, 0, out, OUTPUT, op)
        if read is not None:
            if groups > 1:
                flow.labels.unite_along(read.reshape(groups, -1), 0)
            flow.bind(weight, 1, read[:per_group], INPUT, op)
    _offsets(flow, op, (read, out))
    _emit(flow, op, out, axis)


def _offsets(flow: Flow, op: GraphOp, both: Sequence[Optional[np.ndarray]]) -> None:
    """Each offset of a deformable convolution serves as many channels as the others; Paddle asks it of results too."""
    parts = int(op.attr("deformable_groups", 1) or 1)
    for labels in both:
        if labels is not None and parts > 1:
            flow.labels.unite_along(labels.reshape(parts, -1), 0)


def _transposed(flow: Flow, op: GraphOp) -> None:
    source, weight = op.input_var("Input"), op.input_var("Filter")
    if source is None or weight is None or not _usable(flow, op, weight):
        return
    axis = channel_axis(op, flow.rank(source))
    read = flow.along(source, axis, f"the {op.type} op of '{weight.name}' reads them")
    filters, per_group = int(weight.shape[0]), int(weight.shape[1])
    groups = int(op.attr("groups", 1) or 1)
    if groups > 1 and per_group == 1 and filters == groups:
        out = _depthwise(flow, op, read, filters)
    else:
        out = flow.labels.fresh(per_group * groups)
        if groups > 1:
            flow.labels.unite_along(out.reshape(groups, -1), 0)
        flow.bind(weight, 1, out[:per_group], OUTPUT, op)
        if read is not None:
            if groups > 1:
                flow.labels.unite_along(read.reshape(groups, -1), 0)
            flow.bind(weight, 0, read, INPUT, op)
    _emit(flow, op, out, axis)


def _groups(sizes: Any, op: GraphOp) -> None:
    """A depthwise convolution has as many groups as channels."""
    source, weight = op.input_var("Input"), op.input_var("Filter")
    groups = int(op.attr("groups", 1) or 1)
    transposed = op.type.endswith("transpose")
    if source is None or weight is None or groups == 1 or int(weight.shape[1]) != 1:
        return
    if transposed and int(weight.shape[0]) != groups:
        return
    sizes.set_attr(op, "groups", sizes.new_shape(source)[channel_axis(op, len(source.shape))])


CONV = Rule(_conv, _groups)
TRANSPOSED = Rule(_transposed, _groups)

RULES = {
    "conv1d": CONV,
    "conv2d": CONV,
    "conv3d": CONV,
    "depthwise_conv2d": CONV,
    "deformable_conv": CONV,
    "deformable_conv_v1": CONV,
    "conv2d_transpose": TRANSPOSED,
    "conv3d_transpose": TRANSPOSED,
    "depthwise_conv2d_transpose": TRANSPOSED,
}
