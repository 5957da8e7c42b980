"""Pass: integer weights that the old format holds as float32, stored as int8 and cast where they are read."""

from __future__ import annotations

from typing import Any, Iterable

import numpy as np
from paddle.base import core

from slimkit.ir.graph import Graph, GraphVar
from slimkit.quant.quantizers import set_tensor

__all__ = ["StoreIntegers"]

FP32 = core.VarDesc.VarType.FP32
#: Widest magnitude -> storage.
_STORAGE = ((127, np.int8, core.VarDesc.VarType.INT8), (32767, np.int16, core.VarDesc.VarType.INT16))


class StoreIntegers:
    """See the module.

    Args:
        scope: holds the weights and gets the stored ones, ``weight.int8`` beside ``weight``.
        place: where they live.
        names: the weights.
    """

    def __init__(self, scope: Any, place: Any, names: Iterable[str]) -> None:
        self.scope = scope
        self.place = place
        self.names = list(names)

    def apply(self, graph: Graph) -> int:
        """Edits the graph in place; returns how many weights are stored as integers now."""
        count = 0
        for part in graph.all_graphs():
            for name in self.names:
                for weight in part.vars(name):
                    if weight.dtype == FP32 and weight.consumers:
                        self._store(part, weight)
                        count += 1
        return count

    def _store(self, graph: Graph, weight: GraphVar) -> None:
        value = np.array(self.scope.find_var(weight.name).get_tensor())
        peak = np.abs(value).max(initial=0)
        narrow, dtype = next((n, d) for most, n, d in _STORAGE if peak <= most)
        name = f"{weight.name}.{np.dtype(narrow).name}"
        set_tensor(self.scope, name, value.astype(narrow), self.place)
        stored = graph.create_var(name, weight.shape, dtype, persistable=True, stop_gradient=True)
        real = graph.create_var(f"{name}.float", weight.shape, FP32)
        graph.replace_all_uses(weight, real)
        attrs = {"in_dtype": int(dtype), "out_dtype": int(FP32)}
        graph.insert_op("cast", {"X": stored}, {"Out": real}, attrs)
        graph.drop_unread(weight)
