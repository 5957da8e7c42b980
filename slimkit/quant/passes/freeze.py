"""Passes: write a ``QuantTable`` into a float graph as a deployable quantized program.

``FreezeOnnx`` puts quantize_linear/dequantize_linear before the readers of each tensor and stores weights as int8.
``FreezeOld`` puts fake_quantize before the op and fake_dequantize behind it, the form Paddle-Lite and older Paddle
Inference know. Both give the arithmetic of training: no quantizer is added that training did not have.

Scales keep Paddle's convention: the clipping threshold, ``q = round(clip(x, -s, s) / s * (2**(bits-1)-1))``.
"""

from __future__ import annotations

from typing import Any, Dict, Optional

import numpy as np
from paddle.base import core

from slimkit.errors import ModelError
from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.quant.ops import WEIGHT_OPS
from slimkit.quant.passes.freeze_weights import linear_attrs, store_weight, weight_integers
from slimkit.quant.quantizers import Site, affine_grid, dynamic_abs_max, min_max, set_tensor
from slimkit.quant.table import QuantizedOp, QuantParams, QuantTable

__all__ = ["FORMATS", "FreezeOld", "FreezeOnnx", "weight_integers"]

FP32 = core.VarDesc.VarType.FP32


class _Freeze:
    """What both formats share: one quantizer a tensor, weights replaced in the scope."""

    def __init__(self, table: QuantTable, scope: Any, place: Any) -> None:
        self.table = table
        self.scope = scope
        self.place = place

    def apply(self, graph: Graph) -> None:
        """Edits the graph and the scope's weights in place."""
        by_output = {op.output: op for op in self.table.ops}
        self.written: Dict[str, np.ndarray] = {}
        for part in graph.all_graphs():
            self.done: Dict[str, GraphVar] = {}  # a loop's variable is another value in each turn, and behind the loop
            self.site = Site(part, self.scope, self.place, False, False, 0.9, 1)
            for op in part.ops():
                row = by_output.get(op.outputs[0].name) if op.outputs else None
                if row is not None and row.type == op.type:
                    self._freeze_op(part, op, row)
        for name, value in self.written.items():
            set_tensor(self.scope, name, value, self.place)

    def _freeze_op(self, graph: Graph, op: GraphOp, row: QuantizedOp) -> None:
        raise NotImplementedError  # pragma: no cover - abstract

    def _tensor(self, op: GraphOp, slot: str) -> Optional[GraphVar]:
        name, _, index = slot.partition(":")
        return op.input_var(name, int(index or 0))

    def _const(self, graph: Graph, name: str, value: np.ndarray) -> GraphVar:
        if graph.has_var(name):
            return graph.var(name)
        set_tensor(self.scope, name, value, self.place)
        dtype = FP32 if value.dtype == np.float32 else core.VarDesc.VarType.INT32
        return graph.create_var(name, value.shape, dtype, persistable=True, stop_gradient=True)

    def _zero_point(self, graph: Graph, key: str, size: int) -> GraphVar:
        """A zero point of its own for each grid: Paddle-Lite's opt aborts when two share one."""
        return self._const(graph, f"{key}@zero", np.zeros(size, np.float32))

    def _weight(self, name: str, params: QuantParams) -> np.ndarray:
        """A weight's float values.

        Raises:
            ModelError: it has none, or was made integers by an earlier convert.
        """
        var = self.scope.find_var(name)
        if var is None:
            raise ModelError(
                f"The weight '{name}' has no value in the scope; convert needs the scope it was trained in."
            )
        value = np.array(var.get_tensor())
        whole = params.qmax >= 7 and np.abs(value).max() == params.qmax and np.array_equal(value, np.round(value))
        if value.dtype.kind != "f" or (whole and params.symmetric):
            raise ModelError(
                f"The weight '{name}' is stored as integers already; convert starts from float weights: run it once, "
                "or load the float checkpoint first."
            )
        return value

    def _storage_name(self, weight: GraphVar, key: str) -> str:
        """The weight's own name, unless an op that stays float, or another grid, needs the float values."""
        readers = {o.output for o in self.table.ops if key in o.inputs.values()}
        shared = any(op.outputs and op.outputs[0].name not in readers for op in weight.consumers)
        return f"{key}.int" if shared or weight.name in self.written else weight.name

    def _simulated(self, graph: Graph, x: GraphVar, params: QuantParams, key: str) -> GraphVar:
        """Affine and dynamic activation grids, which neither format can say, stay as the ops of training."""
        if params.symmetric:
            return dynamic_abs_max(self.site, x, params.bits, 0)
        if params.dynamic:
            return min_max(self.site, x, params.bits, 0)
        step = self._const(graph, f"{key}@quant_step", params.scale / np.float32(params.qmax))
        minus_zero = self._const(graph, f"{key}@minus_zero", -params.zero_point.astype(np.float32))
        return affine_grid(self.site, x, step, minus_zero, params.bits)


