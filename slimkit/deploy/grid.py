"""A quantized model as a float model on the quantized grid.

Paddle-Lite's x86 int8 kernels are wrong (weights beyond +-63 saturate, int8 matmul gives NaN), so x86 gets this
form: weights keep their int8 values, stored as floats; activations are clipped at their thresholds but not rounded.
"""

from __future__ import annotations

import zlib  # noqa: F401  (before paddle)
from pathlib import Path
from typing import Collection, Dict, Optional, Union

from slimkit.deploy.model_files import legacy_pair
from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.ir.guards import legacy_ir
from slimkit.quant.load_quantized import load_quantized
from slimkit.quant.passes.extract_table import is_quantizer
from slimkit.quant.passes.read_old import DEQUANTIZERS
from slimkit.quant.table import QuantizedOp, QuantParams, QuantTable

__all__ = ["ACTIVATION_OPS", "DEQUANTIZE_OPS", "float_on_grid", "is_quantized"]

#: Ops that put an activation on its grid.
ACTIVATION_OPS = (
    "quantize_linear",
    "fake_quantize_abs_max",
    "fake_quantize_moving_average_abs_max",
    "fake_quantize_range_abs_max",
    "fake_quantize_dequantize_abs_max",
    "fake_quantize_dequantize_moving_average_abs_max",
)
DEQUANTIZE_OPS = ("dequantize_linear", *DEQUANTIZERS)


def is_quantized(op_types: Collection[str]) -> bool:
    """Whether a program with these op types is a quantized one."""
    return any(is_quantizer(op_type) for op_type in op_types)


def float_on_grid(prefix: Union[str, Path], out: Union[str, Path]) -> Path:
    """Writes the float form of a quantized model.

    Args:
        prefix: a quantized ``.pdmodel``/``.pdiparams`` pair, in any form that ``load_quantized`` reads.
        out: prefix to write.

    Returns:
        The ``.pdmodel`` written.

    Raises:
        ModelError: the model cannot be read, is not quantized, or has a quantize op of an unknown kind.
    """
    program_file, params_file = (Path(name) for name in legacy_pair(prefix, "Paddle-Lite"))
    folder = {"model_filename": program_file.name, "params_filename": params_file.name}
    quantized = load_quantized(program_file.parent, **folder)
    model = quantized.model
    with legacy_ir():
        graph = Graph(model.program, for_test=True)
        for part in graph.all_graphs():
            _clip(part, quantized.table)
        model.program = graph.to_program()
    return model.save(out)


def _clip(graph: Graph, table: QuantTable) -> None:
    """Puts a clip before the readers of each activation that has a fixed grid."""
    rows: Dict[str, QuantizedOp] = {op.output: op for op in table.ops}
    clipped: Dict[str, GraphVar] = {}
    for op in graph.ops():
        row = rows.get(op.outputs[0].name) if op.outputs else None
        if row is None or row.type != op.type:
            continue
        for slot, key in row.inputs.items():
            x, params = _read(op, slot), table.params[key]
            if x is None or params.is_weight or params.dynamic or x.name != params.tensor:
                continue
            if key not in clipped:
                clipped[key] = _clipped(graph, x, key, params)
            graph.replace_input(op, x, clipped[key])


def _read(op: GraphOp, slot: str) -> Optional[GraphVar]:
    name, _, index = slot.partition(":")
    return op.input_var(name, int(index or 0))


def _clipped(graph: Graph, x: GraphVar, key: str, params: QuantParams) -> GraphVar:
    high = float(params.scale[0])
    low = -high
    if not params.symmetric:
        step = high / params.qmax
        low = -float(params.zero_point[0]) * step
        high = low + float(params.scale[0])
    out = graph.create_var(f"{key}.clipped", x.shape, x.dtype)
    graph.insert_op("clip", {"X": x}, {"Out": out}, {"min": low, "max": high})
    return out
