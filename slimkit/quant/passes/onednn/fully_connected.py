"""Rewrite: a quantized fully connected layer becomes a 1x1 convolution.

The weight scales of int8 fully connected layers are read along the wrong axis; the same product as a convolution is
right, and int8. Its bias moves with it, in front of the reshape, where the runtime joins it with the convolution. One
whose weight alone is stored as integers is computed in float, but the scales of a square weight are taken for those of
its rows there too: such a weight is stored transposed, and read so. A quantized product over more than rows, which no
convolution of known shape stands for, is left to float by an ``assign`` in front of it.
"""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

import numpy as np

from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.quant.passes.onednn.stored_weight import array, real_values, stored_weight
from slimkit.quant.site import FP32, set_tensor

__all__ = ["rewrite"]

_FULLY_CONNECTED = ("mul", "matmul", "matmul_v2")
_CONV = {
    "strides": [1, 1],
    "paddings": [0, 0],
    "dilations": [1, 1],
    "groups": 1,
    "padding_algorithm": "EXPLICIT",
    "data_format": "NCHW",
}


def rewrite(graph: Graph, scope: Any, place: Any) -> int:
    """Edits the graph in place; returns how many layers became convolutions."""
    count = sum(_as_conv(graph, op, scope, place) for op in graph.ops(*_FULLY_CONNECTED))
    for op in graph.ops(*_FULLY_CONNECTED):
        _transposed_square(graph, op, scope, place)
        _left_to_float(graph, op)
    return count


def _as_conv(graph: Graph, op: GraphOp, scope: Any, place: Any) -> bool:
    weight, activation, out = stored_weight(op, "Y"), _quantized_activation(op), op.output_var("Out")
    if weight is None or activation is None or out is None:
        return False
    source, quantize, dequantize = activation
    transposed = bool(op.attr("trans_y", False) or op.attr("transpose_Y", False))
    flipped = bool(op.attr("trans_x", False) or op.attr("transpose_X", False))
    if len(source.shape) != 2 or len(weight[1].shape) != 2 or flipped or op.attr("alpha", 1.0) != 1.0:
        return False
    outputs, inputs = weight[1].shape if transposed else reversed(weight[1].shape)
    image = _reshape(graph, source, f"{source.name}.image", [-1, inputs, 1, 1])
    image = _requantize(graph, image, quantize, dequantize)
    kernel = _kernel(graph, weight, transposed, [outputs, inputs, 1, 1], scope, place)
    pixel = graph.create_var(f"{out.name}.pixel", (-1, outputs, 1, 1), FP32)
    graph.remove_op(op, remove_dangling=False)
    graph.insert_op("conv2d", {"Input": image, "Filter": kernel}, {"Output": pixel}, dict(_CONV))
    bias = _bias(out, outputs)
    if bias is not None:
        add, parameter, end = bias
        graph.remove_op(add, remove_dangling=False)
        graph.drop_unread(out)
        shifted = graph.create_var(f"{end.name}.pixel", (-1, outputs, 1, 1), FP32)
        graph.insert_op("elementwise_add", {"X": pixel, "Y": parameter}, {"Out": shifted}, {"axis": 1})
        pixel, out = shifted, end
    _reshape(graph, pixel, out.name, [-1, outputs], out)
    for old in (dequantize, quantize, weight[0]):
        if graph.has_op(old) and not any(v.consumers for v in old.outputs):
            graph.remove_op(old)
    return True


def _left_to_float(graph: Graph, op: GraphOp) -> None:
    activation = _quantized_activation(op) if stored_weight(op, "Y") is not None else None
    x = op.input_var("X")
    if activation is None or x is None:
        return
    name = f"{x.name}.to_float"
    if not graph.has_var(name):
        graph.insert_op("assign", {"X": x}, {"Out": graph.create_var(name, x.shape, x.dtype)})
    graph.replace_input(op, x, graph.var(name))


