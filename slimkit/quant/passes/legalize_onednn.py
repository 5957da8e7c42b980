"""Pass: what Paddle Inference's oneDNN int8 passes get wrong, written so that they get it right.

Each rewrite is one method, keeps the arithmetic of the exported graph, and its docstring names the defect it avoids
(measured on Paddle 3.3.1, oneDNN 3.6.2).
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import numpy as np
import paddle
from paddle.base import core

from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.quant.quantizers import set_tensor

__all__ = ["LegalizeOnednn"]

_QUANTIZERS = ("quantize_linear", "fake_quantize_moving_average_abs_max")
#: Ops across which the runtime carries a scale backwards although they change the range.
_RANGE_CHANGING = ("pool2d", "slice", "nearest_interp", "nearest_interp_v2", "split")
#: Ops the runtime fuses into the convolution before them.
_FUSED_BEHIND = ("batch_norm", "elementwise_add", "relu", "relu6", "hard_swish", "leaky_relu", "sigmoid", "swish")
_FULLY_CONNECTED = ("mul", "matmul", "matmul_v2")
FP32 = core.VarDesc.VarType.FP32


class LegalizeOnednn:
    """See the module. Works on graphs of the onnx format; in the old format only scales are stopped. The result is for
    Paddle Inference alone: Paddle-Lite takes the plain export.

    Args:
        scope: holds the constants; weights are rewritten in it.
        place: device of the constants; None: CPU.
    """

    def __init__(self, scope: Any, place: Any = None) -> None:
        self.scope = scope
        self.place = place or paddle.CPUPlace()

    def apply(self, graph: Graph) -> Dict[str, int]:
        """Edits the graph in place; returns how often each rewrite was made."""
        return {
            "fully connected as 1x1 convolution": sum(self._as_conv(graph, op) for op in graph.ops(*_FULLY_CONNECTED)),
            "float weight of conv2d_transpose": sum(
                self._float_weight(graph, op, "Filter") for op in graph.ops("conv2d_transpose")
            ),
            "zero points shared": self._share_zero_points(graph),
            "scale stopped by assign": sum(self._stop_scale(graph, op) for op in graph.ops(*_QUANTIZERS)),
        }

    @staticmethod
    def _stop_scale(graph: Graph, op: GraphOp) -> int:
        """The scale of an average pool's output is given to its input too, which then saturates; a quantizer behind a
        conv2d_transpose, also through its bias and activation, aborts: an ``assign`` before the quantizer stops both.
        """
        x = op.input_var("X")
        while x is not None and x.producer is not None and x.producer.type in ("reshape2", "unsqueeze2"):
            op = x.producer
            x = op.input_var("X")
        if x is None or x.producer is None:
            return 0
        if x.producer.type not in _RANGE_CHANGING and not _behind(x, "conv2d_transpose"):
            return 0
        copy = graph.create_var(f"{x.name}.assigned", x.shape, x.dtype)
        graph.insert_op("assign", {"X": x}, {"Out": copy})
        graph.replace_input(op, x, copy)
        return 1

    def _share_zero_points(self, graph: Graph) -> int:
        """Every grid brings zeros of its own, a tenth of a small model: one constant per length is enough."""
        shared = 0
        for op in graph.ops("quantize_linear", "dequantize_linear"):
            zero = op.input_var("ZeroPoint")
            if zero is None or not zero.persistable or self._array(zero.name).any():
                continue
            size = int(np.prod(zero.shape))
            name = f"zeros@{size}"
            if not graph.has_var(name):
                set_tensor(self.scope, name, np.zeros(size, np.float32), self.place)
                graph.create_var(name, (size,), FP32, persistable=True, stop_gradient=True)
            graph.replace_input(op, zero, graph.var(name))
            shared += 1
        return shared

    # ---------------------------------------------------------------- conv2d_transpose

    def _float_weight(self, graph: Graph, op: GraphOp, slot: str) -> int:
        """conv2d_transpose aborts on an int8 weight: it gets the float values of the same grid."""
        weight = _stored_weight(op, slot)
        if weight is None:
            return 0
        dequantize, stored = weight
        var = graph.create_var(f"{stored.name}.on_grid", stored.shape, FP32, persistable=True, stop_gradient=True)
        set_tensor(self.scope, var.name, self._real(dequantize, stored), self.place)
        out = dequantize.output_var("Y")
        graph.replace_input(op, out, var)
        if not out.consumers:
            graph.remove_op(dequantize)
        return 1

    def _array(self, name: str) -> np.ndarray:
        return np.array(self.scope.find_var(name).get_tensor())

    def _real(self, dequantize: GraphOp, stored: GraphVar) -> np.ndarray:
        q = self._array(stored.name).astype(np.float32)
        scale, axis = self._array(dequantize.input_names("Scale")[0]), dequantize.attr("quant_axis")
        if scale.size > 1:
            scale = scale.reshape([-1 if d == axis else 1 for d in range(q.ndim)])
        return (q * scale / np.float32(dequantize.attr("qmax", 127))).astype(np.float32)

    # ---------------------------------------------------------------- fully connected

    def _as_conv(self, graph: Graph, op: GraphOp) -> int:
        """The weight scales of int8 fully connected layers are read along the wrong axis: the same product as a
        1x1 convolution is right, and int8."""
        weight, activation, out = _stored_weight(op, "Y"), _quantized_activation(op), op.output_var("Out")
        if weight is None or activation is None or out is None:
            return 0
        source, quantize, dequantize = activation
        transposed = bool(op.attr("trans_y", False) or op.attr("transpose_Y", False))
        flipped = bool(op.attr("trans_x", False) or op.attr("transpose_X", False))
        if len(source.shape) != 2 or len(weight[1].shape) != 2 or flipped or op.attr("alpha", 1.0) != 1.0:
            return 0
        outputs, inputs = weight[1].shape if transposed else reversed(weight[1].shape)
        image = _reshape(graph, source, f"{source.name}.image", [-1, inputs, 1, 1])
        image = self._requantize(graph, image, quantize, dequantize)
        kernel = self._kernel(graph, weight[0], weight[1], transposed, [outputs, inputs, 1, 1])
        pixel = graph.create_var(f"{out.name}.pixel", (-1, outputs, 1, 1), FP32)
        attrs = {
            "strides": [1, 1],
            "paddings": [0, 0],
            "dilations": [1, 1],
            "groups": 1,
            "padding_algorithm": "EXPLICIT",
            "data_format": "NCHW",
        }
        graph.remove_op(op, remove_dangling=False)
        graph.insert_op("conv2d", {"Input": image, "Filter": kernel}, {"Output": pixel}, attrs)
        _reshape(graph, pixel, out.name, [-1, outputs], out)
        for old in (dequantize, quantize, weight[0]):
            if graph.has_op(old) and not any(v.consumers for v in old.outputs):
                graph.remove_op(old)
        return 1

    @staticmethod
    def _requantize(graph: Graph, x: GraphVar, quantize: GraphOp, dequantize: GraphOp) -> GraphVar:
        names = [f"{x.name}.q", f"{x.name}.dq"]
        for model, name in zip((quantize, dequantize), names):
            y = graph.create_var(name, x.shape, FP32)
            known = {v.name: v for v in model.inputs}
            known[model.input_names("X")[0]] = x
            graph.insert_op_desc(model.desc, known, {model.output_names("Y")[0]: y})
            x = y
        return x

    def _kernel(
        self, graph: Graph, dequantize: GraphOp, stored: GraphVar, transposed: bool, shape: List[int]
    ) -> GraphVar:
        """The stored weight as a convolution's kernel, and its dequantize op with the channels in front."""
        q = self._array(stored.name)
        kernel = np.ascontiguousarray(q if transposed else q.T).reshape(shape)
        var = graph.create_var(f"{stored.name}.kernel", shape, stored.dtype, persistable=True, stop_gradient=True)
        set_tensor(self.scope, var.name, kernel, self.place)
        out = graph.create_var(f"{stored.name}.kernel.dq", shape, FP32)
        known = {v.name: v for v in dequantize.inputs}
        known[stored.name] = var
        added = graph.insert_op_desc(dequantize.desc, known, {dequantize.output_names("Y")[0]: out})
        if added.attr("quant_axis") >= 0:
            added.set_attr("quant_axis", 0)
        return out


