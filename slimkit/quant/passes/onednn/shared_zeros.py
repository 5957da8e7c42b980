"""Rewrite: every grid has zero points of its own, a tenth of a small model. The runtime reads none: one is enough."""

from __future__ import annotations

from typing import Any

import numpy as np

from slimkit.ir.graph import Graph
from slimkit.quant.passes.onednn.stored_weight import array
from slimkit.quant.site import FP32, set_tensor

__all__ = ["rewrite"]

ZERO = "q"


def rewrite(graph: Graph, scope: Any, place: Any) -> int:
    """Edits the graph in place; returns how many ops share the constant now."""
    shared = 0
    for op in graph.ops("quantize_linear", "dequantize_linear"):
        zero = op.input_var("ZeroPoint")
        if zero is None or zero.name == ZERO or not zero.persistable or array(scope, zero.name).any():
            continue
        if not graph.has_var(ZERO):
            set_tensor(scope, ZERO, np.zeros(1, np.float32), place)
            graph.create_var(ZERO, (1,), FP32, persistable=True, stop_gradient=True)
        graph.replace_input(op, zero, graph.var(ZERO))
        graph.drop_unread(zero)
        shared += 1
    return shared
