"""The onnx format read back: quantize_linear and dequantize_linear pairs, and weights stored as integers.

A scale is the clipping threshold, ``q = round(x / scale * (2**(bits-1) - 1))``; Paddle's kernels do not read zero
points. With ``only_observer`` both ops pass their input on: the scale was only measured (see ``read_observers``).
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import numpy as np
import paddle
from paddle.base import core

from slimkit.errors import ModelError
from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.numerics.symmetric import dequantize
from slimkit.quant.passes.extract_table import scope_value
from slimkit.quant.quantizers import set_tensor
from slimkit.quant.table import QuantParams

__all__ = [
    "check_channels",
    "fold_integer_casts",
    "linear_params",
    "linear_source",
    "once",
    "rounding_of",
    "store_floats",
]

FP32 = core.VarDesc.VarType.FP32


def linear_source(op: GraphOp) -> GraphVar:
    """The tensor a ``dequantize_linear`` op brings back: a stored weight, or what its quantize_linear op reads.

    Raises:
        ModelError: its input is neither.
    """
    x = op.input_var("X")
    if x is not None and x.producer is None and x.persistable:
        return x
    source = x.producer.input_var("X") if x is not None and x.producer is not None else None
    if source is None or x is None or x.producer is None or x.producer.type != "quantize_linear":
        raise ModelError(
            f"dequantize_linear of '{op.input_names('X')[0]}' has no quantize_linear before it and its input is no "
            "stored weight; export the model again with quantize and dequantize ops in pairs."
        )
    return source


def linear_params(scope: Any, op: GraphOp, x: GraphVar, floats: Dict[str, np.ndarray]) -> QuantParams:
    """The grid of a ``dequantize_linear`` op; a weight that was stored as integers becomes float.

    Args:
        scope: holds scales and weights.
        op: the op.
        x: its source, see :func:`linear_source`.
        floats: name -> scales of the stored weights that are float already; gets this one.

    Raises:
        ModelError: the scales do not fit the tensor.
    """
    bits, weight = int(op.attr("bit_length", 8)), x.persistable and x.producer is None
    scale = np.asarray(scope_value(scope, op.input_names("Scale")[0]), np.float32).reshape(-1)
    axis: Optional[int] = None
    if scale.size > 1 or (weight and op.attr("quant_axis", -1) >= 0):
        axis = int(op.attr("quant_axis", 0)) % max(len(x.shape), 1)
        check_channels(x, axis, scale.size)
    quantized = op.input_var("X")
    quantizer = quantized.producer if quantized is not None else None
    rounding = rounding_of(quantizer, 0) if quantizer is not None else rounding_of(op, 1)
    if weight and x is quantized and once(x, scale, floats):  # behind no quantize_linear: integers
        stored = scope_value(scope, x.name)
        store_floats(scope, x, dequantize(stored, scale if axis is not None else scale[0], bits, axis))
        if stored.min(initial=0) < -(2 ** (bits - 1) - 1):
            rounding = "half_even"  # whose grid has that level
    return QuantParams(x.name, scale, bits, axis, is_weight=x.persistable, rounding=rounding)


def once(weight: GraphVar, scale: np.ndarray, floats: Dict[str, np.ndarray]) -> bool:
    """Whether a stored weight is met for the first time.

    Raises:
        ModelError: it was brought back with other scales before.
    """
    held = floats.setdefault(weight.name, scale)
    if held is scale:
        return True
    if np.array_equal(held, scale):
        return False
    raise ModelError(
        f"The stored weight '{weight.name}' is dequantized with two different scales; give each reader a copy of it."
    )


def check_channels(x: GraphVar, axis: int, count: int) -> None:
    """Refuses scales that are not one a channel.

    Raises:
        ModelError: they are not.
    """
    if count != x.shape[axis]:
        raise ModelError(
            f"'{x.name}' of shape {list(x.shape)} has {count} scales along axis {axis}; one a channel is needed: the "
            "file is damaged, export it again."
        )


def rounding_of(op: GraphOp, default: int) -> str:
    return "half_even" if op.attr("round_type", default) == 0 else "half_away"


def store_floats(scope: Any, weight: GraphVar, value: np.ndarray) -> None:
    """Gives a parameter float values, in the scope and in the program."""
    set_tensor(scope, weight.name, value.astype(np.float32), paddle.CPUPlace())
    weight.desc.set_dtype(FP32)


def fold_integer_casts(scope: Any, graph: Graph) -> List[str]:
    """Integer parameters that are only read through casts to float32 become float32 parameters; returns their names."""
    folded: List[str] = []
    for op in graph.ops("cast"):
        x = op.input_var("X") if graph.has_op(op) else None
        if x is None or not x.persistable or x.producer is not None:
            continue
        reads = [(cast, cast.output_var("Out")) for cast in x.consumers if cast.type == "cast"]
        value = scope_value(scope, x.name)
        if value.dtype not in (np.int8, np.int16) or len(reads) < len(x.consumers):
            continue
        if any(read is None or read.dtype != FP32 for _, read in reads):
            continue
        store_floats(scope, x, value)
        for cast, read in reads:
            graph.replace_all_uses(read, x)  # type: ignore[arg-type]
            graph.remove_op(cast)
        folded.append(x.name)
    return folded
