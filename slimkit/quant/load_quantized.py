"""A model quantized earlier, by PaddleSlim or slimkit, back as a float ``Model`` and a ``QuantTable``.

Read are the onnx format (quantize_linear, dequantize_linear), the old one (fake_quantize before an op, fake_dequantize
behind it), unfrozen training exports (fake_quantize_dequantize) and weight-only models of ``quant_post_dynamic``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Union

from paddle.base import core

from slimkit.errors import ModelError
from slimkit.ir.graph import Graph
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.quant.passes.extract_table import is_quantizer
from slimkit.quant.passes.read_quantized import ReadQuantized
from slimkit.quant.quantized import Quantized
from slimkit.quant.weights_on_grid import put_on_grids

__all__ = ["is_quantized", "load_quantized", "read_quantized"]

FP32 = core.VarDesc.VarType.FP32


def load_quantized(
    path: Union[str, Path], *, model_filename: Optional[str] = None, params_filename: Optional[str] = None
) -> Quantized:
    """Loads a quantized inference model.

    Args:
        path: a folder, a prefix or the model file, as :meth:`Model.load` takes them.
        model_filename: the model file in the folder, when it cannot be told from the names there.
        params_filename: the parameter file in the folder.

    Returns:
        The float model, whose quantized weights have float values that lie on their grids, and the table.

    Raises:
        ModelError: files missing or damaged; nothing in the model is quantized; a quantize op of an unknown kind.
    """
    model = Model.load(path, model_filename=model_filename, params_filename=params_filename)
    return read_quantized(model, str(path))


def read_quantized(model: Model, name: str = "the model") -> Quantized:
    """Takes the quantize ops out of a loaded model.

    Args:
        model: quantized; it is not changed.
        name: what an error calls it.

    Raises:
        ModelError: as :func:`load_quantized`.
    """
    copy = model.clone(copy_params=True)
    with legacy_ir():
        graph = Graph(copy.program, for_test=True)
        reader = ReadQuantized(copy.scope, copy.fetches)
        table = reader.apply(graph)
        if not table.ops and not reader.floats:
            raise ModelError(
                f"{name} holds no quantized op, so there is nothing to read; quantize it with `slimkit ptq` or "
                "`slimkit quant`, or use it as the float model it is."
            )
        copy.program = graph.to_program()
        for weight in reader.floats:  # declared outside of the loop that reads it
            copy.program.global_block().var(weight).desc.set_dtype(FP32)
    put_on_grids(copy, table)  # those of unfrozen training graphs
    return Quantized(copy, table)


def is_quantized(model: Model) -> bool:
    """Whether a loaded model has quantize ops, or weights stored by ``quant_post_dynamic``."""
    ops = [op for block in model.program.blocks for op in block.ops]
    return any(is_quantizer(op.type) or "post_weight" in str(_attr(op, "quantization_type")) for op in ops)


def _attr(op: object, name: str) -> object:
    return op.attr(name) if op.has_attr(name) else ""  # type: ignore[attr-defined]
