"""A copy of a program that paddle2onnx can read, with a mark on each tensor that gets a grid.

paddle2onnx 2.x goes through PIR, where variables have no names. So that a ``QuantTable``, which speaks of names, can
be written into the file it makes, each tensor in question passes through a ``clip`` with bounds no value reaches; the
upper bound says which mark it is. The marks come out as ``Clip`` nodes, and each becomes the Q/DQ pair of its tensor.
"""

from __future__ import annotations

import zlib  # noqa: F401  (before paddle)
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from slimkit.deploy.onnx_doubles import REWRITES
from slimkit.errors import ModelError
from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.quant.table import QuantizedOp, QuantTable

__all__ = ["Mark", "bounds_of", "mark_number", "prepared"]

#: The lower bound of a mark. Powers of two are exact in float32, and no activation comes near.
LOWEST = -(2.0**100)
#: The upper bounds of marks 0, 1, 2, ... are ``2**100 + number * 2**78``: neighbouring float32 values are 2**77 apart.
HIGHEST, STEP = 2.0**100, 2.0**78


@dataclass(frozen=True)
class Mark:
    """A tensor that gets a grid: ``key`` in the table, ``tensor`` its variable's name."""

    number: int
    key: str
    tensor: str


def bounds_of(number: int) -> Tuple[float, float]:
    """The clip bounds that stand for a mark."""
    return LOWEST, HIGHEST + number * STEP


def mark_number(low: float, high: float) -> Optional[int]:
    """The inverse of :func:`bounds_of`; None for the bounds of a real clip."""
    return round((high - HIGHEST) / STEP) if low == LOWEST and high >= HIGHEST else None


def prepared(model: Model, table: Optional[QuantTable]) -> Tuple[Model, List[Mark]]:
    """Returns a copy of a float model, rewritten for paddle2onnx, and its marks.

    Args:
        model: float inference model; it is not changed.
        table: the grids; None for a float export.

    Raises:
        ModelError: the table names an op or a tensor that the program does not have.
    """
    copy = model.clone(for_test=True, copy_params=True)
    marks: List[Mark] = []
    with legacy_ir():
        graph = Graph(copy.program, for_test=True)
        if table is not None:
            marks = _Marker(graph, table).apply()
        copy.program = graph.to_program()
        for rewrite in REWRITES:
            rewrite(copy)
    return copy, marks


class _Marker:
    """Puts the marks before the readers that the table lists; the other readers keep the float tensor."""

    def __init__(self, graph: Graph, table: QuantTable) -> None:
        self.graph, self.table = graph, table
        self.marks: List[Mark] = []
        self.marked: Dict[str, GraphVar] = {}

    def apply(self) -> List[Mark]:
        ops = {op.outputs[0].name: op for op in self.graph.ops() if op.outputs}
        for row in self.table.ops:
            op = ops.get(row.output)
            if op is None or op.type != row.type:
                raise ModelError(
                    f"The quantization table lists a {row.type} that computes '{row.output}' and the program has none; "
                    "export with the model the table was made for."
                )
            for slot, key in row.inputs.items():
                self._read(op, slot, key)
        for row in self.table.ops:
            for name, key in row.outputs.items():
                self._result(row, name, key)
        return self.marks

    def _read(self, op: GraphOp, slot: str, key: str) -> None:
        name, _, index = slot.partition(":")
        var = op.input_var(name, int(index or 0))
        if var is None:  # its reader was rewired already: one variable in two slots
            if key in self.marked and self.marked[key] in op.inputs:
                return
            raise ModelError(f"The {op.type} of '{op.outputs[0].name}' has no input {slot}, which the table quantizes.")
        if var in self.marked.values():
            return
        self.graph.replace_input(op, var, self._mark(var, key))

    def _result(self, row: QuantizedOp, name: str, key: str) -> None:
        """A result on a grid: every reader has it on that grid, also those that compute in float."""
        if not self.graph.has_var(name):
            raise ModelError(f"The quantization table puts '{name}' on a grid and the program has no such variable.")
        var = self.graph.var(name)
        marked = self._mark(var, key)
        for op in list(var.consumers):
            if op is not marked.producer and not any(v in self.marked.values() for v in op.outputs):
                self.graph.replace_input(op, var, marked)

    def _mark(self, var: GraphVar, key: str) -> GraphVar:
        if key not in self.marked:
            number = len(self.marks)
            low, high = bounds_of(number)
            out = self.graph.create_var(f"{key}.mark", var.shape, var.dtype)
            self.graph.insert_op("clip", {"X": var}, {"Out": out}, {"min": low, "max": high})
            self.marks.append(Mark(number, key, var.name))
            self.marked[key] = out
        return self.marked[key]
