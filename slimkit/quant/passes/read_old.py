"""Weights that are read without a quantizer of their own, brought back to float.

The old format has an op's weight as whole numbers and a fake_dequantize op behind the op (old Paddle Inference and
Paddle-Lite; PaddleSlim 1.x and 2.x). Weight-only models of ``quant_post_dynamic`` have integers as well, and their
scales in an attribute of the op that reads them.
"""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

import numpy as np

from slimkit.errors import ModelError
from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.numerics.symmetric import dequantize
from slimkit.quant.ops import WEIGHT_OPS, weight_axis
from slimkit.quant.passes.extract_table import INTEGER_QUANTIZERS, scope_value
from slimkit.quant.passes.read_linear import check_channels, once, store_floats
from slimkit.quant.table import QuantParams

__all__ = ["DEQUANTIZERS", "OldWeights", "take_from_behind"]

DEQUANTIZERS = ("fake_dequantize_max_abs", "fake_channel_wise_dequantize_max_abs")


class OldWeights:
    """See the module.

    Args:
        scope: holds weights and scales.
        floats: name -> scales of the stored weights that are float already; shared with the onnx format's reader.
    """

    def __init__(self, scope: Any, floats: Dict[str, np.ndarray]) -> None:
        self.scope = scope
        self.floats = floats

    def apply(self, graph: Graph) -> Dict[GraphOp, Tuple[str, QuantParams]]:
        """Makes weights float and removes dequantize ops; returns op -> the weight's slot and grid.

        Raises:
            ModelError: a dequantize op behind an op it is not known for, or scales that fit no channel.
        """
        found: Dict[GraphOp, Tuple[str, QuantParams]] = {}
        for op in graph.ops(*DEQUANTIZERS):
            x = op.input_var("X")
            if x is not None and (x.producer is None or x.producer.type not in INTEGER_QUANTIZERS):
                reader, slot, params = self._behind(graph, op)
                found[reader] = (slot, params)
        for op in graph.ops(*INTEGER_QUANTIZERS):
            for reader in op.output_var("Out").consumers:  # type: ignore[union-attr]
                if reader not in found and reader.type not in DEQUANTIZERS:
                    raise ModelError(
                        f"{reader.type} '{_name(reader)}' reads integers of {op.type} and no dequantize op is behind "
                        "it; export the model again in one format."
                    )
        for op in graph.ops(*WEIGHT_OPS):
            only = self._weight_only(op)
            if only is not None:
                found[op] = only
        return found

    def _behind(self, graph: Graph, op: GraphOp) -> Tuple[GraphOp, str, QuantParams]:
        raw, out = op.input_var("X"), op.output_var("Out")
        reader = raw.producer if raw is not None else None
        row = WEIGHT_OPS.get(reader.type) if reader is not None else None
        weight = reader.input_var(row.weight) if reader is not None and row is not None else None
        if reader is None or row is None or weight is None or not weight.persistable or out is None or raw is None:
            kind = f"{reader.type} '{_name(reader)}'" if reader is not None else f"'{op.input_names('X')[0]}'"
            raise ModelError(
                f"{op.type} is behind {kind}, not behind an op with a stored weight ({', '.join(WEIGHT_OPS)}); "
                "export the model again in one format."
            )
        x = reader.input_var(row.activation)
        quantizer = x.producer if x is not None else None
        if quantizer is None or quantizer.type not in INTEGER_QUANTIZERS:
            raise ModelError(f"{reader.type} '{_name(reader)}' has {op.type} behind it but no fake_quantize before it.")
        params = self._grid(op, reader, weight, int(quantizer.attr("bit_length", 8)))
        take_from_behind(graph, op, reader)
        return reader, row.weight, params

    def _grid(self, op: GraphOp, reader: GraphOp, weight: GraphVar, activation_bits: int) -> QuantParams:
        stored = scope_value(self.scope, weight.name) if weight.name not in self.floats else None
        axis: Optional[int] = None
        if op.type == "fake_dequantize_max_abs":
            bits = 8 if stored is None else _width(stored)
            levels = (2 ** (bits - 1) - 1) * (2 ** (activation_bits - 1) - 1)
            scale = np.array([_divisor(levels, op.attr("max_range"))], np.float32)
        else:
            scale = scope_value(self.scope, op.input_names("Scales")[0]).astype(np.float32).reshape(-1)
            bits = int((op.attr("quant_bits") or [8])[0])
            axis = int(op.attr("quant_axis", 0))
            if scale.size != weight.shape[axis]:
                axis = weight_axis(reader.type, bool(reader.attr("trans_y", reader.attr("transpose_Y", False))))
            if scale.size > weight.shape[axis] and reader.type == "conv2d_transpose":
                scale = scale[: weight.shape[axis]]  # repeated for each group
            check_channels(weight, axis, scale.size)
        if once(weight, scale, self.floats) and stored is not None:
            store_floats(self.scope, weight, dequantize(stored, scale if axis is not None else scale[0], bits, axis))
        return QuantParams(weight.name, scale, bits, axis, is_weight=True)

    def _weight_only(self, op: GraphOp) -> Optional[Tuple[str, QuantParams]]:
        """``quant_post_dynamic``: step, not threshold, in ``<weight>_quant_scale``."""
        slot = WEIGHT_OPS[op.type].weight
        weight = op.input_var(slot)
        steps = op.attr(f"{weight.name}_quant_scale") if weight is not None else None
        if weight is None or not steps:
            return None
        bits = int(op.attr("quantize_weight_bits", 8))
        scale = (np.asarray(steps, np.float64) * (2 ** (bits - 1) - 1)).astype(np.float32)
        axis = weight_axis(op.type) if "channel_wise" in op.attr("quantization_type", "") else None
        if axis is not None:
            check_channels(weight, axis, scale.size)
        stored = scope_value(self.scope, weight.name)
        if once(weight, scale, self.floats) and stored.dtype.kind == "i":
            store_floats(self.scope, weight, dequantize(stored, scale if axis is not None else scale[0], bits, axis))
        return slot, QuantParams(weight.name, scale, bits, axis, is_weight=True, rounding="half_even")


def take_from_behind(graph: Graph, op: GraphOp, reader: GraphOp) -> None:
    """Removes a dequantize op behind ``reader``, which then writes what the op wrote."""
    raw, out, inputs = op.input_var("X"), op.output_var("Out"), list(op.inputs)
    if raw is None or out is None:
        return
    graph.remove_op(op, remove_dangling=False)
    graph.replace_output(reader, raw, out)
    for var in (raw, *inputs):
        graph.drop_unread(var)


def _width(stored: np.ndarray) -> int:
    """The narrowest width whose symmetric grid has these integers; max-abs scales use its largest one."""
    peak = int(np.abs(stored).max(initial=0))
    return next(bits for bits in range(2, 33) if 2 ** (bits - 1) >= peak) if peak else 8


def _divisor(levels: int, quotient: float) -> np.float32:
    """The float32 scale whose ``levels / scale`` is the stored float32 quotient again, if there is one."""
    near = np.float32(levels / quotient)
    candidates = [near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(np.inf))]
    wanted = np.float32(quotient)
    return next((s for s in candidates if np.float32(float(levels) / float(s)) == wanted), near)


def _name(op: GraphOp) -> str:
    return op.outputs[0].name if op.outputs else op.type
