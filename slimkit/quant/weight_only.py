"""``quant_post_dynamic``: weights stored as integers, arithmetic in float, no data needed.

The files are small and compute the dequantized weights wherever Paddle runs; PaddleSlim's hold bare integers that
Paddle itself cannot run (``load_quantized`` reads them).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional, Sequence, Tuple

import numpy as np

from slimkit.errors import ConfigError, ModelError
from slimkit.ir.graph import Graph, GraphOp
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.numerics.scales import abs_max, channel_wise_abs_max
from slimkit.quant.export import export_program
from slimkit.quant.ops import WEIGHT_OPS, weight_axis
from slimkit.quant.passes.extract_table import scope_value
from slimkit.quant.post_static import name_list, saved_prefix
from slimkit.quant.quantized import Quantized
from slimkit.quant.table import QuantizedOp, QuantParams, QuantTable
from slimkit.quant.weights_on_grid import put_on_grids

__all__ = ["quant_post_dynamic", "quant_post_only_weight", "quantize_weights"]

#: "mul" is what fully connected layers were; Paddle 2 and later write them as matrix products.
_MEANS = {"mul": ("mul", "matmul", "matmul_v2")}


def quant_post_dynamic(
    model_dir: str,
    save_model_dir: str,
    model_filename: Optional[str],
    params_filename: Optional[str],
    save_model_filename: Optional[str] = "model.pdmodel",
    save_params_filename: Optional[str] = "model.pdiparams",
    quantizable_op_type: Sequence[str] = ("conv2d", "mul"),
    weight_bits: int = 8,
    generate_test_model: bool = False,
) -> None:
    """Quantizes the weights of a saved model, with PaddleSlim 2.6's arguments and defaults.

    Writes ``save_model_dir/quantized_model``, for Paddle Inference, and with ``generate_test_model`` also
    ``save_model_dir/test_model``, which holds the same weights as float numbers. ``slimkit export`` takes the former to
    other runtimes.

    Args:
        model_dir: folder or prefix of the float model.
        save_model_dir: folder to write.
        model_filename: the model file in ``model_dir``.
        params_filename: the parameter file in ``model_dir``.
        save_model_filename: the model file to write.
        save_params_filename: kept for compatibility: the parameters' file is named as the model's, as in PaddleSlim.
        quantizable_op_type: op types whose weights to quantize; ``mul`` stands for every fully connected layer.
        weight_bits: 8 or 16.
        generate_test_model: see above.

    Raises:
        ConfigError: other bits, or an op type without a weight.
        ModelError: the model cannot be read, or holds no such op.
    """
    if weight_bits not in (8, 16):
        raise ConfigError(f"weight_bits = {weight_bits}: weights are stored with 8 or 16 bits.")
    saved_prefix(save_model_dir, save_model_filename, "save_model_dir")
    op_types = name_list("quantizable_op_type", quantizable_op_type)
    model = Model.load(str(model_dir), model_filename=model_filename, params_filename=params_filename)
    quantized = quantize_weights(model, op_types, weight_bits)
    runtime = "onednn" if weight_bits == 8 else None  # right in Paddle Inference's int8 mode too, which has no int16
    stored = export_program(quantized.model, quantized.table, runtime=runtime)
    folder = Path(save_model_dir)
    stored.save(saved_prefix(folder / "quantized_model", save_model_filename, "save_model_dir"))
    if generate_test_model:
        quantized.model.save(saved_prefix(folder / "test_model", save_model_filename, "save_model_dir"))


quant_post_only_weight = quant_post_dynamic


def quantize_weights(
    model: Model,
    op_types: Sequence[str] = tuple(WEIGHT_OPS),
    bits: int = 8,
    weight_quantize_type: str = "channel_wise_abs_max",
) -> Quantized:
    """The weights of a float model on symmetric max-abs grids (Krishnamoorthi 2018, arXiv 1806.08342, section 3.1.2).

    Args:
        model: float; it is not changed.
        op_types: keys of ``WEIGHT_OPS``; ``mul`` stands for matrix products too.
        bits: 2 to 16.
        weight_quantize_type: channel_wise_abs_max or abs_max.

    Returns:
        The model with weights that lie on their grids, and the table: no activation is in it.

    Raises:
        ConfigError: an op type without a weight.
        ModelError: the model has no such op.
    """
    if not op_types:
        raise ConfigError(f"quantizable_op_type is empty; name some of {', '.join(WEIGHT_OPS)}.")
    wanted = {kind for name in op_types for kind in _MEANS.get(name, (name,))}
    unknown = next((kind for kind in op_types if kind not in WEIGHT_OPS), None)
    if unknown is not None:
        allowed = ", ".join(WEIGHT_OPS)
        raise ConfigError(f"quantizable_op_type: '{unknown}' has no weight to quantize; allowed are {allowed}.")
    copy, table = model.clone(copy_params=True), QuantTable()
    with legacy_ir():
        graph = Graph(copy.program, for_test=True)
        for part in graph.all_graphs():
            for op in part.ops(*wanted):
                row = _row(op, copy.scope, bits, weight_quantize_type == "channel_wise_abs_max")
                if row is not None:
                    slot, params = row
                    table.ops.append(QuantizedOp(op.type, op.outputs[0].name, {slot: table.add(params)}))
    if not table.ops:
        raise ModelError(f"The model has no {', '.join(sorted(wanted))} with a float weight, so nothing is quantized.")
    put_on_grids(copy, table)
    return Quantized(copy, table)


def _row(op: GraphOp, scope: Any, bits: int, channel_wise: bool) -> Optional[Tuple[str, QuantParams]]:
    slot = WEIGHT_OPS[op.type].weight
    weight = op.input_var(slot)
    if weight is None or not weight.persistable or weight.producer is not None:
        return None
    value = scope_value(scope, weight.name)
    if value.dtype != np.float32 or (value.ndim != 2 and op.type in _MEANS["mul"]):
        return None
    axis = weight_axis(op.type, bool(op.attr("trans_y", False) or op.attr("transpose_Y", False)))
    scale = channel_wise_abs_max(value, axis) if channel_wise else np.asarray(abs_max(value))
    along = axis if channel_wise else None
    return slot, QuantParams(weight.name, scale, bits, along, is_weight=True, rounding="half_even")
