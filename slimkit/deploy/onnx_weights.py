"""Weights and biases of an ONNX graph as stored integers.

A product that ONNX Runtime computes in integers reads its weight behind a DequantizeLinear. Any other reads it behind
``Cast`` and ``Mul``, which ONNX Runtime computes once when it loads the file (a DequantizeLinear it would compute in
every run): the file is as small, and the product as fast as in the float model.
"""

from __future__ import annotations

from typing import Any, Optional, Tuple

import numpy as np

from slimkit.deploy.onnx_graph import OnnxGraph
from slimkit.deploy.onnx_simplify import attribute, evaluate
from slimkit.errors import ModelError
from slimkit.quant.passes.freeze_weights import weight_integers
from slimkit.quant.table import QuantParams

__all__ = ["TINY", "fold_stretching", "runs_in_integers", "write_biases", "write_weight"]

#: Ops that only move a weight's numbers; they are computed here, on the integers.
LAYOUT = ("Transpose", "Reshape", "Unsqueeze", "Squeeze", "Identity", "Flatten")
TINY = np.float32(1e-12)  # stands for a step of 0, which QuantizeLinear divides by
LARGEST_BIAS = 2.0**30


def runs_in_integers(graph: OnnxGraph, node: Any) -> bool:
    """Whether ONNX Runtime has an integer kernel for a product whose weight is dequantized in front of it.

    A convolution needs a QuantizeLinear behind it, or behind the activation that is fused with it; a matrix product
    does not.
    """
    maker = graph.producers.get(node.input[0])
    while maker is not None and maker.op_type in LAYOUT:
        maker = graph.producers.get(maker.input[0])
    if maker is None or maker.op_type != "DequantizeLinear" or maker.input[0] in graph.constants:
        return False
    if node.op_type != "Conv":
        return node.op_type in ("MatMul", "Gemm")
    readers = graph.readers.get(node.output[0], [])
    while len(readers) == 1 and readers[0].op_type in ("Relu", "Clip"):
        readers = graph.readers.get(readers[0].output[0], [])
    return len(readers) == 1 and readers[0].op_type == "QuantizeLinear"


def write_weight(graph: OnnxGraph, mark: Any, params: QuantParams) -> None:
    """Stores the weight of a mark as integers and removes the mark; its readers' inputs and results have their grids.

    Raises:
        ModelError: it is no constant, or its channels no longer lie along one axis.
    """
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
    stored = graph.add_constant(f"{params.tensor}/i", q.astype(np.int8))
    readers = graph.readers[tensor]
    integer = [node for node in readers if runs_in_integers(graph, node)]
    if integer:
        out = graph.fresh(f"{params.tensor}/d")
        names = [stored, graph.add_constant(f"{params.tensor}/s", steps), _zeros(graph, params.tensor, zeros)]
        graph.add_node("DequantizeLinear", names, out, before=mark, **({} if axis is None else {"axis": axis}))
        for node in integer:
            graph.read_instead(node, tensor, out)
    if len(integer) < len(readers):
        graph.replace(tensor, _folded_later(graph, stored, steps, zeros, (axis, q.ndim), mark))


def _zeros(graph: OnnxGraph, name: str, zeros: np.ndarray) -> str:
    return graph.shared_constant(f"{name}/z" if np.any(zeros) else f"i8z{zeros.size}", zeros)


def _folded_later(
    graph: OnnxGraph, stored: str, steps: np.ndarray, zeros: np.ndarray, along: Tuple[Optional[int], int], mark: Any
) -> str:
    """``(q - zero) * step`` in ops that ONNX Runtime computes when it loads the file."""
    from onnx import TensorProto

    axis, ndim = along
    shape = [-1 if d == axis else 1 for d in range(ndim)] if axis is not None else []
    out = graph.add_node("Cast", [stored], graph.fresh(f"{stored}/f"), before=mark, to=TensorProto.FLOAT).output[0]
    if np.any(zeros):
        zero = graph.add_constant(f"{stored}/fz", zeros.astype(np.float32).reshape(shape))
        out = graph.add_node("Sub", [out, zero], graph.fresh(f"{stored}/c"), before=mark).output[0]
    step = graph.add_constant(f"{stored}/s", steps.reshape(shape))
    return graph.add_node("Mul", [out, step], graph.fresh(f"{stored}/w"), before=mark).output[0]


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


def fold_stretching(graph: OnnxGraph) -> None:
    """A multiplication of channels in front of a depthwise convolution that is computed in float, into its weight.

    Such multiplications make ranges of channels equal for the sake of a grid, which this convolution has not.
    """
    for conv in [n for n in graph.nodes if n.op_type == "Conv" and not runs_in_integers(graph, n)]:
        mul, weight = (graph.producers.get(name) for name in conv.input[:2])
        if mul is None or weight is None or (mul.op_type, weight.op_type) != ("Mul", "Mul"):
            continue
        step = graph.constants.get(weight.input[1])
        name = next((n for n in mul.input if n in graph.constants), None)
        channels = attribute(conv, "group", 1)
        if step is None or name is None or channels < 2 or step.shape != (channels, 1, 1, 1):
            continue
        factor = graph.constants[name]
        alone = len(graph.readers[mul.output[0]]) == len(graph.readers[weight.output[0]]) == 1
        if alone and mul.output[0] not in graph.results and factor.shape == (1, channels, 1, 1):
            graph.read_instead(conv, mul.output[0], next(n for n in mul.input if n != name))
            _restep(graph, conv, weight, step * factor.reshape(step.shape))


def _restep(graph: OnnxGraph, conv: Any, weight: Any, step: np.ndarray) -> None:
    """Gives a stored weight other steps; where the convolution is an integer one now, by a DequantizeLinear."""
    cast = graph.producers.get(weight.input[0])
    if not runs_in_integers(graph, conv) or cast is None or cast.op_type != "Cast":
        graph.read_instead(weight, weight.input[1], graph.add_constant(f"{weight.input[1]}/m", step))
        return
    stored, zeros = cast.input[0], np.zeros(step.size, np.int8)
    names = [stored, graph.add_constant(f"{weight.input[1]}/m", step.reshape(-1)), _zeros(graph, stored, zeros)]
    made = graph.add_node("DequantizeLinear", names, graph.fresh(f"{stored}/d"), before=conv, axis=0)
    graph.read_instead(conv, weight.output[0], made.output[0])


def write_biases(graph: OnnxGraph) -> None:
    """Biases of integer products as int32; after all weights and activations."""
    for node in list(graph.nodes):
        if node.op_type in ("Conv", "Gemm") and len(node.input) == 3:
            _write_bias(graph, node, node, node.input[2])
        elif node.op_type == "MatMul":
            _write_added_bias(graph, node)


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
    base = w.input[0][: -len("/i")]
    step = np.asarray(x_step * w_step, np.float32)
    q = np.round(bias.astype(np.float64) / step).astype(np.int32)
    names = [
        graph.add_constant(f"{base}/b", q),
        graph.add_constant(f"{base}/bs", step),
        graph.shared_constant(f"i32z{step.size}", np.zeros(step.shape, np.int32)),
    ]
    out = graph.fresh(f"{base}/bd")
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
    for i, value in ((0, np.round(q * ratio).astype(np.int8)), (1, new)):
        name = graph.add_constant(w.input[i], value)
        graph.read_instead(w, w.input[i], name)
    return new
