"""Rewrite: the bias behind a depthwise_conv2d_transpose, which the runtime does not fuse, is added as (C, 1, 1): the
runtime adds one of shape (C,) along the wrong axis where its neighbours are oneDNN's, and fails."""

from __future__ import annotations

from typing import Any

from slimkit.ir.graph import Graph
from slimkit.quant.passes.onednn.stored_weight import array
from slimkit.quant.site import set_tensor

__all__ = ["rewrite"]


def rewrite(graph: Graph, scope: Any, place: Any) -> int:
    """Edits the graph in place; returns how many biases were shaped."""
    count = 0
    for op in graph.ops("elementwise_add"):
        x, bias = op.input_var("X"), op.input_var("Y")
        if x is None or bias is None or x.producer is None or x.producer.type != "depthwise_conv2d_transpose":
            continue
        if not bias.persistable or bias.producer is not None or len(bias.shape) != 1 or op.attr("axis", -1) != 1:
            continue
        name = f"{bias.name}.shaped"
        if not graph.has_var(name):
            shape = (*bias.shape, 1, 1)
            set_tensor(scope, name, array(scope, bias.name).reshape(shape), place)
            graph.create_var(name, shape, bias.dtype, persistable=True, stop_gradient=True)
        graph.replace_input(op, bias, graph.var(name))
        graph.drop_unread(bias)
        op.set_attr("axis", -1)
        count += 1
    return count
