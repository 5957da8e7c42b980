"""Pass: takes the fake-quant ops out of a trained test graph and puts what they knew into a ``QuantTable``.

The graph is float again afterwards; freeze passes and exporters read the table only.
"""

from __future__ import annotations

from typing import Any, Dict, Optional, Set, Tuple

import numpy as np
import paddle

from slimkit.errors import ModelError
from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.ir.guards import legacy_ir
from slimkit.quant.ops import ACTIVATION_OPS, WEIGHT_OPS
from slimkit.quant.quantizers import AFFINE_EPSILON, AFFINE_MARK, set_tensor
from slimkit.quant.table import QuantizedOp, QuantParams, QuantTable

__all__ = ["INTEGER_QUANTIZERS", "ExtractTable", "Found", "Sources", "is_quantizer", "remove_unread", "scope_value"]

#: Node id of a tensor on its grid -> the tensor before it was put there, and the grid's key.
Sources = Dict[int, Tuple[GraphVar, str]]
#: A grid, the tensor, and the tensor on the grid.
Found = Tuple[QuantParams, GraphVar, GraphVar]

#: Ops that quantize and dequantize in one: type -> whether their scale is dynamic for an activation.
_FUSED = {
    "fake_quantize_dequantize_moving_average_abs_max": False,
    "fake_quantize_dequantize_abs_max": True,
    "fake_channel_wise_quantize_dequantize_abs_max": True,
}
#: Ops that only quantize, of the old format; their grids are said in the same way.
INTEGER_QUANTIZERS = {
    "fake_quantize_moving_average_abs_max": False,
    "fake_quantize_range_abs_max": False,
    "fake_quantize_abs_max": True,
    "fake_channel_wise_quantize_abs_max": True,
}
_DYNAMIC = {**_FUSED, **INTEGER_QUANTIZERS}


def scope_value(scope: Any, name: str) -> np.ndarray:
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
        #: Weights read without a quantizer of their own: op -> slot -> key. Readers of other formats fill it.
        self.stored: Dict[GraphOp, Dict[str, str]] = {}

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
        inputs = [op.input_var("X") for op in graph.ops(*_FUSED) if _is_read_as_weight(op)]
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
        sources: Sources = {}
        quantizers: Dict[GraphOp, None] = {}
        for op in graph.ops():
            found = self._read(graph, op)
            if found is None:
                continue
            params, x, out = self._prepare(graph, op, found, sources, table)
            sources[out.node.id()] = (x, self._key(table, params))
            quantizers[op] = None
        for op in graph.ops():
            if op not in quantizers and not is_quantizer(op.type):
                self._restore_op(graph, op, sources, table)
        for op in quantizers:
            remove_unread(graph, op)

    def _key(self, table: QuantTable, params: QuantParams) -> str:
        return table.add(params)

    def _prepare(self, graph: Graph, op: GraphOp, found: Found, sources: Sources, table: QuantTable) -> Found:
        """For readers of deployed graphs: edits around a quantizer before it is undone."""
        return found

    def _restore_op(self, graph: Graph, op: GraphOp, sources: Sources, table: QuantTable) -> None:
        hits = [v for v in op.inputs if v.node.id() in sources]
        inputs: Dict[str, str] = {}
        for slot in dict.fromkeys((*_slots(op), *op.desc.input_names())) if hits else ():
            for i, name in enumerate(op.input_names(slot)):
                hit = next((v for v in hits if v.name == name), None)
                if hit is not None:
                    inputs[slot if i == 0 else f"{slot}:{i}"] = sources[hit.node.id()][1]
        for var in hits:
            graph.replace_input(op, var, sources[var.node.id()][0])
        inputs.update(self.stored.get(op, {}))
        if inputs:
            table.ops.append(QuantizedOp(op.type, op.outputs[0].name, inputs))

    def _read(self, graph: Graph, op: GraphOp) -> Optional[Found]:
        """The grid, the tensor and the tensor on the grid, if ``op`` is the last op of a quantizer."""
        out = op.output_var("Out")
        if op.type in _FUSED:
            x = op.input_var("X")
            return (self._symmetric(op, x), x, out) if x is not None and out is not None else None
        mark = op.attr(AFFINE_MARK, "")
        if mark and out is not None:
            x = graph.var(mark)
            return self._affine(op, x), x, out
        return None

    def _symmetric(self, op: GraphOp, x: GraphVar) -> QuantParams:
        axis = op.attr("quant_axis", 0) if op.type.startswith("fake_channel_wise") else None
        dynamic = _DYNAMIC[op.type]
        if not dynamic:
            scale = scope_value(self.scope, op.input_names("InScale")[0])
        elif x.persistable:
            scale = _max_abs(scope_value(self.scope, x.name), axis)
        else:
            scale = np.ones(1, np.float32)
        return QuantParams(
            x.name,
            scale,
            bits=op.attr("bit_length", 8),
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
            low, high = _affine_range(scope_value(self.scope, x.name), axis if axis >= 0 else None)
        elif self.scope.find_var(f"{x.name}@low{tail}") is not None:
            low, high = (scope_value(self.scope, f"{x.name}@{end}{tail}") for end in ("low", "high"))
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


def _is_read_as_weight(quantizer: GraphOp) -> bool:
    out = quantizer.output_var("Out")
    readers = out.consumers if out is not None else []
    return any(r.type in WEIGHT_OPS and r.input_var(WEIGHT_OPS[r.type].weight) is out for r in readers)


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


def is_quantizer(op_type: str) -> bool:
    """Whether an op type is one of Paddle's quantize, dequantize or scale-measuring ops."""
    return "quantize" in op_type or op_type == "moving_average_abs_max_scale"


def remove_unread(graph: Graph, op: GraphOp) -> int:
    """Removes an op nobody reads, and the ops that only fed it; returns how many."""
    if not graph.has_op(op) or op.type in ("feed", "fetch") or any(v.consumers for v in op.outputs):
        return 0
    feeding = [v.producer for v in op.inputs if v.producer is not None]
    graph.remove_op(op)
    return 1 + sum(remove_unread(graph, p) for p in dict.fromkeys(feeding))
