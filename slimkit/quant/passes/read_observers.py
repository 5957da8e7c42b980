"""Pass: ops that only measured are removed, and what they measured is kept for runtimes that want results on grids.

PaddleSlim 2.4 and later puts a quantize_linear/dequantize_linear pair with ``only_observer`` behind every op of its
onnx format: executors pass the values on, runtimes may take the scale. Its quantization-aware training has
``moving_average_abs_max_scale`` ops, and writes ``out_threshold`` attributes.
"""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import chain, count
from typing import Any, Dict, List, Mapping, Optional, Set

import numpy as np

from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.quant.ops import WEIGHT_OPS
from slimkit.quant.passes.extract_table import remove_unread, scope_value
from slimkit.quant.table import QuantizedOp, QuantParams, QuantTable

__all__ = ["RemoveObservers", "grid_key", "name_results", "strip_notes"]

#: Attributes that only say what a quantizer found.
_NOTES = re.compile(r"out_threshold|\w+\d_threshold|quantization_type|quantize_weight_bits|.*_quant_scale")
#: Ops that runtimes compute in one with the product before them.
_FUSED_BEHIND = ("batch_norm", "elementwise_add", "relu", "relu6", "leaky_relu", "clip")


class RemoveObservers:
    """See the module.

    Args:
        scope: holds the scales.
        keep: names that must stay, the model's results.
    """

    def __init__(self, scope: Any, keep: Set[str]) -> None:
        self.scope = scope
        self.keep = keep

    def apply(self, graph: Graph) -> Dict[str, QuantParams]:
        """Edits one block's graph in place; returns tensor -> the symmetric grid its measured range gives."""
        seen: Dict[str, QuantParams] = {}
        for op in graph.ops("moving_average_abs_max_scale"):
            self._scale_op(graph, op, seen)
        for op in graph.ops("dequantize_linear"):
            self._pair(graph, op, seen)
        for op in graph.ops():
            self._attributes(op, seen)
        return seen

    def _note(self, seen: Dict[str, QuantParams], tensor: str, scale: Any, bits: int = 8) -> None:
        value = np.asarray(scale, np.float32).reshape(-1)
        if value.size == 1 and np.isfinite(value[0]) and value[0] > 0:
            seen.setdefault(tensor, QuantParams(tensor, value, bits))

    def _scale_op(self, graph: Graph, op: GraphOp, seen: Dict[str, QuantParams]) -> None:
        x, out = op.input_var("X"), op.output_var("Out")
        names = op.output_names("OutScale")
        if x is None:
            return
        if names and self.scope.find_var(names[0]) is not None:
            self._note(seen, x.name, scope_value(self.scope, names[0]))
        self._bypass(graph, op, x, out)

    def _pair(self, graph: Graph, op: GraphOp, seen: Dict[str, QuantParams]) -> None:
        x = op.input_var("X")
        quantize = x.producer if x is not None else None
        source = quantize.input_var("X") if quantize is not None else None
        if quantize is None or source is None or quantize.type != "quantize_linear":
            return
        if not (op.attr("only_observer", False) and quantize.attr("only_observer", False)):
            return
        self._note(seen, source.name, scope_value(self.scope, op.input_names("Scale")[0]), op.attr("bit_length", 8))
        self._bypass(graph, op, source, op.output_var("Y"))

    def _bypass(self, graph: Graph, op: GraphOp, source: GraphVar, out: Any) -> None:
        if out is not None:
            graph.replace_all_uses(out, source)
        if out is not None and out.name in self.keep:
            graph.remove_op(op, remove_dangling=False)
            graph.insert_op("assign", {"X": source}, {"Out": out})
        remove_unread(graph, op)

    def _attributes(self, op: GraphOp, seen: Dict[str, QuantParams]) -> None:
        if op.attr("out_threshold") is not None and op.outputs:
            row = WEIGHT_OPS.get(op.type)
            out = op.output_var(row.output) if row is not None else op.output_var("Out") or op.output_var("Y")
            if out is not None:
                self._note(seen, out.name, op.attr("out_threshold"))


