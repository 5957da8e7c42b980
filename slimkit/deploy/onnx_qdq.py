"""Writes a ``QuantTable`` into an ONNX graph as QuantizeLinear / DequantizeLinear pairs (QDQ).

The form is the one that ONNX Runtime's CPU kernels execute in integers: activations uint8, with zero point 128 for a
symmetric grid; weights int8, one scale a channel, stored as integers with a DequantizeLinear behind; biases int32 of
step ``s_x * s_w``. Source: the ONNX operator specification, QuantizeLinear-13 and DequantizeLinear-13.
"""

from __future__ import annotations

from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from slimkit.deploy.onnx_graph import OnnxGraph
from slimkit.deploy.onnx_program import Mark
from slimkit.deploy.onnx_simplify import attribute, find_marks
from slimkit.deploy.onnx_weights import TINY, fold_stretching, write_biases, write_weight
from slimkit.errors import ModelError
from slimkit.quant.table import QuantParams, QuantTable

__all__ = ["activation_grid", "write_grids"]

#: Ops whose results are values of their input.
CHOOSING = ("MaxPool", "Transpose", "Reshape", "Unsqueeze", "Squeeze", "Identity", "Flatten", "Slice")
AS_WIDE = 0.02  # of the range that a narrower grid may clip and still count as wide enough
#: Ops whose results are never negative.
ONE_SIDED = ("Relu", "Sigmoid", "HardSigmoid", "Softmax")


def write_grids(graph: OnnxGraph, table: QuantTable, marks: Sequence[Mark]) -> None:
    """Turns every mark of a graph into the grid of its tensor, then quantizes biases.

    Raises:
        ModelError: a grid that ONNX cannot say, or a tensor that the conversion has lost.
    """
    nodes = find_marks(graph)
    for mark in marks:
        if mark.number not in nodes:
            raise ModelError(
                f"The tensor '{mark.tensor}' is quantized but paddle2onnx has left it out of the ONNX model; "
                "leave the op that reads it float."
            )
        _check(table.params[mark.key])
    place = {node.output[0]: i for i, node in enumerate(graph.nodes)}
    in_order = sorted(marks, key=lambda mark: place[nodes[mark.number].output[0]])
    for mark in in_order:
        if not table.params[mark.key].is_weight:
            _write_activation(graph, nodes[mark.number], table.params[mark.key])
    for mark in in_order:
        if table.params[mark.key].is_weight:
            write_weight(graph, nodes[mark.number], table.params[mark.key])
    fold_stretching(graph)
    write_biases(graph)
    for node in list(graph.nodes):
        if node.op_type == "GlobalAveragePool":
            _mean_of_float(graph, node)
    graph.drop_unread()


def activation_grid(params: QuantParams, one_sided: bool = False) -> Tuple[np.float32, np.uint8]:
    """Step and zero point of an activation in uint8.

    A symmetric grid of ``bits`` has ``step = scale / (2**(bits-1) - 1)``, and 128 stands for 0. Below 8 bits it fills
    the middle of the byte. A tensor that is never negative has no use for half of that grid, and ONNX Runtime fuses a
    relu only with a zero point of 0: in 8 bits it gets ``step = scale / 255``, the same range with the levels closer.
    oneDNN does the same.

    Args:
        params: the grid.
        one_sided: the tensor is never negative.
    """
    if one_sided and params.symmetric and params.bits == 8:
        return max(params.scale[0] / np.float32(255), TINY), np.uint8(0)
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
    source, name = mark.input[0], params.tensor
    step, zero = activation_grid(params, _one_sided(graph, source))
    if params.bits == 8:
        step, zero = _without_saturated(step, zero, _useful(graph, mark.output[0]))
    if params.bits < 8:
        low, high = (-params.qmax, params.qmax) if params.symmetric else (-int(zero), params.qmax - int(zero))
        ends = [graph.add_constant(f"{name}/{k}", np.float32(v * step)) for k, v in (("low", low), ("high", high))]
        source = graph.add_node("Clip", [source, *ends], graph.fresh(f"{name}/c"), before=mark).output[0]
    scale, point = (_grid_before(graph, source, step, zero) if params.bits == 8 else None) or (
        graph.add_constant(f"{name}/s", np.float32(step)),
        graph.shared_constant(f"u8z{zero}", np.asarray(zero)),
    )
    q = graph.add_node("QuantizeLinear", [source, scale, point], graph.fresh(f"{name}/q"), before=mark)
    out = graph.add_node("DequantizeLinear", [q.output[0], scale, point], graph.fresh(f"{name}/d"), before=mark)
    graph.replace(mark.output[0], out.output[0])
    graph.remove(mark)


def _useful(graph: OnnxGraph, tensor: str) -> Tuple[float, float]:
    """The range beyond which no reader of a tensor tells values apart."""
    low, high = np.inf, -np.inf
    for node in graph.readers.get(tensor, []):
        ends = (-np.inf, np.inf)
        if node.op_type == "HardSwish":
            ends = (-3.0, np.inf)
        elif node.op_type == "HardSigmoid":
            slope, offset = attribute(node, "alpha", 0.2), attribute(node, "beta", 0.5)
            ends = (-offset / slope, (1 - offset) / slope)
        low, high = min(low, ends[0]), max(high, ends[1])
    return (low, high) if low < high else (-np.inf, np.inf)


def _without_saturated(step: np.float32, zero: np.uint8, useful: Tuple[float, float]) -> Tuple[np.float32, np.uint8]:
    """A grid narrowed to the range in which its readers do not saturate: its levels lie closer, nothing is lost.

    hard_swish is 0 below -3, and what convolutions compute before it often reaches far below.
    """
    low, high = -float(zero) * float(step), (255 - float(zero)) * float(step)
    new = (max(low, useful[0]), min(high, useful[1]))
    if new[0] >= new[1] or (new[1] - new[0]) > 0.98 * (high - low):
        return step, zero
    finer = np.float32((new[1] - new[0]) / 255)
    return finer, np.uint8(np.clip(round(-new[0] / float(finer)), 0, 255))


def _one_sided(graph: OnnxGraph, tensor: str) -> bool:
    """Whether a tensor is known never to be negative."""
    node = graph.producers.get(tensor)
    while node is not None and node.op_type in (*CHOOSING, "GlobalAveragePool", "AveragePool"):
        node = graph.producers.get(node.input[0])
    if node is None or node.op_type != "Clip":
        return node is not None and node.op_type in ONE_SIDED
    low = graph.constants.get(node.input[1]) if len(node.input) > 1 else None
    return low is not None and bool(np.all(low >= 0))


def _grid_before(graph: OnnxGraph, tensor: str, step: np.float32, zero: np.uint8) -> Optional[List[str]]:
    """Step and zero point of the grid that a tensor's values lie on already, behind ops that only choose among values.

    There its own grid, if it is as wide, would round a second time, and ONNX Runtime would leave the op float.
    """
    node = graph.producers.get(tensor)
    while node is not None and node.op_type in CHOOSING:
        node = graph.producers.get(node.input[0])
    if node is None or node.op_type != "DequantizeLinear" or node.input[0] in graph.constants:
        return None
    held = [graph.constants[name] for name in node.input[1:]]
    ends = [(np.array([0, 255]) - float(z)) * float(s) for s, z in (held, (step, zero))]
    widest = np.abs(ends[0]).max()
    covered = np.all(np.abs(np.clip(ends[0], *ends[1]) - ends[0]) <= AS_WIDE * widest)
    return list(node.input[1:]) if covered else None


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
