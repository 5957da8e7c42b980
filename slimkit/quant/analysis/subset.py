"""Tables with fewer ops, and the rules of a config that make them."""

from __future__ import annotations

from typing import Any, Callable, Collection, Dict, List, Set

from slimkit.ir.graph import Graph, GraphOp
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.quant.config import QuantRule
from slimkit.quant.table import QuantizedOp, QuantTable

__all__ = ["leave_float", "only", "skip_rules"]

_LEFT = "left float, as asked"


def leave_float(table: QuantTable, outputs: Collection[str]) -> QuantTable:
    """The same table without some ops, and without the grids that nobody reads then.

    Args:
        table: is not changed.
        outputs: the ops, by their ``output``.
    """
    left = [op for op in table.ops if op.output in outputs]
    rows = [{"op": op.output, "type": op.type, "layer": "", "reason": _LEFT} for op in left]
    kept = _kept(table, lambda op: op.output not in outputs)
    return QuantTable(kept.params, kept.ops, [*table.skipped, *rows])


def only(table: QuantTable, outputs: Collection[str]) -> QuantTable:
    """The table of some ops alone."""
    return _kept(table, lambda op: op.output in outputs)


def _kept(table: QuantTable, keep: Callable[[QuantizedOp], bool]) -> QuantTable:
    ops = [op for op in table.ops if keep(op)]
    read = {key for op in ops for key in (*op.inputs.values(), *op.outputs.values())}
    return QuantTable({key: params for key, params in table.params.items() if key in read}, ops)


def skip_rules(model: Model, table: QuantTable, outputs: Collection[str]) -> List[QuantRule]:
    """Rules of a config that leave just these ops float when the model is quantized again.

    A rule is matched against the names an op reads and writes, so it may match a neighbour too; rules before it then
    keep the neighbour quantized.

    Args:
        model: the float model of the table.
        table: the quantized ops.
        outputs: those to leave float, by their ``output``.

    Returns:
        The ordered rules, for ``PtqConfig.rules`` or ``QuantConfig.rules``.
    """
    named = _names(model)
    wanted = {op.output: _name(op, table) for op in table.ops if op.output in outputs}
    rules: List[QuantRule] = []
    for op in reversed(table.ops):  # readers first: the rule of an op also matches the ops that read its output
        read = named.get(op.output, set())
        if op.output in wanted:
            rules.append(QuantRule(op_types=[op.type], names=[_escaped(wanted[op.output])], skip=True))
        elif any(o.type == op.type and wanted.get(o.output) in read for o in table.ops):
            rules.append(QuantRule(op_types=[op.type], names=[_escaped(op.output)]))
    return rules


def _name(op: QuantizedOp, table: QuantTable) -> str:
    """What a rule knows an op by: its weight, if no other op of its type reads it, else its output."""
    for key in op.inputs.values():
        readers = [o for o in table.ops if o.type == op.type and table.params[key].tensor in _tensors(o, table)]
        if table.params[key].is_weight and len(readers) == 1:
            return table.params[key].tensor
    return op.output


def _tensors(op: QuantizedOp, table: QuantTable) -> Set[str]:
    return {table.params[key].tensor for key in op.inputs.values()}


def _names(model: Model) -> Dict[str, Set[str]]:
    """First output of each op -> the names of what it reads and writes."""
    with legacy_ir():
        graph = Graph(model.program, for_test=True)
        ops: List[GraphOp] = [op for part in graph.all_graphs() for op in part.ops() if op.outputs]
        return {op.outputs[0].name: _of(op) for op in ops}


def _of(op: Any) -> Set[str]:
    return {var.name for var in (*op.inputs, *op.outputs)}


def _escaped(name: str) -> str:
    """A wildcard pattern that matches this name alone."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)
