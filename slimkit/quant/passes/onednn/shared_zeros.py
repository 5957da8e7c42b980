"""Rewrite: every grid brings zero points of its own, a tenth of a small model; one constant per length is enough."""

from __future__ import annotations

from typing import Any

import numpy as np

from slimkit.ir.graph import Graph
from slimkit.quant.passes.onednn.stored_weight import array
from slimkit.quant.site import FP32, set_tensor

__all__ = ["rewrite"]


def rewrite(graph: Graph, scope: Any, place: Any) -> int:
    """Edits the graph in place; returns how many ops share a constant now."""
    shared = 0
    for op in graph.ops("quantize_linear", "dequantize_linear"):
        zero = op.input_var("ZeroPoint")
        if zero is None or not zero.persistable or array(scope, zero.name).any():
            continue
        size = int(np.prod(zero.shape))
        name = f"zeros@{size}"
        if not graph.has_var(name):
            set_tensor(scope, name, np.zeros(size, np.float32), place)
            graph.create_var(name, (size,), FP32, persistable=True, stop_gradient=True)
        graph.replace_input(op, zero, graph.var(name))
        graph.drop_unread(zero)
        shared += 1
    return shared
