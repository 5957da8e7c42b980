"""Rewrite: a tensor that two layers read on different grids, as layers trained one by one do, has one copy for each.

The runtime gives the op that computes the tensor one of the scales, and every reader has what that left: with
thresholds that differ by a factor of 2 the signal-to-noise ratio fell from 34 to 20 dB, with one of 5 to 7 dB.
"""

from __future__ import annotations

from typing import Dict, List

from slimkit.ir.graph import Graph, GraphOp

__all__ = ["rewrite"]

#: Quantizer -> the slot of its scale.
_SCALES = {"quantize_linear": "Scale", "fake_quantize_moving_average_abs_max": "InScale"}


def rewrite(graph: Graph) -> int:
    """Edits the graph in place; returns how many ``assign`` were put in."""
    read: Dict[str, Dict[str, List[GraphOp]]] = {}
    for op in graph.ops(*_SCALES):
        x, scale = op.input_var("X"), op.input_var(_SCALES[op.type])
        if x is not None and scale is not None and not x.persistable:
            read.setdefault(x.name, {}).setdefault(scale.name, []).append(op)
    made = 0
    for name, grids in read.items():
        for number, quantizers in enumerate(grids.values() if len(grids) > 1 else ()):
            x = graph.var(name)
            copy = graph.create_var(f"{name}.grid{number}", x.shape, x.dtype)
            graph.insert_op("assign", {"X": x}, {"Out": copy})
            for op in quantizers:
                graph.replace_input(op, x, copy)
            made += 1
    return made