class FreezeOnnx(_Freeze):
    """The onnx format: Q/DQ pairs, int8 weights (int16 above 8 bits)."""

    def _freeze_op(self, graph: Graph, op: GraphOp, row: QuantizedOp) -> None:
        for slot, key in row.inputs.items():
            params = self.table.params[key]
            var = self._tensor(op, slot)
            if var is None or (not params.is_weight and var.name != params.tensor):
                continue
            if key not in self.done:
                self.done[key] = self._stored(graph, var, key) if params.is_weight else self._linear(graph, var, key)
            if var in op.inputs:
                graph.replace_input(op, var, self.done[key])

    def _stored(self, graph: Graph, weight: GraphVar, key: str) -> GraphVar:
        """A weight stored as integers, dequantized where it is read."""
        params = self.table.params[key]
        q = weight_integers(self._weight(weight.name, params), params)
        return store_weight(self, graph, weight, self._storage_name(weight, key), q, params)

    def _linear(self, graph: Graph, x: GraphVar, key: str) -> GraphVar:
        params = self.table.params[key]
        if not params.symmetric or params.dynamic:
            return self._simulated(graph, x, params, key)
        scale = self._const(graph, f"{key}@scale", params.scale)
        zero = self._zero_point(graph, key, params.scale.size)
        attrs = linear_attrs(params, -1)
        q = graph.create_var(f"{key}.q", x.shape, x.dtype)
        graph.insert_op("quantize_linear", {"X": x, "Scale": scale, "ZeroPoint": zero}, {"Y": q}, attrs)
        out = graph.create_var(f"{key}.dq", x.shape, x.dtype)
        graph.insert_op("dequantize_linear", {"X": q, "Scale": scale, "ZeroPoint": zero}, {"Y": out}, attrs)
        return out


