"""Pass: takes the fake-quant ops out of a trained test graph and puts what they knew into a ``QuantTable``.

The graph is float again afterwards; freeze passes and exporters read the table only.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Set, Tuple

import numpy as np
import paddle

from slimkit.errors import ModelError
from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.ir.guards import legacy_ir
from slimkit.quant.ops import ACTIVATION_OPS, WEIGHT_OPS
from slimkit.quant.quantizers import AFFINE_EPSILON, AFFINE_MARK, set_tensor
from slimkit.quant.table import QuantizedOp, QuantParams, QuantTable

__all__ = ["ExtractTable", "remove_unread"]

#: Ops that quantize and dequantize in one: type -> whether their scale is dynamic for an activation.
_FUSED = {
    "fake_quantize_dequantize_moving_average_abs_max": False,
    "fake_quantize_dequantize_abs_max": True,
    "fake_channel_wise_quantize_dequantize_abs_max": True,
}


def _value(scope: Any, name: str) -> np.ndarray:
    var = scope.find_var(name)
    if var is None or not var.get_tensor()._is_initialized():
        raise ModelError(
            f"The variable '{name}' has no value in the scope; train the quantized program in this scope (or load its "
            "checkpoint) before it is converted."
        )
    return np.array(var.get_tensor())


def _max_abs(value: np.ndarray, axis: Optional[int]) -> np.ndarray:
    dims = tuple(d for d in range(value.ndim) if d != axis) if axis is not None else None
    return np.abs(value).max(axis=dims).astype(np.float32).reshape(-1)


def _affine_range(value: np.ndarray, axis: Optional[int]) -> Tuple[np.ndarray, np.ndarray]:
    dims = tuple(d for d in range(value.ndim) if d != axis) if axis is not None else None
    return np.asarray(value.min(axis=dims), np.float32).reshape(-1), np.asarray(
        value.max(axis=dims), np.float32
    ).reshape(-1)


def affine_params(low: np.ndarray, high: np.ndarray, bits: int) -> Tuple[np.ndarray, np.ndarray]:
    """Range width and zero point of an affine grid, in the arithmetic of the training ops (float32).

    Args:
        low: smallest values, shape [k].
        high: largest values, shape [k].
        bits: of the grid.
    """
    low, high = np.minimum(low, 0).astype(np.float32), np.maximum(high, 0).astype(np.float32)
    width = (high - low) + np.float32(AFFINE_EPSILON)
    step = width / np.float32(2**bits - 1)
    return width, -np.round(low / step).astype(np.int64)


class ExtractTable:
    """See the module.

    Args:
        scope: holds weights and scale states.
    """

    def __init__(self, scope: Any) -> None:
        self.scope = scope

    def apply(self, graph: Graph) -> QuantTable:
        """Edits the graph in place and returns the table."""
        table = QuantTable()
        self._fold_weights(graph)
        for part in graph.all_graphs():
            self._apply_block(part, table)
        return table

    def _fold_weights(self, graph: Graph) -> None:
        """Weights that a preprocess function computes from parameters become parameters with the computed values."""
        constant = _from_parameters(graph)
        inputs = [op.input_var("X") for op in graph.ops(*_FUSED)]
        computed = [x for x in inputs if x is not None and not x.persistable and x.node.id() in constant]
        if not computed:
            return
        program = graph.to_program()
        with legacy_ir():
            targets = [program.global_block().vars[v.name] for v in computed]
            pruned = program._prune(targets)
            place = paddle.CPUPlace()
            values = paddle.static.Executor(place).run(pruned, fetch_list=targets, scope=self.scope)
        for var, value in zip(computed, values):
            producer = var.producer
            graph.make_constant(var)
            set_tensor(self.scope, var.name, np.asarray(value), place)
            if producer is not None:
                remove_unread(graph, producer)

    def _apply_block(self, graph: Graph, table: QuantTable) -> None:
        sources: Dict[int, Tuple[GraphVar, str]] = {}
        fused: List[GraphOp] = []
        for op in graph.ops():
            found = self._read(graph, op)
            if found is None:
                continue
            params, x = found
            sources[op.output_var("Out").node.id()] = (x, table.add(params))  # type: ignore[union-attr]
            fused.append(op)
        for op in graph.ops():
            self._restore_op(graph, op, sources, table)
        for op in fused:
            remove_unread(graph, op)

    def _restore_op(
        self, graph: Graph, op: GraphOp, sources: Dict[int, Tuple[GraphVar, str]], table: QuantTable
    ) -> None:
        hits = [v for v in op.inputs if v.node.id() in sources]
        if not hits or op.type in _FUSED:
            return
        slots = _slots(op)
        inputs: Dict[str, str] = {}
        for slot in slots:
            for i, name in enumerate(op.input_names(slot)):
                hit = next((v for v in hits if v.name == name), None)
                if hit is not None:
                    inputs[slot if i == 0 else f"{slot}:{i}"] = sources[hit.node.id()][1]
        for var in hits:
            graph.replace_input(op, var, sources[var.node.id()][0])
        table.ops.append(QuantizedOp(op.type, op.outputs[0].name, inputs))

    def _read(self, graph: Graph, op: GraphOp) -> Optional[Tuple[QuantParams, GraphVar]]:
        if op.type in _FUSED:
            x = op.input_var("X")
            return (self._symmetric(op, x), x) if x is not None else None
        mark = op.attr(AFFINE_MARK, "")
        if mark:
            x = graph.var(mark)
            return self._affine(op, x), x
        return None

    def _symmetric(self, op: GraphOp, x: GraphVar) -> QuantParams:
        axis = op.attr("quant_axis") if op.type.startswith("fake_channel_wise") else None
        dynamic = _FUSED[op.type]
        if not dynamic:
            scale = _value(self.scope, op.input_names("InScale")[0])
        elif x.persistable:
            scale = _max_abs(_value(self.scope, x.name), axis)
        else:
            scale = np.ones(1, np.float32)
        return QuantParams(
            x.name,
            scale,
            bits=op.attr("bit_length"),
            axis=axis,
            is_weight=x.persistable,
            dynamic=dynamic and not x.persistable,
            rounding="half_even" if op.attr("round_type", 1) == 0 else "half_away",
        )

    def _affine(self, op: GraphOp, x: GraphVar) -> QuantParams:
        bits, axis = op.attr("bit_length"), op.attr("quant_axis")
        tail = "" if bits == 8 else str(bits)
        dynamic = False
        if x.persistable:
            low, high = _affine_range(_value(self.scope, x.name), axis if axis >= 0 else None)
        elif self.scope.find_var(f"{x.name}@low{tail}") is not None:
            low, high = (_value(self.scope, f"{x.name}@{end}{tail}") for end in ("low", "high"))
        else:
            low, high, dynamic = np.zeros(1, np.float32), np.ones(1, np.float32), True
        width, zero = affine_params(low, high, bits)
        return QuantParams(
            x.name,
            width,
            bits,
            axis if axis >= 0 else None,
            False,
            zero,
            is_weight=x.persistable,
            dynamic=dynamic,
            rounding="half_even",  # of the op "round", which affine grids are made with
        )


def _from_parameters(graph: Graph) -> Set[int]:
    """Ids of the variables that depend on nothing but parameters."""
    known = {v.node.id() for v in graph.vars() if v.persistable and v.producer is None}
    for op in graph.ops():
        if op.inputs and all(v.node.id() in known for v in op.inputs):
            known.update(v.node.id() for v in op.outputs)
    return known


def _slots(op: GraphOp) -> Tuple[str, ...]:
    if op.type in WEIGHT_OPS:
        row = WEIGHT_OPS[op.type]
        return (row.activation, row.weight)
    if op.type in ACTIVATION_OPS:
        return ACTIVATION_OPS[op.type].inputs
    return tuple(op.desc.input_names())


def remove_unread(graph: Graph, op: GraphOp) -> int:
    """Removes an op nobody reads, and the ops that only fed it; returns how many."""
    if not graph.has_op(op) or op.type in ("feed", "fetch") or any(v.consumers for v in op.outputs):
        return 0
    feeding = [v.producer for v in op.inputs if v.producer is not None]
    graph.remove_op(op)
    return 1 + sum(remove_unread(graph, p) for p in dict.fromkeys(feeding))