def _behind(var: GraphVar, op_type: str) -> bool:
    """Whether a variable is an op's output, seen through batch norm, bias and activation."""
    while var.producer is not None and var.producer.type in _FUSED_BEHIND:
        source = var.producer.input_var("X")
        if source is None:
            return False
        var = source
    return var.producer is not None and var.producer.type == op_type


def _stored_weight(op: GraphOp, slot: str) -> Optional[Any]:
    """(dequantize op, stored integers) of an op's weight, or None."""
    var = op.input_var(slot)
    if var is None or var.producer is None or var.producer.type != "dequantize_linear":
        return None
    stored = var.producer.input_var("X")
    return (var.producer, stored) if stored is not None and stored.persistable else None


def _quantized_activation(op: GraphOp) -> Optional[Any]:
    """(float source, quantize op, dequantize op) of an op's activation, or None."""
    var = op.input_var("X")
    if var is None or var.producer is None or var.producer.type != "dequantize_linear":
        return None
    q = var.producer.input_var("X")
    if q is None or q.producer is None or q.producer.type != "quantize_linear":
        return None
    source = q.producer.input_var("X")
    return (source, q.producer, var.producer) if source is not None else None


def _reshape(graph: Graph, x: GraphVar, name: str, shape: List[int], out: Optional[GraphVar] = None) -> GraphVar:
    out = out if out is not None else graph.create_var(name, shape, FP32)
    saved = graph.create_var(f"{name}.xshape", [0, *x.shape], FP32)
    graph.insert_op("reshape2", {"X": x}, {"Out": out, "XShape": saved}, {"shape": list(shape)})
    return out
