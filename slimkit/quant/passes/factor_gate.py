"""Pass: ``x + x * gate`` becomes ``x * (gate + 1)``.

The gate, one number a channel behind a squeeze-and-excitation block, is small, and the sum over the whole feature map
(PP-OCRv4's neck has eight) is saved. Equal arithmetic up to float rounding.
"""

from __future__ import annotations

from typing import Collection, Dict, Optional

from slimkit.ir.graph import Graph, GraphOp, GraphVar

__all__ = ["FactorGate"]


class FactorGate:
    """See the module.

    Args:
        keep: variables that must stay, the model's results.
    """

    def __init__(self, keep: Collection[str] = ()) -> None:
        self.keep = set(keep)

    def apply(self, graph: Graph) -> Dict[str, int]:
        """Edits the graph in place; returns ``elementwise_add`` -> how many were saved."""
        count = sum(self._rewrite(part, op) for part in graph.all_graphs() for op in part.ops("elementwise_add"))
        return {"elementwise_add": count} if count else {}

    def _rewrite(self, graph: Graph, add: GraphOp) -> bool:
        for slot, other in (("X", "Y"), ("Y", "X")):
            x, product, out = add.input_var(slot), add.input_var(other), add.output_var("Out")
            if x is None or product is None or out is None or product.name in self.keep:
                continue
            mul = product.producer
            gate = _gate(mul, x) if mul is not None and len(product.consumers) == 1 else None
            if mul is None or gate is None or gate is x:
                continue
            raised = graph.create_var(f"{gate.name}.plus_one", gate.shape, gate.dtype)
            scale = {"scale": 1.0, "bias": 1.0, "bias_after_scale": True}
            graph.insert_op("scale", {"X": gate}, {"Out": raised}, scale)
            graph.replace_input(mul, gate, raised)
            graph.remove_op(add, remove_dangling=False)
            graph.replace_output(mul, product, out)
            graph.drop_unread(product)
            return True
        return False


def _gate(mul: GraphOp, x: GraphVar) -> Optional[GraphVar]:
    """The other operand of ``x * gate`` when it is one number a channel, so much smaller than the map."""
    if mul.type != "elementwise_mul" or len(mul.inputs) != 2 or x not in mul.inputs:
        return None
    gate = mul.input_var("Y") if mul.input_var("X") is x else mul.input_var("X")
    if gate is None or len(gate.shape) != 4 or tuple(gate.shape[2:]) != (1, 1) or len(x.shape) != 4:
        return None
    return gate
