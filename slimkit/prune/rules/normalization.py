"""Normalizations, and ops that compute over an axis."""

from __future__ import annotations

from typing import Any, List, Optional

import numpy as np

from slimkit.ir.graph_nodes import GraphOp
from slimkit.prune.flow import Flow
from slimkit.prune.groups import VECTOR
from slimkit.prune.rules.channelwise import source_of
from slimkit.prune.rules.rule import Rule, channel_axis
from slimkit.prune.wording import an

__all__ = ["RULES"]


def _vectors(flow: Flow, op: GraphOp, slots: List[str], labels: Optional[np.ndarray]) -> None:
    for slot in slots:
        var = op.input_var(slot)
        if var is not None and labels is not None:
            flow.bind(var, 0, labels, VECTOR, op)


def _batch_norm(flow: Flow, op: GraphOp) -> None:
    source = op.input_var("X")
    if source is None:
        return
    axis = channel_axis(op, flow.rank(source), "data_layout")
    along = flow.along(source, axis, "batch_norm has its statistics over them")
    _vectors(flow, op, ["Scale", "Bias", "Mean", "Variance"], along)
    for statistic in ("Mean", "Variance"):  # written in place: the next batch_norm that shares them reads this result
        flow.set_view(op.output_var(f"{statistic}Out"), flow.view(op.input_var(statistic)))
    if along is None:
        return
    flow.set(op.output_var("Y"), flow.channels(source))
    for slot in ("SavedMean", "SavedVariance"):
        flow.set(op.output_var(slot), along)


def _affine_channel(flow: Flow, op: GraphOp) -> None:
    source = op.input_var("X")
    if source is None:
        return
    axis = channel_axis(op, flow.rank(source), "data_layout")
    along = flow.along(source, axis, "affine_channel has its scale over them")
    _vectors(flow, op, ["Scale", "Bias"], along)
    if along is not None:
        flow.set(op.output_var("Out"), flow.channels(source))


def _instance_norm(flow: Flow, op: GraphOp) -> None:
    source = op.input_var("X")
    along = flow.along(source, 1, "instance_norm has its scale over them")
    _vectors(flow, op, ["Scale", "Bias"], along)
    if along is not None:
        flow.set(op.output_var("Y"), flow.channels(source))


def _group_norm(flow: Flow, op: GraphOp) -> None:
    """Whole groups of channels go, since each is normalized by itself."""
    source, result = op.input_var("X"), op.output_var("Y")
    if source is None or result is None:
        return
    scale = op.input_var("Scale")
    name = scale.name if scale is not None else result.name
    axis = channel_axis(op, flow.rank(source), "data_layout")
    along = flow.along(source, axis, f"the group_norm of '{name}' has its scale over them")
    groups = int(op.attr("groups", 1))
    if along is None:
        return
    if groups == 1 or not flow.editable:
        flow.labels.fix(along, f"the group_norm of '{name}' takes its mean over them")
        return
    flow.labels.unite_along(along.reshape(groups, -1), 1)
    _vectors(flow, op, ["Scale", "Bias"], along)
    flow.set(result, flow.channels(source))


