"""Pass: what Paddle Inference's oneDNN int8 passes get wrong, written so that they get it right.

The rewrites keep the arithmetic of the graph; each row of the docstring of a method names the defect it avoids
(measured on Paddle 3.3.1).
"""

from __future__ import annotations

from typing import Any

from slimkit.ir.graph import Graph, GraphOp, GraphVar

__all__ = ["LegalizeOnednn"]

_QUANTIZERS = ("quantize_linear", "fake_quantize_moving_average_abs_max")
#: Ops across which the runtime carries a scale backwards although they change the range.
_RANGE_CHANGING = ("pool2d", "slice", "nearest_interp", "nearest_interp_v2", "split")


class LegalizeOnednn:
    """See the module.

    Args:
        scope: holds the constants.
    """

    def __init__(self, scope: Any) -> None:
        self.scope = scope

    def apply(self, graph: Graph) -> int:
        """Edits the graph in place; returns how many places were rewritten."""
        return sum(self._stop_scales(graph, op) for op in graph.ops(*_QUANTIZERS))

    @staticmethod
    def _stop_scales(graph: Graph, op: GraphOp) -> int:
        """The scale of an average pool's output is given to its input too, which then saturates: an ``assign`` between
        pool and quantizer stops it."""
        x = op.input_var("X")
        if x is None or x.producer is None or x.producer.type not in _RANGE_CHANGING:
            return 0
        copy: GraphVar = graph.create_var(f"{x.name}.assigned", x.shape, x.dtype)
        graph.insert_op("assign", {"X": x}, {"Out": copy})
        graph.replace_input(op, x, copy)
        return 1
