"""Weights put on their grids: the float values that the stored integers stand for."""

from __future__ import annotations

import numpy as np

from slimkit.ir.graph import Graph
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.numerics.symmetric import dequantize
from slimkit.quant.passes.freeze_weights import along, weight_integers
from slimkit.quant.table import QuantParams, QuantTable

__all__ = ["on_grid", "put_on_grids"]


def on_grid(value: np.ndarray, params: QuantParams) -> np.ndarray:
    """A weight's values on its grid, in the arithmetic of Paddle's kernels (float32).

    Args:
        value: float32, any shape.
        params: its grid; symmetric or affine.
    """
    q = weight_integers(value, params)
    if params.symmetric:
        return dequantize(q, params.scale if params.axis is not None else params.scale[0], params.bits, params.axis)
    step = along(params.scale, value.ndim, params.axis) / np.float32(params.qmax)
    zero = along(params.zero_point.astype(np.float32), value.ndim, params.axis)
    return ((q - zero) * step).astype(np.float32)


def put_on_grids(model: Model, table: QuantTable) -> None:
    """Changes the weights that only quantized ops read, all on one grid; others keep their values.

    Args:
        model: float; its parameters are changed.
        table: the grids and their readers.
    """
    with legacy_ir():
        graph = Graph(model.program)
    rows = {op.output: set(op.inputs.values()) for op in table.ops}
    for key, params in table.weights().items():
        readers = [op for part in graph.all_graphs() for var in part.vars(params.tensor) for op in var.consumers]
        if all(op.outputs and key in rows.get(op.outputs[0].name, ()) for op in readers):
            model.params[params.tensor] = on_grid(model.params[params.tensor], params)
