"""Rewrite: conv2d_transpose, which aborts on an int8 weight, gets the float values of the same grid."""

from __future__ import annotations

from typing import Any

from slimkit.ir.graph import Graph
from slimkit.quant.passes.onednn.stored_weight import real_values, stored_weight
from slimkit.quant.site import FP32, set_tensor

__all__ = ["rewrite"]


def rewrite(graph: Graph, scope: Any, place: Any) -> int:
    """Edits the graph in place; returns how many weights became float."""
    count = 0
    for op in graph.ops("conv2d_transpose"):
        weight = stored_weight(op, "Filter")
        if weight is None:
            continue
        dequantize, stored = weight
        var = graph.create_var(f"{stored.name}.on_grid", stored.shape, FP32, persistable=True, stop_gradient=True)
        set_tensor(scope, var.name, real_values(scope, dequantize, stored), place)
        out = dequantize.output_var("Y")
        if out is None:
            continue
        graph.replace_input(op, out, var)
        if not out.consumers:
            graph.remove_op(dequantize)
        count += 1
    return count