class FreezeOld(_Freeze):
    """The old format: fake_quantize before the op, integer weights, fake_dequantize behind it."""

    def _freeze_op(self, graph: Graph, op: GraphOp, row: QuantizedOp) -> None:
        grids = {slot: self.table.params[key] for slot, key in row.inputs.items()}
        spec = WEIGHT_OPS.get(op.type)
        weight = next((p for p in grids.values() if p.is_weight), None)
        plain = all(p.symmetric and not p.dynamic for p in grids.values())
        if spec is None or weight is None or not plain or spec.activation not in grids:
            self._dequantized_inputs(graph, op, row)
            return
        x_key, w_key = row.inputs[spec.activation], row.inputs[spec.weight]
        x, w = op.input_var(spec.activation), op.input_var(spec.weight)
        if x is None or w is None:
            return
        if x_key not in self.done:
            self.done[x_key] = self._quantize(graph, x, x_key)
        graph.replace_input(op, x, self.done[x_key])
        if w_key not in self.done:
            self.done[w_key] = self._whole_numbers(graph, w, w_key)
        if self.done[w_key] is not w:
            graph.replace_input(op, w, self.done[w_key])
        self._dequantize_output(graph, op, spec.output, weight, grids[spec.activation], w_key, x_key)

    def _whole_numbers(self, graph: Graph, weight: GraphVar, key: str) -> GraphVar:
        """The weight's integers as float32, in the weight's place where nobody needs the float values."""
        name, params = self._storage_name(weight, key), self.table.params[key]
        self.written[name] = weight_integers(self._weight(weight.name, params), params)
        if name == weight.name:
            return weight
        return graph.create_var(name, weight.shape, FP32, persistable=True, stop_gradient=True)

    def _dequantized_inputs(self, graph: Graph, op: GraphOp, row: QuantizedOp) -> None:
        """Ops without a weight, and grids the old ops cannot say: quantize-dequantize before each input."""
        for slot, key in row.inputs.items():
            params, var = self.table.params[key], self._tensor(op, slot)
            if var is None:
                continue
            tag = f"{key}#both"
            if tag not in self.done:
                if params.is_weight:
                    q = weight_integers(self._weight(var.name, params), params)
                    self.done[tag] = store_weight(self, graph, var, self._storage_name(var, key), q, params)
                elif params.symmetric and not params.dynamic:
                    scale = self._const(graph, f"{key}@scale", params.scale)
                    out = graph.create_var(f"{key}.qdq", var.shape, var.dtype)
                    self._insert_quantize(
                        "fake_quantize_dequantize_moving_average_abs_max", graph, var, scale, out, params
                    )
                    self.done[tag] = out
                else:
                    self.done[tag] = self._simulated(graph, var, params, key)
            if var in op.inputs:
                graph.replace_input(op, var, self.done[tag])

    def _quantize(self, graph: Graph, x: GraphVar, key: str) -> GraphVar:
        params = self.table.params[key]
        scale = self._const(graph, f"{key}@scale", params.scale)
        out = graph.create_var(f"{key}.q", x.shape, x.dtype)
        self._insert_quantize("fake_quantize_moving_average_abs_max", graph, x, scale, out, params)
        return out

    @staticmethod
    def _insert_quantize(
        op_type: str, graph: Graph, x: GraphVar, scale: GraphVar, out: GraphVar, params: QuantParams
    ) -> None:
        attrs = {
            "bit_length": params.bits,
            "is_test": True,
            "moving_rate": 0.9,
            "round_type": 0 if params.rounding == "half_even" else 1,
        }
        outputs = {"Out": out, "OutScale": graph.new_version(scale)}
        graph.insert_op(op_type, {"X": x, "InScale": scale}, outputs, attrs)

    def _dequantize_output(
        self,
        graph: Graph,
        op: GraphOp,
        slot: str,
        weight: QuantParams,
        x: QuantParams,
        w_key: str,
        x_key: str,
    ) -> None:
        out = op.output_var(slot)
        if out is None:
            return
        raw = graph.create_var(f"{out.name}.q", out.shape, out.dtype)
        graph.replace_output(op, out, raw)
        groups = op.attr("groups", 1) if op.type == "conv2d_transpose" and weight.axis is not None else 1
        w_scale = self._const(graph, f"{w_key}@scale", np.tile(weight.scale, groups))
        x_scale = self._const(graph, f"{x_key}@scale", x.scale)
        if weight.axis is None:
            max_range = float(weight.qmax * x.qmax) / float(weight.scale[0])
            graph.insert_op(
                "fake_dequantize_max_abs",
                {"X": raw, "Scale": x_scale},
                {"Out": out},
                {"max_range": max_range},
            )
            return
        last = op.type in ("mul", "matmul", "matmul_v2") or op.attr("data_format", "NCHW") == "NHWC"
        columns = len(out.shape) - 1 if last else 1
        attrs = {"quant_bits": [weight.bits, x.bits], "quant_axis": weight.axis, "x_num_col_dims": columns}
        graph.insert_op(
            "fake_channel_wise_dequantize_max_abs",
            {"X": raw, "Scales": [w_scale, x_scale]},
            {"Out": out},
            attrs,
        )


#: Export format -> pass.
FORMATS: Dict[str, Any] = {"onnx": FreezeOnnx, "old": FreezeOld}
