"""Pass: ops that change nothing at inference are taken out: dropout, ``scale`` by one, ``assign``.

What carries a value between blocks (a loop's variable, which its body assigns to) stays.
"""

from __future__ import annotations

from typing import Collection, Dict

from slimkit.ir.graph import Graph, GraphOp

__all__ = ["RemoveIdentity"]


class RemoveIdentity:
    """See the module.

    Args:
        keep: variables that must stay, the model's results.
    """

    def __init__(self, keep: Collection[str] = ()) -> None:
        self.keep = set(keep)

    def apply(self, graph: Graph) -> Dict[str, int]:
        """Edits the graph in place; returns the type of each op removed -> how many."""
        counts: Dict[str, int] = {}
        named = [{var.name for var in part.vars()} for part in graph.all_graphs()]
        carried = {name for i, names in enumerate(named) for other in named[i + 1 :] for name in names & other}
        for part in graph.all_graphs():
            for op in part.ops("dropout", "scale", "assign"):
                x, out = op.input_var("X"), op.output_var("Out")
                if x is None or out is None or out.name in self.keep | carried or not _is_identity(op):
                    continue
                if len(part.vars(out.name)) > 1 or len(part.vars(x.name)) > 1 or x.dtype != out.dtype:
                    continue  # written in place
                kind = op.type  # an op that has been removed cannot be asked any more
                part.replace_all_uses(out, x)
                part.remove_op(op)
                counts[kind] = counts.get(kind, 0) + 1
        return counts


def _is_identity(op: GraphOp) -> bool:
    if op.type == "dropout":
        return op.attr("dropout_implementation", "downgrade_in_infer") == "upscale_in_train" or (
            op.attr("dropout_prob", 0.5) == 0
        )
    if op.type == "scale":
        return op.attr("scale", 1.0) == 1.0 and op.attr("bias", 0.0) == 0.0 and not op.input_names("ScaleTensor")
    return True