def _transposed_square(graph: Graph, op: GraphOp, scope: Any, place: Any) -> None:
    weight = stored_weight(op, "Y")
    flag = {"matmul_v2": "trans_y", "matmul": "transpose_Y"}.get(op.type)
    if weight is None or weight[1].shape[0] != weight[1].shape[-1] or len(weight[1].shape) != 2:
        return
    dequantize, stored = weight
    if dequantize.attr("quant_axis", -1) != 1:
        return
    out, scales = dequantize.output_var("Y"), array(scope, dequantize.input_names("Scale")[0])
    if out is None or scales.size == 1 or len(out.consumers) != 1 or len(stored.consumers) != 1:
        return
    if flag is None:  # mul has no transposed form
        var = graph.create_var(f"{stored.name}.on_grid", stored.shape, FP32, persistable=True, stop_gradient=True)
        set_tensor(scope, var.name, real_values(scope, dequantize, stored), place)
        graph.replace_input(op, out, var)
        graph.remove_op(dequantize)
        return
    set_tensor(scope, stored.name, np.ascontiguousarray(array(scope, stored.name).T), place)
    dequantize.set_attr("quant_axis", 0)
    op.set_attr(flag, not op.attr(flag, False))


def _bias(out: GraphVar, size: int) -> Optional[Tuple[GraphOp, GraphVar, GraphVar]]:
    """(add, 1-D parameter, result) when a bias is all that reads a product."""
    add = out.consumers[0] if len(out.consumers) == 1 else None
    if add is None or add.type != "elementwise_add" or add.input_var("X") is not out:
        return None
    bias, end = add.input_var("Y"), add.output_var("Out")
    if bias is None or end is None or not bias.persistable or tuple(bias.shape) != (size,):
        return None
    return (add, bias, end) if add.attr("axis", -1) in (-1, 1) else None


def _quantized_activation(op: GraphOp) -> Optional[Tuple[GraphVar, GraphOp, GraphOp]]:
    """(float source, quantize op, dequantize op) of an op's activation, or None."""
    var = op.input_var("X")
    if var is None or var.producer is None or var.producer.type != "dequantize_linear":
        return None
    q = var.producer.input_var("X")
    if q is None or q.producer is None or q.producer.type != "quantize_linear":
        return None
    source = q.producer.input_var("X")
    return (source, q.producer, var.producer) if source is not None else None


def _requantize(graph: Graph, x: GraphVar, quantize: GraphOp, dequantize: GraphOp) -> GraphVar:
    for model, tail in ((quantize, "q"), (dequantize, "dq")):
        y = graph.create_var(f"{x.name}.{tail}", x.shape, FP32)
        known = {v.name: v for v in model.inputs}
        known[model.input_names("X")[0]] = x
        graph.insert_op_desc(model.desc, known, {model.output_names("Y")[0]: y})
        x = y
    return x


def _kernel(
    graph: Graph, weight: Tuple[GraphOp, GraphVar], transposed: bool, shape: List[int], scope: Any, place: Any
) -> GraphVar:
    """The stored weight as a convolution's kernel, and its dequantize op with the channels in front."""
    dequantize, stored = weight
    q = array(scope, stored.name)
    kernel = np.ascontiguousarray(q if transposed else q.T).reshape(shape)
    var = graph.create_var(f"{stored.name}.kernel", shape, stored.dtype, persistable=True, stop_gradient=True)
    set_tensor(scope, var.name, kernel, place)
    out = graph.create_var(f"{stored.name}.kernel.dq", shape, FP32)
    known = {v.name: v for v in dequantize.inputs}
    known[stored.name] = var
    added = graph.insert_op_desc(dequantize.desc, known, {dequantize.output_names("Y")[0]: out})
    if added.attr("quant_axis") >= 0:
        added.set_attr("quant_axis", 0)
    return out


def _reshape(graph: Graph, x: GraphVar, name: str, shape: List[int], out: Optional[GraphVar] = None) -> GraphVar:
    out = out if out is not None else graph.create_var(name, shape, FP32)
    saved = graph.create_var(f"{name}.xshape", [0, *x.shape], FP32)
    graph.insert_op("reshape2", {"X": x}, {"Out": out, "XShape": saved}, {"shape": list(shape)})
    return out