def strip_notes(graph: Graph) -> None:
    """Removes the attributes in which quantizers left what they found."""
    for op in graph.ops():
        for name in op.desc.attr_names():
            if _NOTES.fullmatch(name):
                op.desc.remove_attr(name)


def name_results(graph: Graph, table: QuantTable, seen: Mapping[str, QuantParams]) -> None:
    """Notes in ``QuantizedOp.outputs`` on which grid the result of each product with a weight lies.

    The result is taken as far behind the product as runtimes fuse. Its grid is the one all its readers read it on, or,
    where it goes into a residual add, the one that was measured for it: ONNX Runtime then adds integers. Elsewhere
    what was measured is not what the model computes, costs accuracy and saves no time.

    Args:
        graph: one block, float again.
        table: its rows are replaced.
        seen: tensor -> measured grid.
    """
    rows = {row.output: row for row in table.ops}
    for op in graph.ops(*WEIGHT_OPS):
        row = rows.get(op.outputs[0].name) if op.outputs else None
        if row is None or row.type != op.type:
            continue
        for var in reversed(_fused_results(op)):
            key = _read_on(var, rows, table)
            if key is None and var.name in seen and _is_residual(var):
                key = grid_key(table, seen[var.name])
            if key is not None:
                table.ops[table.ops.index(row)] = replace(row, outputs={var.name: key})
                break


def grid_key(table: QuantTable, params: QuantParams) -> str:
    """The key of a grid: that of an equal one in the table, else a new one, named as ``QuantTable.add`` does."""
    marked = f"{params.tensor}@{params.bits}bit" + ("" if params.axis is None else f"@axis{params.axis}")
    names = chain((params.tensor, marked), (f"{marked}@{number}" for number in count(2)))
    key = next(name for name in names if name not in table.params or _same(table.params[name], params))
    table.params.setdefault(key, params)
    return key


def _same(one: QuantParams, other: QuantParams) -> bool:
    plain = (one.tensor, one.bits, one.axis, one.symmetric, one.dynamic, one.rounding)
    return (
        plain == (other.tensor, other.bits, other.axis, other.symmetric, other.dynamic, other.rounding)
        and np.array_equal(one.scale, other.scale)
        and np.array_equal(one.zero_point, other.zero_point)
    )


def _fused_results(op: GraphOp) -> List[GraphVar]:
    """The product's result and those behind its batch norm, bias and activation, near to far."""
    var = op.output_var(WEIGHT_OPS[op.type].output)
    found: List[GraphVar] = []
    while var is not None:
        found.append(var)
        after = var.consumers[0] if len(var.consumers) == 1 else None
        if after is None or after.type not in _FUSED_BEHIND or after.input_var("X") is not var:
            break
        if after.type == "elementwise_add" and not _constant(after.input_var("Y")):
            break
        var = after.output_var("Y" if after.type == "batch_norm" else "Out")
    return found


def _is_residual(var: GraphVar) -> bool:
    adds = [op for op in var.consumers if op.type == "elementwise_add"]
    return any(not any(_constant(v) for v in op.inputs) for op in adds)


def _constant(var: Optional[GraphVar]) -> bool:
    """Whether a variable is a parameter, as it is or reshaped."""
    while var is not None and var.producer is not None and var.producer.type in ("reshape2", "unsqueeze2"):
        var = var.producer.input_var("X")
    return var is not None and var.persistable


def _read_on(var: GraphVar, rows: Mapping[str, QuantizedOp], table: QuantTable) -> Optional[str]:
    """The one grid that all readers of a tensor read it on, or None."""
    keys: Set[Optional[str]] = set()
    for reader in var.consumers:
        row = rows.get(reader.outputs[0].name) if reader.outputs else None
        read = row.inputs.values() if row is not None else ()
        keys.add(next((key for key in read if table.params[key].tensor == var.name), None))
    return keys.pop() if len(keys) == 1 else None
