"""Rewrite: a square weight that several fully connected layers share becomes one for each of them: ``fully_connected``
stores a weight that stays float there transposed, which only its one reader can read."""

from __future__ import annotations

from typing import Any

from slimkit.ir.graph import Graph, GraphOp
from slimkit.quant.passes.onednn.stored_weight import array, stored_weight
from slimkit.quant.site import set_tensor

__all__ = ["rewrite"]


def rewrite(graph: Graph, scope: Any, place: Any) -> int:
    """Edits the graph in place; returns how many weights were copied."""
    return sum(_own(graph, op, scope, place) for op in graph.ops("mul", "matmul", "matmul_v2"))


def _own(graph: Graph, op: GraphOp, scope: Any, place: Any) -> bool:
    found, shared = stored_weight(op, "Y"), op.input_var("Y")
    if found is None or shared is None or len(shared.consumers) < 2:
        return False
    dequantize, stored = found
    if len(stored.shape) != 2 or stored.shape[0] != stored.shape[1]:
        return False
    name = f"{stored.name}.{op.outputs[0].name}"
    own = graph.create_var(name, stored.shape, stored.dtype, persistable=True, stop_gradient=True)
    set_tensor(scope, name, array(scope, stored.name), place)
    out = graph.create_var(f"{name}.dq", shared.shape, shared.dtype)
    known = {var.name: var for var in dequantize.inputs}
    known[stored.name] = own
    graph.insert_op_desc(dequantize.desc, known, {shared.name: out})
    graph.replace_input(op, shared, out)
    return True
