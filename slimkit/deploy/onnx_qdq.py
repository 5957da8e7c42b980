"""Writes a ``QuantTable`` into an ONNX graph as QuantizeLinear / DequantizeLinear pairs (QDQ).

The form is the one that ONNX Runtime's CPU kernels execute in integers: activations uint8, with zero point 128 for a
symmetric grid; weights int8, one scale a channel, stored as integers with a DequantizeLinear behind; biases int32 of
step ``s_x * s_w``. Source: the ONNX operator specification, QuantizeLinear-13 and DequantizeLinear-13.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from slimkit.deploy.onnx_graph import OnnxGraph
from slimkit.deploy.onnx_program import Mark
from slimkit.deploy.onnx_simplify import attribute, evaluate, find_marks
from slimkit.errors import ModelError
from slimkit.quant.passes.freeze_weights import weight_integers
from slimkit.quant.table import QuantParams, QuantTable

__all__ = ["activation_grid", "write_grids"]

#: Ops that only move a weight's numbers; they are computed here, on the integers.
LAYOUT = ("Transpose", "Reshape", "Unsqueeze", "Squeeze", "Identity", "Flatten")
#: Ops with an int32 bias as their third input: the axis of the weight that runs along the bias.
BIASED = {"Conv": 0, "ConvTranspose": 1, "Gemm": 1}
#: Ops whose results are values of their input.
CHOOSING = ("MaxPool", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Identity", "Flatten", "Slice")
AS_WIDE = 0.02  # of the range that a narrower grid may clip and still count as wide enough
TINY = np.float32(1e-12)  # stands for a step of 0, which QuantizeLinear divides by
LARGEST_BIAS = 2.0**30


def write_grids(graph: OnnxGraph, table: QuantTable, marks: Sequence[Mark]) -> None:
    """Turns every mark of a graph into the grid of its tensor, then quantizes biases.

    Raises:
        ModelError: a grid that ONNX cannot say, or a tensor that the conversion has lost.
    """
    nodes = find_marks(graph)
    place = {node.output[0]: i for i, node in enumerate(graph.nodes)}
    for mark in sorted(marks, key=lambda m: place[nodes[m.number].output[0]] if m.number in nodes else -1):
        node = nodes.get(mark.number)
        if node is None:
            raise ModelError(
                f"The tensor '{mark.tensor}' is quantized but paddle2onnx has left it out of the ONNX model; "
                "leave the op that reads it float."
            )
        params = table.params[mark.key]
        _check(params)
        if params.is_weight:
            _write_weight(graph, node, params)
        else:
            _write_activation(graph, node, params)
    for node in list(graph.nodes):
        if node.op_type in BIASED and len(node.input) == 3:
            _write_bias(graph, node, node, node.input[2])
        elif node.op_type == "MatMul":
            _write_added_bias(graph, node)
    for node in list(graph.nodes):
        if node.op_type == "GlobalAveragePool":
            _mean_of_float(graph, node)
    graph.drop_unread()


def activation_grid(params: QuantParams) -> Tuple[np.float32, np.uint8]:
    """Step and zero point of an activation in uint8.

    A symmetric grid of ``bits`` has ``step = scale / (2**(bits-1) - 1)``, and 128 stands for 0. Below 8 bits it fills
    the middle of the byte.
    """
    step = np.float32(params.scale[0]) / np.float32(params.qmax)
    zero = 128 if params.symmetric else int(params.zero_point[0])
    return max(step, TINY), np.uint8(zero)


def _check(params: QuantParams) -> None:
    if params.bits > 8:
        raise ModelError(
            f"The tensor '{params.tensor}' has {params.bits} bits and ONNX Runtime computes with 8; quantize it to 8 "
            "bits or fewer, or leave it float."
        )
    if params.dynamic:
        raise ModelError(
            f"The scale of '{params.tensor}' is computed in every run, which slimkit does not write to ONNX; use a "
            "static range type such as moving_average_abs_max."
        )
    if not params.is_weight and params.scale.size > 1:
        raise ModelError(
            f"The activation '{params.tensor}' has {params.scale.size} scales and ONNX Runtime computes with one; use "
            "one scale a tensor."
        )


def _write_activation(graph: OnnxGraph, mark: Any, params: QuantParams) -> None:
    source, out, name = mark.input[0], mark.output[0], params.tensor
    step, zero = activation_grid(params)
    if params.bits < 8:
        low, high = (-params.qmax, params.qmax) if params.symmetric else (-int(zero), params.qmax - int(zero))
        ends = [graph.add_constant(f"{name}.{k}", np.float32(v * step)) for k, v in (("low", low), ("high", high))]
        source = graph.add_node("Clip", [source, *ends], graph.fresh(f"{name}.clipped"), before=mark).output[0]
    scale, point = _grid_before(graph, source, params) or (
        graph.add_constant(f"{name}.step", np.float32(step)),
        graph.shared_constant(f"zero.uint8.{zero}", np.asarray(zero)),
    )
    q = graph.add_node("QuantizeLinear", [source, scale, point], graph.fresh(f"{name}.q"), before=mark)
    graph.add_node("DequantizeLinear", [q.output[0], scale, point], graph.fresh(f"{name}.dq"), before=mark)
    graph.replace(out, graph.nodes[_position(graph, mark) - 1].output[0])
    graph.remove(mark)


def _grid_before(graph: OnnxGraph, tensor: str, params: QuantParams) -> Optional[List[str]]:
    """Step and zero point of the grid that a tensor's values lie on already, behind ops that only choose among values.

    There its own grid, if it is as wide, would round a second time, and ONNX Runtime would leave the op float.
    """
    node = graph.producers.get(tensor)
    while node is not None and node.op_type in CHOOSING:
        node = graph.producers.get(node.input[0])
    if node is None or node.op_type != "DequantizeLinear" or node.input[0] in graph.constants:
        return None
    held = [graph.constants[name] for name in node.input[1:]]
    ends = [(np.array([0, 255]) - float(zero)) * float(step) for step, zero in (held, activation_grid(params))]
    widest = np.abs(ends[0]).max()
    covered = np.all(np.abs(np.clip(ends[0], *ends[1]) - ends[0]) <= AS_WIDE * widest)
    return list(node.input[1:]) if covered and params.bits == 8 else None


def _mean_of_float(graph: OnnxGraph, node: Any) -> None:
    """The average of a float tensor as ReduceMean, which runs in the channels-last order of the integer ops around it.

    GlobalAveragePool makes ONNX Runtime transpose the whole tensor before it.
    """
    maker = graph.producers.get(node.input[0])
    if maker is not None and maker.op_type == "DequantizeLinear":
        return
    made = graph.add_node("ReduceMean", [node.input[0]], node.output[0], before=node, axes=[2, 3], keepdims=1)
    graph.remove(node)
    graph.producers[made.output[0]] = made


def _position(graph: OnnxGraph, node: Any) -> int:
    return next(i for i, n in enumerate(graph.nodes) if n is node)


def _write_weight(graph: OnnxGraph, mark: Any, params: QuantParams) -> None:
    weight = graph.constants.get(mark.input[0])
    if weight is None:
        raise ModelError(f"The weight '{params.tensor}' is no constant in the ONNX model; leave its op float.")
    q = weight_integers(weight.astype(np.float32), params)
    if not params.symmetric:
        q = q - 2 ** (params.bits - 1)
    channel = np.zeros(weight.shape, np.int64)
    if params.axis is not None:
        channel += np.arange(weight.shape[params.axis]).reshape([-1 if d == params.axis else 1 for d in range(q.ndim)])
    _store(graph, mark.output[0], q, channel, params, mark)
    graph.remove(mark)


def _store(graph: OnnxGraph, tensor: str, q: np.ndarray, channel: np.ndarray, params: QuantParams, mark: Any) -> None:
    """Makes ``tensor`` come from integers; ops that only move numbers are done on these.

    Args:
        tensor: what the readers read.
        q: its integers.
        channel: of each, which scale it has.
    """
    for node in list(graph.readers.get(tensor, [])):
        if node.op_type in LAYOUT and all(n in graph.constants for n in node.input if n != tensor):
            others = {n: graph.constants[n] for n in node.input if n != tensor}
            opsets = graph.model.opset_import
            moved, along = (evaluate(node, {tensor: value, **others}, opsets)[0] for value in (q, channel))
            graph.remove(node)
            _store(graph, node.output[0], moved, along, params, mark)
    if not graph.readers.get(tensor):
        return
    axis = _axis(channel, params)
    steps = np.maximum(params.scale / np.float32(params.qmax), TINY).astype(np.float32)
    zeros = np.zeros(steps.shape, np.int8)
    if not params.symmetric:
        zeros = (params.zero_point - 2 ** (params.bits - 1)).astype(np.int8)
    if axis is None:
        steps, zeros = steps[0], zeros[0]
    names = [
        graph.add_constant(f"{params.tensor}.int", q.astype(np.int8)),
        graph.add_constant(f"{params.tensor}.step", steps),
        graph.shared_constant(f"zero.{params.tensor}" if np.any(zeros) else f"zero.int8.{zeros.size}", zeros),
    ]
    out = graph.fresh(f"{params.tensor}.dq")
    graph.add_node("DequantizeLinear", names, out, before=mark, **({} if axis is None else {"axis": axis}))
    graph.replace(tensor, out)


def _axis(channel: np.ndarray, params: QuantParams) -> Optional[int]:
    """The axis along which the scales lie after the moves."""
    if params.axis is None or params.scale.size == 1:
        return None
    for axis in range(channel.ndim):
        if channel.shape[axis] == params.scale.size:
            expected = np.arange(params.scale.size).reshape([-1 if d == axis else 1 for d in range(channel.ndim)])
            if np.array_equal(channel, np.broadcast_to(expected, channel.shape)):
                return axis
    raise ModelError(
        f"The weight '{params.tensor}' is reshaped in the ONNX model so that its channels no longer lie along one "
        "axis; quantize it with one scale (weight_quantize_type: abs_max)."
    )


def _write_added_bias(graph: OnnxGraph, product: Any) -> None:
    """The constant added to a product: ONNX Runtime makes both a Gemm, which is integer only with an int32 bias."""
    readers = graph.readers.get(product.output[0], [])
    if len(readers) == 1 and readers[0].op_type == "Add":
        other = next((name for name in readers[0].input if name in graph.constants), None)
        if other is not None and graph.constants[other].ndim == 1:
            _write_bias(graph, product, readers[0], other)


def _write_bias(graph: OnnxGraph, product: Any, adder: Any, name: str) -> None:
    """The bias as int32 of step ``s_x * s_w``, where input and weight are integers.

    A weight whose step is so small that the bias would not fit into 32 bits gets a larger one: such a channel is its
    bias.

    Args:
        product: reads input and weight.
        adder: reads the bias; the product itself, or the Add behind it.
        name: the bias.
    """
    bias = graph.constants.get(name)
    makers = [graph.producers[n] for n in product.input[:2] if n in graph.producers]
    if bias is None or [maker.op_type for maker in makers] != ["DequantizeLinear"] * 2:
        return
    x, w = makers
    x_step, w_step = graph.constants[x.input[1]], graph.constants[w.input[1]]
    per_channel = w_step.ndim == 1 and w_step.size == bias.size
    if x.input[0] in graph.constants or w.input[0] not in graph.constants or not (w_step.ndim == 0 or per_channel):
        return
    if np.any(np.abs(bias) > LARGEST_BIAS * x_step * w_step):
        w_step = _widen(graph, w, np.abs(bias) / np.float32(LARGEST_BIAS * x_step))
    step = np.asarray(x_step * w_step, np.float32)
    q = np.round(bias.astype(np.float64) / step).astype(np.int32)
    names = [
        graph.add_constant(f"{name}.int", q),
        graph.add_constant(f"{name}.step", step),
        graph.shared_constant(f"zero.int32.{step.size}", np.zeros(step.shape, np.int32)),
    ]
    out = graph.fresh(f"{name}.dq")
    graph.add_node("DequantizeLinear", names, out, before=adder, **({"axis": 0} if per_channel else {}))
    graph.read_instead(adder, name, out)


def _widen(graph: OnnxGraph, w: Any, least: np.ndarray) -> np.ndarray:
    """Raises the weight's steps to ``least`` where they are smaller; its integers shrink with them."""
    old, q = graph.constants[w.input[1]], graph.constants[w.input[0]]
    new = np.maximum(old, least if old.ndim else least.max()).astype(np.float32)
    ratio = old / new
    if old.ndim:
        axis = attribute(w, "axis", 1)
        ratio = ratio.reshape([-1 if d == axis else 1 for d in range(q.ndim)])
    values: Dict[int, np.ndarray] = {0: np.round(q * ratio).astype(np.int8), 1: new}
    for i, value in values.items():
        name = graph.add_constant(w.input[i], value)
        graph.read_instead(w, w.input[i], name)
    return new
