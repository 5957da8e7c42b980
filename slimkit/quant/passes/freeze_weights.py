"""Weights as stored integers: rounding them, and the ops that bring them back where they are read."""

from __future__ import annotations

from typing import Any, Dict, Optional

import numpy as np
from paddle.base import core

from slimkit.ir.graph import Graph, GraphVar
from slimkit.numerics.symmetric import quantize
from slimkit.quant.table import QuantParams

__all__ = ["linear_attrs", "store_weight", "weight_integers"]

FP32 = core.VarDesc.VarType.FP32
_INT_TYPES = {np.dtype(np.int8): core.VarDesc.VarType.INT8, np.dtype(np.int16): core.VarDesc.VarType.INT16}


def along(values: np.ndarray, ndim: int, axis: Optional[int]) -> np.ndarray:
    if axis is None:
        return values.reshape((1,) * ndim)
    return values.reshape(tuple(-1 if d == axis else 1 for d in range(ndim)))


def weight_integers(weight: np.ndarray, params: QuantParams) -> np.ndarray:
    """A weight's integers on its grid, in the arithmetic of Paddle's kernels (float32).

    Args:
        weight: float32, any shape.
        params: its grid; symmetric or affine.

    Returns:
        float32 array of whole numbers: ``[-qmax, qmax]`` symmetric, ``[0, qmax]`` affine.
    """
    if params.symmetric:
        return quantize(weight, params.scale, params.bits, params.axis, params.rounding).astype(np.float32)
    qmax = np.float32(params.qmax)
    step = along(params.scale.astype(np.float32), weight.ndim, params.axis) / qmax
    zero = along(params.zero_point.astype(np.float32), weight.ndim, params.axis)
    return np.clip(np.round(weight / step) + zero, 0, qmax).astype(np.float32)


def linear_attrs(params: QuantParams, axis: int) -> Dict[str, Any]:
    """Attributes of quantize_linear and dequantize_linear; the range is written where it is not int8, the default."""
    grid = {} if params.bits == 8 else {"qmin": -(2 ** (params.bits - 1)), "qmax": 2 ** (params.bits - 1) - 1}
    return {
        "quant_axis": axis,
        "bit_length": params.bits,
        "round_type": 0 if params.rounding == "half_even" else 1,
        "is_test": True,
        **grid,
    }


def store_weight(
    freeze: Any, graph: Graph, weight: GraphVar, name: str, q: np.ndarray, params: QuantParams
) -> GraphVar:
    """Replaces a float weight by its integers and a dequantize op; returns the dequantized tensor."""
    narrow = np.int8 if params.bits <= 8 else np.int16
    half = 0 if params.symmetric else 2 ** (params.bits - 1)  # affine integers are unsigned
    freeze.written[name] = (q - half).astype(narrow)
    dtype = _INT_TYPES[np.dtype(narrow)]
    if name == weight.name:
        stored = weight
        stored.desc.set_dtype(dtype)
    else:
        stored = graph.create_var(name, weight.shape, dtype, persistable=True, stop_gradient=True)
    out = graph.create_var(f"{name}.dq", weight.shape, FP32)
    if not params.symmetric:
        return _affine_weight(freeze, graph, stored, out, params, half)
    source = stored if narrow is np.int8 else _cast(graph, stored)
    scale = freeze._const(graph, f"{name}@scale", params.scale)
    zero = freeze._zero_point(graph, name, params.scale.size)
    attrs = linear_attrs(params, -1 if params.axis is None else params.axis)
    graph.insert_op("dequantize_linear", {"X": source, "Scale": scale, "ZeroPoint": zero}, {"Y": out}, attrs)
    return out


def _affine_weight(
    freeze: Any, graph: Graph, stored: GraphVar, out: GraphVar, params: QuantParams, half: int
) -> GraphVar:
    """``(stored + half - zero) * step`` in float32."""
    ndim = len(stored.shape) if params.axis is not None else 1
    offset = (half - params.zero_point).astype(np.float32)
    constants = {"quant_offset": offset, "quant_step": params.scale / np.float32(params.qmax)}
    offset_var, step_var = (
        freeze._const(graph, f"{stored.name}@{kind}", along(value.astype(np.float32), ndim, params.axis or 0))
        for kind, value in constants.items()
    )
    centred = graph.create_var(f"{stored.name}.centred", stored.shape, FP32)
    graph.insert_op("elementwise_add", {"X": _cast(graph, stored), "Y": offset_var}, {"Out": centred}, {"axis": -1})
    graph.insert_op("elementwise_mul", {"X": centred, "Y": step_var}, {"Out": out}, {"axis": -1})
    return out


def _cast(graph: Graph, stored: GraphVar) -> GraphVar:
    """The float32 copy of an integer variable."""
    out = graph.create_var(f"{stored.name}.float", stored.shape, FP32)
    graph.insert_op("cast", {"X": stored}, {"Out": out}, {"in_dtype": int(stored.dtype), "out_dtype": int(FP32)})
    return out
