"""Rewrite: a float weight of whole numbers, as detectors multiply distributions with 0, 1, 2, ..., comes through an
``assign``: the runtime takes it for stored integers and refuses the model because no scale belongs to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from slimkit.ir.graph import Graph
from slimkit.quant.ops import WEIGHT_OPS
from slimkit.quant.passes.onednn.stored_weight import array

__all__ = ["rewrite"]


def rewrite(graph: Graph, scope: Any) -> int:
    """Edits the graph in place; returns how many ops read such a weight."""
    count = 0
    for op in graph.ops(*WEIGHT_OPS):
        weight = op.input_var(WEIGHT_OPS[op.type].weight)
        if weight is None or not weight.persistable or weight.producer is not None:
            continue
        value = array(scope, weight.name)
        if value.dtype != np.float32 or not np.array_equal(value, np.round(value)):
            continue
        name = f"{weight.name}.assigned"
        if not graph.has_var(name):
            graph.insert_op("assign", {"X": weight}, {"Out": graph.create_var(name, weight.shape, weight.dtype)})
        graph.replace_input(op, weight, graph.var(name))
        count += 1
    return count
