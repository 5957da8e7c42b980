"""Pass: a scalar factor and shift in front of products become part of the products' weights and biases.

PP-LCNetV3, the backbone of PP-OCRv4, has ``a * hard_swish(x) + b`` with two learned numbers in front of almost every
convolution: two passes over the feature map, which no runtime fuses. ``W (a x + b)`` is ``(a W) x + b sum(W)``. The
shift moves only into products that do not pad: zeros around the map are zeros of ``a x + b``, not of ``x``. There
the factor moves alone, ``W (a x + b) = (a W) (x + b / a)``.

``FoldLinear`` goes afterwards and joins the biases that appear here with what follows.
"""

from __future__ import annotations

from typing import Any, Collection, Dict, Optional, Tuple

import numpy as np
import paddle

from slimkit.errors import ModelError
from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.quant.ops import WEIGHT_OPS, weight_axis
from slimkit.quant.site import FP32, add_parameter

__all__ = ["FoldForward"]


class FoldForward:
    """See the module.

    Args:
        scope: holds the parameters; new ones are written in it.
        keep: variables that must stay, the model's results.
        place: device of the new parameters; None: CPU.
    """

    def __init__(self, scope: Any, keep: Collection[str] = (), place: Any = None) -> None:
        self.scope = scope
        self.keep = set(keep)
        self.place = place or paddle.CPUPlace()

    def apply(self, graph: Graph) -> Dict[str, int]:
        """Edits the graph in place; returns ``factor`` and ``shift`` -> how many were folded."""
        counts = {"factor": 0, "shift": 0}
        for part in graph.all_graphs():
            for op in part.ops("elementwise_mul"):
                counts["factor"] += self._factor(part, op)
            for op in part.ops("elementwise_add"):
                counts["shift"] += self._shift(part, op)
        return {kind: count for kind, count in counts.items() if count}

    def _factor(self, graph: Graph, op: GraphOp) -> bool:
        """``a x`` read by products, or by one ``+ b`` read by products, which becomes ``+ b / a``."""
        x, number = self._scalar(op)
        out = op.output_var("Out")
        if x is None or out is None or out.name in self.keep or not number:
            return False
        end, add = out, None
        if len(out.consumers) == 1 and out.consumers[0].type == "elementwise_add":
            add = out.consumers[0]
            y, shift = self._scalar(add)
            after = add.output_var("Out")
            if y is not out or after is None or after.name in self.keep:
                return False
            end = after
        if not end.consumers or not all(self._is_product(reader, end) for reader in end.consumers):
            return False
        for reader in list(end.consumers):
            weight, value = self._weight(reader)
            graph.replace_input(reader, weight, self._parameter(graph, f"{weight.name}.scaled", value * number))
            graph.drop_unread(weight)
        if add is not None:
            old = next(v for v in add.inputs if v is not out)
            graph.replace_input(
                add, old, self._parameter(graph, f"{old.name}.shift", np.full(old.shape, shift / number))
            )
            graph.drop_unread(old)
        graph.replace_all_uses(out, x)
        graph.remove_op(op)
        return True

    def _shift(self, graph: Graph, op: GraphOp) -> bool:
        """``x + b`` read by products that do not pad."""
        x, number = self._scalar(op)
        out = op.output_var("Out")
        if x is None or out is None or out.name in self.keep or not out.consumers:
            return False
        readers = list(out.consumers)
        if not all(self._is_product(reader, out) and _pads_nothing(reader) for reader in readers):
            return False
        for reader in readers:
            row = WEIGHT_OPS[reader.type]
            _, value = self._weight(reader)
            result = reader.output_var(row.output)
            if result is None:  # pragma: no cover - _is_product has looked
                continue
            transposed = bool(reader.attr("trans_y", False) or reader.attr("transpose_Y", False))
            axis = weight_axis(reader.type, transposed)
            bias = number * value.sum(axis=tuple(d for d in range(value.ndim) if d != axis))
            raw = graph.create_var(f"{result.name}.unshifted", result.shape, result.dtype)
            graph.replace_output(reader, result, raw)
            parameter = self._parameter(graph, f"{result.name}.shift", bias)
            attrs = {"axis": 1 if value.ndim == 4 else -1}
            graph.insert_op("elementwise_add", {"X": raw, "Y": parameter}, {"Out": result}, attrs)
        graph.replace_all_uses(out, x)
        graph.remove_op(op)
        return True

    # ---------------------------------------------------------------- what is there

    def _scalar(self, op: GraphOp) -> Tuple[Optional[GraphVar], float]:
        """(activation, number) of an op between an activation and a parameter of one element, or (None, 0)."""
        for slot, other in (("X", "Y"), ("Y", "X")):
            x, parameter = op.input_var(slot), op.input_var(other)
            if x is None or parameter is None or x.persistable or not parameter.persistable or parameter.producer:
                continue
            value = self._value(parameter)
            if (
                value is not None
                and value.size == 1
                and value.dtype == np.float32
                and len(parameter.shape) <= len(x.shape)
            ):
                return x, float(value.reshape(-1)[0])
        return None, 0.0

    def _is_product(self, op: GraphOp, x: GraphVar) -> bool:
        row = WEIGHT_OPS.get(op.type)
        if row is None or op.type == "conv2d_transpose" or op.input_var(row.activation) is not x:
            return False
        weight, out = op.input_var(row.weight), op.output_var(row.output)
        if weight is None or out is None or not weight.persistable or weight.producer is not None:
            return False
        plain = op.attr("alpha", 1.0) == 1.0 and not op.attr("trans_x", False) and not op.attr("transpose_X", False)
        shaped = op.attr("data_format", "NCHW") == "NCHW" and len(weight.shape) == (4 if "conv" in op.type else 2)
        return plain and shaped and weight.dtype == FP32 and self._value(weight) is not None

    def _weight(self, op: GraphOp) -> Tuple[GraphVar, np.ndarray]:
        weight = op.input_var(WEIGHT_OPS[op.type].weight)
        value = self._value(weight)
        if weight is None or value is None:  # pragma: no cover - _is_product has looked
            raise ModelError(f"The weight of {op} has no value; load the model's parameters.")
        return weight, value.astype(np.float64)

    def _value(self, var: Optional[GraphVar]) -> Optional[np.ndarray]:
        held = self.scope.find_var(var.name) if var is not None else None
        if held is None or not held.get_tensor()._is_initialized():
            return None
        return np.array(held.get_tensor())

    def _parameter(self, graph: Graph, name: str, value: np.ndarray) -> GraphVar:
        return add_parameter(graph, self.scope, name, value, self.place)


def _pads_nothing(op: GraphOp) -> bool:
    if "conv" not in op.type:
        return True
    weight = op.input_var("Filter")
    same = op.attr("padding_algorithm", "EXPLICIT") == "SAME"
    if same:
        return weight is not None and tuple(weight.shape[2:]) == (1, 1)
    return op.attr("padding_algorithm", "EXPLICIT") == "VALID" or not any(op.attr("paddings", [0, 0]))
