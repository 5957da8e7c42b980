"""Rewrite: the relu behind a residual add of signed integers becomes leaky_relu with slope 0.

The runtime fuses convolution, residual add and relu into one int8 op whose output, because of the relu, is unsigned. A
signed residual (a projection's output, which no relu precedes) is accumulated in the same buffer, and the result
saturates at half its range. Behind leaky_relu the output stays signed, which is what a leaky slope of 0 says with the
same arithmetic. The next block then has a signed residual too, so blocks are visited in order.
"""

from __future__ import annotations

from typing import Optional, Set

from slimkit.ir.graph import Graph, GraphOp, GraphVar

__all__ = ["rewrite"]

_UNSIGNED = ("relu", "relu6", "sigmoid", "hard_sigmoid")
#: Ops whose output has the sign of their input, seen through when a residual's origin is looked for.
_SIGN_KEEPING = ("quantize_linear", "dequantize_linear", "pool2d", "assign", "reshape2", "transpose2")


def rewrite(graph: Graph) -> int:
    """Edits the graph in place; returns how many relus became leaky."""
    leaky: Set[int] = set()
    for op in graph.ops("relu"):
        x, out = op.input_var("X"), op.output_var("Out")
        if x is None or out is None or not _adds_a_signed_grid(x.producer, leaky):
            continue
        graph.remove_op(op, remove_dangling=False)
        leaky.add(graph.insert_op("leaky_relu", {"X": x}, {"Out": out}, {"alpha": 0.0}).id)
    return len(leaky)


def _adds_a_signed_grid(add: Optional[GraphOp], leaky: Set[int]) -> bool:
    """Whether an op adds two activations, one of them dequantized and signed."""
    if add is None or add.type != "elementwise_add" or any(v.persistable for v in add.inputs):
        return False
    on_grid = [v for v in add.inputs if _behind_a_quantizer(v)]
    return any(not _unsigned(v, leaky) for v in on_grid)


def _behind_a_quantizer(var: GraphVar) -> bool:
    return var.producer is not None and var.producer.type == "dequantize_linear"


def _unsigned(var: GraphVar, leaky: Set[int]) -> bool:
    """Whether a tensor is kept as u8 by the runtime: a relu's output."""
    op = var.producer
    while op is not None and op.type in _SIGN_KEEPING:
        source = op.input_var("X")
        op = source.producer if source is not None else None
    return op is not None and op.type in _UNSIGNED and op.id not in leaky
