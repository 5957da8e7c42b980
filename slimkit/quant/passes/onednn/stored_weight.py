"""The stored weight of an op in a graph of the onnx format, and its float values."""

from __future__ import annotations

from typing import Any, Optional, Tuple

import numpy as np

from slimkit.ir.graph import GraphOp, GraphVar

__all__ = ["array", "real_values", "stored_weight"]


def stored_weight(op: GraphOp, slot: str) -> Optional[Tuple[GraphOp, GraphVar]]:
    """(dequantize op, stored integers) of an op's weight, or None."""
    var = op.input_var(slot)
    if var is None or var.producer is None or var.producer.type != "dequantize_linear":
        return None
    stored = var.producer.input_var("X")
    return (var.producer, stored) if stored is not None and stored.persistable else None


def array(scope: Any, name: str) -> np.ndarray:
    return np.array(scope.find_var(name).get_tensor())


def real_values(scope: Any, dequantize: GraphOp, stored: GraphVar) -> np.ndarray:
    """What a dequantize op makes of stored integers: float32, in their shape."""
    q = array(scope, stored.name).astype(np.float32)
    scale, axis = array(scope, dequantize.input_names("Scale")[0]), dequantize.attr("quant_axis")
    if scale.size > 1:
        scale = scale.reshape([-1 if d == axis else 1 for d in range(q.ndim)])
    return (q * scale / np.float32(dequantize.attr("qmax", 127))).astype(np.float32)
