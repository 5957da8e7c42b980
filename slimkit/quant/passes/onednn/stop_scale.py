"""Rewrite: an ``assign`` where the runtime must not carry a scale across an op that changes the range.

Scales are propagated through pooling, slicing, resizing and ``scale``, backwards too: the scale of an average pool's
output is given to its input, whose larger values then saturate; and an average pool whose input has a scale gives it to
its output, which loses its resolution. A quantizer behind a conv2d_transpose, also through its bias and activation,
aborts. ``assign`` stops all of these. A max pool has the range of its input and needs none.
"""

from __future__ import annotations

from typing import Optional

from slimkit.ir.graph import Graph, GraphOp, GraphVar

__all__ = ["rewrite"]

_QUANTIZERS = ("quantize_linear", "fake_quantize_moving_average_abs_max")
#: Ops across which the runtime carries a scale although they change the range.
_RANGE_CHANGING = ("scale", "slice", "nearest_interp", "nearest_interp_v2", "split")
_RESHAPING = ("reshape2", "unsqueeze2", "squeeze2", "transpose2")
#: Ops the runtime fuses into the convolution before them.
_FUSED_BEHIND = ("batch_norm", "elementwise_add", "relu", "relu6", "hard_swish", "leaky_relu", "sigmoid", "swish")


def rewrite(graph: Graph) -> int:
    """Edits the graph in place; returns how many ``assign`` were put in."""
    behind = sum(_before_a_quantizer(graph, op) for op in graph.ops(*_QUANTIZERS))
    return behind + sum(_before_an_average(graph, op) for op in graph.ops("pool2d"))


def _before_a_quantizer(graph: Graph, op: GraphOp) -> bool:
    x = op.input_var("X")
    while x is not None and x.producer is not None and x.producer.type in _RESHAPING:
        op = x.producer
        x = op.input_var("X")
    if x is None or x.producer is None:
        return False
    if not _is_average(x.producer) and x.producer.type not in _RANGE_CHANGING and not _behind(x, "conv2d_transpose"):
        return False
    _assign(graph, op, x)
    return True


def _before_an_average(graph: Graph, op: GraphOp) -> bool:
    x = op.input_var("X")
    if not _is_average(op) or x is None or x.producer is None or x.producer.type != "dequantize_linear":
        return False
    _assign(graph, op, x)
    return True


def _assign(graph: Graph, op: GraphOp, x: GraphVar) -> None:
    name = f"{x.name}.assigned"
    if graph.has_var(name) and graph.var(name).producer is not None:
        graph.replace_input(op, x, graph.var(name))
        return
    copy = graph.create_var(name, x.shape, x.dtype)
    graph.insert_op("assign", {"X": x}, {"Out": copy})
    graph.replace_input(op, x, copy)


def _is_average(op: Optional[GraphOp]) -> bool:
    return op is not None and op.type == "pool2d" and op.attr("pooling_type") == "avg"


def _behind(var: GraphVar, op_type: str) -> bool:
    """Whether a variable is an op's output, seen through batch norm, bias and activation."""
    while var.producer is not None and var.producer.type in _FUSED_BEHIND:
        source = var.producer.input_var("X")
        if source is None:
            return False
        var = source
    return var.producer is not None and var.producer.type == op_type