def _fewer_groups(sizes: Any, op: GraphOp) -> None:
    source = op.input_var("X")
    if source is None or not sizes.changed(source):
        return
    axis = channel_axis(op, len(source.shape), "data_layout")
    old, new, groups = sizes.old_shape(source)[axis], sizes.new_shape(source)[axis], int(op.attr("groups", 1))
    sizes.set_attr(op, "groups", groups * new // old)


def _layer_norm(flow: Flow, op: GraphOp) -> None:
    source, result = op.input_var("X"), op.output_var("Y")
    if source is None or result is None:
        return
    labels = flow.channels(source)
    if labels is None:
        return
    begin = int(op.attr("begin_norm_axis", 1))
    inside = list(range(begin, labels.ndim))
    scale = op.input_var("Scale")
    name = scale.name if scale is not None else result.name
    if flow.layer_norm and len(inside) == 1 and labels.shape[inside[0]] > 1:
        along = flow.along(source, inside[0], f"the layer_norm of '{name}' has its scale over them")
        _vectors(flow, op, ["Scale", "Bias"], along)
        if along is not None:
            flow.labels.note(along, f"the layer_norm of '{name}' takes its mean over the channels that stay")
            flow.set(result, flow.channels(source))
        return
    reason = (
        f"the layer_norm of '{name}' takes its mean over them, so that removing some changes the others; allow it with "
        "layer_norm=True"
    )
    kept: Optional[np.ndarray] = labels
    for axis in inside:
        kept = flow.hold(kept, axis, reason)
    flow.set(result, kept)


def _over_axis(flow: Flow, op: GraphOp) -> None:
    """softmax and the like: the axis they compute over keeps its length."""
    source = source_of(op)
    if source is None:
        return
    axis = int(op.attr("dim" if op.type == "cumprod" else "axis", -1))
    held = flow.hold(flow.channels(source), axis, f"{an(op.type)} op computes over them")
    for slot in ("Out", "Indices"):
        result = op.output_var(slot)
        if held is not None and result is not None and flow.rank(result) != held.ndim:
            flow.labels.fix(held, f"{an(op.type)} op gives a tensor of another rank")
            return
        flow.set(result, held)


def _reduced_axes(op: GraphOp, rank: int) -> List[int]:
    if op.type == "mean":
        return list(range(rank))
    if op.type in ("arg_max", "arg_min"):
        return list(range(rank)) if op.attr("flatten", False) else [int(op.attr("axis", -1)) % rank]
    if op.type == "p_norm":
        return list(range(rank)) if op.attr("asvector", False) else [int(op.attr("axis", -1)) % rank]
    dims = op.attr("axis", None) if op.type == "logsumexp" else op.attr("dim", None)
    dims = [dims] if isinstance(dims, int) else list(dims or [])
    return list(range(rank)) if op.attr("reduce_all", False) or not dims else [int(d) % rank for d in dims]


def _reduce(flow: Flow, op: GraphOp) -> None:
    source, result = source_of(op), op.output_var("Out")
    labels = flow.channels(source)
    if source is None or labels is None or result is None:
        return
    axes = _reduced_axes(op, labels.ndim)
    kept: Optional[np.ndarray] = labels
    for axis in axes:
        kept = flow.hold(kept, axis, f"{an(op.type)} op computes over them")
    if kept is not None and flow.rank(result) != labels.ndim:
        kept = kept.reshape([n for axis, n in enumerate(kept.shape) if axis not in axes])
        if kept.ndim != flow.rank(result):
            flow.labels.fix(kept, f"{an(op.type)} op gives a tensor of unexpected rank")
            return
    flow.set(result, kept)


REDUCE = Rule(_reduce)
OVER_AXIS = Rule(_over_axis)

_OVER_AXIS = ("softmax", "log_softmax", "cumsum", "cumprod", "norm", "argsort", "kthvalue", "top_k_v2")
_REDUCE = (
    *("reduce_mean", "reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_any", "reduce_all"),
    *("reduce_amax", "reduce_amin", "frobenius_norm", "squared_l2_norm"),
    *("mean", "arg_max", "arg_min", "p_norm", "logsumexp"),
)

RULES = {
    "batch_norm": Rule(_batch_norm),
    "sync_batch_norm": Rule(_batch_norm),
    "instance_norm": Rule(_instance_norm),
    "group_norm": Rule(_group_norm, _fewer_groups),
    "affine_channel": Rule(_affine_channel),
    "layer_norm": Rule(_layer_norm),
    **dict.fromkeys(_OVER_AXIS, OVER_AXIS),
    **dict.fromkeys(_REDUCE, REDUCE),
}
