"""Ops that treat each channel alone and keep the shape's rank: activations, pooling, resizing of images."""

from __future__ import annotations

from typing import List, Optional

import numpy as np

from slimkit.ir.graph_nodes import GraphOp, GraphVar
from slimkit.prune.flow import Flow, tracked
from slimkit.prune.groups import VECTOR
from slimkit.prune.rules.elementwise import join
from slimkit.prune.rules.rule import Rule, channel_axis
from slimkit.prune.wording import an

__all__ = ["RULES", "source_of"]

#: Op types that treat every element, or every channel, alone.
_ALONE = (
    *("relu", "relu6", "sigmoid", "logsigmoid", "hard_swish", "hard_sigmoid", "swish", "silu", "gelu", "tanh"),
    *("leaky_relu", "elu", "selu", "celu", "mish", "softplus", "softsign", "soft_relu", "brelu", "hard_shrink"),
    *("softshrink", "tanh_shrink", "thresholded_relu", "stanh", "hard_tanh", "exp", "expm1", "log", "log2", "log10"),
    *("log1p", "sqrt", "rsqrt", "square", "abs", "sign", "floor", "ceil", "round", "trunc", "reciprocal", "sin", "cos"),
    *("tan", "asin", "acos", "atan", "sinh", "cosh", "erf", "pow", "scale", "cast", "clip", "dropout", "assign"),
    *("acosh", "asinh", "atanh", "erfinv", "logit", "lgamma", "digamma", "bitwise_not"),
    *("isnan_v2", "isinf_v2", "isfinite_v2", "logical_not", "increment", "share_data", "memcpy", "print"),
    *("lod_reset", "fill_any_like", "fill_zeros_like", "gaussian_noise"),
)

#: Op types that treat the image of every channel alone.
_IMAGES = (
    *("pool2d", "pool3d", "max_pool2d_with_index", "max_pool3d_with_index"),
    *("bilinear_interp", "bilinear_interp_v2", "nearest_interp", "nearest_interp_v2", "bicubic_interp_v2"),
    *("linear_interp_v2", "trilinear_interp_v2"),
)

#: Of these, the ones that may have no value at 0.
_NO_ZERO = ("log", "log2", "log10", "reciprocal", "rsqrt", "pow", "logit", "digamma", "lgamma", "acosh")


def source_of(op: GraphOp) -> Optional[GraphVar]:
    """The tensor that a one-tensor op works on."""
    for slot in ("X", "Input", "x"):
        if op.input_var(slot) is not None:
            return op.input_var(slot)
    return None


def _alone(flow: Flow, op: GraphOp) -> None:
    source = source_of(op)
    if source is None:
        return
    if op.type in _NO_ZERO:
        flow.labels.not_zero(flow.channels(source))
    result = op.output_var("Out") or op.output_var("Y") or op.output_var("Output")
    flow.fix_inputs(op, f"{an(op.type)} op reads them as a setting", but=[source])
    if result is None:
        return
    if result.shape == source.shape:  # a stored parameter is still one behind such an op
        flow.set_view(result, flow.view(source))
    flow.set(result, flow.channels(source))
    for slot in ("Mask", "Indices"):
        flow.set(op.output_var(slot), flow.channels(source))


def _within_images(flow: Flow, op: GraphOp) -> Optional[np.ndarray]:
    """Labels of the images of an op: channels of each go whole; those that lie along an image's sides stay."""
    source = source_of(op)
    labels = flow.channels(source)
    if source is None or labels is None:
        return None
    axis = channel_axis(op, flow.rank(source), "data_layout" if op.desc.has_attr("data_layout") else "data_format")
    for other in tracked(labels):
        if other not in (0, axis):
            labels = flow.hold(labels, other, f"{an(op.type)} op takes them for places of an image")
    return labels


def _images(flow: Flow, op: GraphOp) -> None:
    labels = _within_images(flow, op)
    flow.fix_inputs(op, f"{an(op.type)} op reads them as a setting", but=[source_of(op)])
    flow.set(op.output_var("Out"), labels)
    for slot in ("Mask", "Indices"):
        flow.set(op.output_var(slot), labels)


def _prelu(flow: Flow, op: GraphOp) -> None:
    source, alpha, result = op.input_var("X"), op.input_var("Alpha"), op.output_var("Out")
    if source is None or alpha is None or result is None:
        return
    labels = flow.channels(source)
    if labels is not None and op.attr("mode", "all") != "all":
        layout = str(op.attr("data_format", "NCHW"))
        axis = labels.ndim - 1 if layout.endswith("C") and labels.ndim > 2 else 1
        along = flow.along(source, axis, "a prelu op has a slope for each of them")
        if along is not None:
            sizes = list(alpha.shape)
            inner = next((i for i, size in enumerate(sizes) if size == along.size), None)
            if inner is None:
                flow.labels.fix(along, f"the slopes '{alpha.name}' do not lie along them")
            else:
                flow.bind(alpha, inner, along, VECTOR, op)
    flow.set(result, flow.channels(source))


def _pad(flow: Flow, op: GraphOp) -> None:
    """``pad`` has a pair of sizes for each axis; ``pad2d`` and ``pad3d`` pad images and leave the channels."""
    source, result = source_of(op), op.output_var("Out")
    labels = flow.channels(source)
    if source is None or result is None or labels is None:
        return
    paddings: List[int] = list(op.attr("paddings", []) or [])
    if op.type != "pad":
        flow.set(result, _within_images(flow, op))
        return
    for axis in tracked(labels):
        before, after = paddings[2 * axis : 2 * axis + 2]
        labels = _padded(flow, labels, axis, before, after)
        if labels is None:
            return
    flow.set(result, labels)


def _padded(flow: Flow, labels: np.ndarray, axis: int, before: int, after: int) -> Optional[np.ndarray]:
    if not before and not after:
        return labels
    if len(tracked(labels)) > 1:
        return flow.hold(labels, axis, "")
    parts = []
    for count in (before, after):
        zeros = flow.labels.fresh(count)
        flow.labels.fix(zeros, "they are zeros that a pad op adds")
        parts.append(zeros.reshape([-1 if i == axis else 1 for i in range(labels.ndim)]))
    return np.concatenate([parts[0], labels, parts[1]], axis)


def _sum(flow: Flow, op: GraphOp) -> None:
    variables = [v for name in op.input_names("X") for v in op.inputs if v.name == name]
    result = op.output_var("Out")
    if result is None or not variables:
        return
    shapes = [flow.shape(v) for v in variables]
    arrays = [flow.channels(v) for v in variables]
    flow.set(result, join(flow, arrays, shapes, op.type))


def _where(flow: Flow, op: GraphOp) -> None:
    variables = [op.input_var(slot) for slot in ("Condition", "X", "Y")]
    result = op.output_var("Out")
    present = [v for v in variables if v is not None]
    if result is None or len({flow.rank(v) for v in present}) != 1:
        flow.fix_inputs(op, "a where op with tensors of several ranks reads them")
        return
    flow.set(result, join(flow, [flow.channels(v) for v in present], [flow.shape(v) for v in present], op.type))


def _nothing(flow: Flow, op: GraphOp) -> None:
    """What the op gives has no channels that could go."""


RULES = {
    **{name: Rule(_alone) for name in _ALONE},
    **{name: Rule(_images) for name in _IMAGES},
    "prelu": Rule(_prelu),
    **{name: Rule(_pad) for name in ("pad", "pad2d", "pad3d")},
    "sum": Rule(_sum),
    "where": Rule(_where),
    **{name: Rule(_nothing) for name in ("shape", "size", "fill_constant", "feed", "fill_constant_batch_size_like")},
}
