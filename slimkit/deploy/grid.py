"""A quantized model as a float model on the quantized grid.

Paddle-Lite's x86 int8 kernels are wrong (weights beyond +-63 saturate, int8 matmul gives NaN), so x86 gets this
form: weights keep their int8 values, stored as floats; activations are clipped at their thresholds but not rounded.
Both quantization formats are read.
"""

from __future__ import annotations

import zlib  # noqa: F401  (before paddle)
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Set, Tuple, Union

import numpy as np

from slimkit.deploy.model_files import legacy_pair
from slimkit.errors import ModelError
from slimkit.files import atomic_write

__all__ = ["float_on_grid", "is_quantized", "weight_on_grid"]

ACTIVATION_OPS = (
    "quantize_linear",
    "fake_quantize_abs_max",
    "fake_quantize_moving_average_abs_max",
    "fake_quantize_range_abs_max",
    "fake_quantize_dequantize_abs_max",
    "fake_quantize_dequantize_moving_average_abs_max",
)
DEQUANTIZE_OPS = ("dequantize_linear", "fake_dequantize_max_abs", "fake_channel_wise_dequantize_max_abs")
WEIGHT_SLOTS = ("Filter", "Y", "W")
INT8, FP32 = 21, 5  # framework.proto, VarType.Type


def weight_on_grid(q: np.ndarray, scale: np.ndarray, axis: Optional[int], bits: int = 8) -> np.ndarray:
    """Float values of an integer weight: ``q / (2**(bits-1) - 1) * scale``.

    Args:
        q: integers, any shape.
        scale: max-abs thresholds, one or one per channel of ``axis``.
        axis: the channel axis; None or -1 for one scale.
        bits: width of the grid.
    """
    shape = [1] * q.ndim
    if scale.size > 1:
        shape[axis or 0] = -1
    return (q.astype(np.float32) / (2 ** (bits - 1) - 1) * scale.astype(np.float32).reshape(shape)).astype(np.float32)


def is_quantized(op_types: Set[str]) -> bool:
    """Whether a program with these op types is a quantized one."""
    return bool(op_types & {*ACTIVATION_OPS, *DEQUANTIZE_OPS})


def float_on_grid(prefix: Union[str, Path], out: Union[str, Path]) -> Path:
    """Writes the float form of a quantized model.

    Args:
        prefix: a quantized ``.pdmodel``/``.pdiparams`` pair, old or onnx format.
        out: prefix to write.

    Returns:
        The ``.pdmodel`` written.

    Raises:
        ModelError: the model cannot be read, or has a quantize op of an unknown kind.
    """
    from paddle.base.proto import framework_pb2

    from slimkit.ir.params_file import read_combined, write_combined

    program_file, params_file = legacy_pair(prefix, "Paddle-Lite")
    program = framework_pb2.ProgramDesc()
    program.ParseFromString(Path(program_file).read_bytes())
    block = program.blocks[0]
    parameters = {v.name: v for v in block.vars if v.persistable and v.type.HasField("dense_tensor")}
    shapes = {name: tuple(v.type.dense_tensor.tensor.dims) for name, v in parameters.items()}
    arrays = read_combined(params_file, shapes)
    _Rewrite(block, arrays).apply()
    used = {name for op in block.ops for slot in op.inputs for name in slot.arguments}
    kept = [v for v in block.vars if not v.persistable or v.name in used or v.name in ("feed", "fetch")]
    for var in kept:
        if var.name in arrays:
            var.type.dense_tensor.tensor.data_type = _proto_type(arrays[var.name], var)
    del block.vars[:]
    block.vars.extend(kept)
    write_combined(f"{out}.pdiparams", {name: a for name, a in arrays.items() if name in used})
    return atomic_write(f"{out}.pdmodel", program.SerializeToString())


def _proto_type(array: np.ndarray, var: Any) -> int:
    return FP32 if array.dtype == np.float32 else var.type.dense_tensor.tensor.data_type


class _Rewrite:
    """Drops the quantize and dequantize ops of one block; weights become floats."""

    def __init__(self, block: Any, arrays: Dict[str, np.ndarray]) -> None:
        self.block, self.arrays = block, arrays
        self.renamed: Dict[str, str] = {}
        self.bits: Dict[str, int] = {}  # tensor behind an old-format quantize op -> its bits
        self.readers = {name: op for op in block.ops for slot in op.outputs for name in slot.arguments}
        self.kept: List[Any] = []

    def apply(self) -> None:
        handlers: Dict[str, Callable[[Any], None]] = dict.fromkeys(ACTIVATION_OPS, self._activation)
        handlers["dequantize_linear"] = self._dequantize_linear
        handlers["fake_dequantize_max_abs"] = self._old_dequantize
        handlers["fake_channel_wise_dequantize_max_abs"] = self._old_dequantize
        handlers["fake_channel_wise_quantize_dequantize_abs_max"] = self._weight_snap
        for op in self.block.ops:
            handler = handlers.get(op.type)
            if handler is None and op.type.startswith(("fake_quantize", "fake_channel_wise")):
                raise ModelError(f"{op.type} is not known to slimkit's export; freeze the model with slimkit first.")
            if handler is None:
                self._rename_inputs(op)
                self.kept.append(op)
            else:
                handler(op)
        kept = [_copy(op) for op in self.kept]
        del self.block.ops[:]
        self.block.ops.extend(kept)

    def _rename_inputs(self, op: Any) -> None:
        for slot in op.inputs:
            names = [self._now(name) for name in slot.arguments]
            del slot.arguments[:]
            slot.arguments.extend(names)

    def _now(self, name: str) -> str:
        while name in self.renamed:
            name = self.renamed[name]
        return name

    def _activation(self, op: Any) -> None:
        x, out = _one(op.inputs, "X"), _one(op.outputs, "Y") or _one(op.outputs, "Out")
        scale = _one(op.inputs, "Scale") or _one(op.inputs, "InScale")
        if x in self.arrays:  # a weight
            self._snap(x, self.arrays[scale] if scale in self.arrays else None, None, _attr(op, "bit_length", 8))
            self.renamed[out] = x
            return
        self.bits[out] = _attr(op, "bit_length", 8)
        if scale in self.arrays and self.arrays[scale].size == 1:
            self._clip(self._now(x), out, float(self.arrays[scale].reshape(-1)[0]))
        else:
            self.renamed[out] = x

    def _clip(self, x: str, out: str, threshold: float) -> None:
        op = type(self.block.ops[0])()
        op.type = "clip"
        op.inputs.add(parameter="X").arguments.append(x)
        op.outputs.add(parameter="Out").arguments.append(out)
        op.attrs.add(name="min", type=1, f=-threshold)
        op.attrs.add(name="max", type=1, f=threshold)
        self.kept.append(op)

    def _dequantize_linear(self, op: Any) -> None:
        x, out = _one(op.inputs, "X"), _one(op.outputs, "Y")
        if x in self.arrays:
            if self.arrays[x].dtype != np.float32:
                scale = self.arrays[_one(op.inputs, "Scale")]
                axis, bits = _attr(op, "quant_axis", 0), _attr(op, "bit_length", 8)
                self.arrays[x] = weight_on_grid(self.arrays[x], scale, axis, bits)
        self.renamed[out] = x

    def _old_dequantize(self, op: Any) -> None:
        x, out = _one(op.inputs, "X"), _one(op.outputs, "Out")
        producer = self.readers[x]
        weight = next(_one(producer.inputs, s) for s in WEIGHT_SLOTS if _one(producer.inputs, s))
        if op.type == "fake_dequantize_max_abs":
            entry = next((slot.arguments[0] for slot in producer.inputs if slot.arguments[0] in self.bits), "")
            levels = 2 ** (self.bits.get(entry, 8) - 1) - 1
            self.arrays[weight] = (self.arrays[weight] * (levels / _attr(op, "max_range", 1.0))).astype(np.float32)
        else:
            scale = self.arrays[_one(op.inputs, "Scales")]
            axis, bits = _attr(op, "quant_axis", 0), (_attr(op, "quant_bits", None) or [8])[0]
            self.arrays[weight] = weight_on_grid(self.arrays[weight], scale, axis, bits)
        self.renamed[out] = x

    def _weight_snap(self, op: Any) -> None:
        x = _one(op.inputs, "X")
        self._snap(x, None, _attr(op, "quant_axis", 0), _attr(op, "bit_length", 8))
        self.renamed[_one(op.outputs, "Out")] = x

    def _snap(self, name: str, scale: Optional[np.ndarray], axis: Optional[int], bits: int) -> None:
        weight = self.arrays[name]
        others = None if axis is None else tuple(d for d in range(weight.ndim) if d != axis)
        found = np.abs(weight).max(axis=others).reshape(-1) if scale is None else scale
        shape = [1] * weight.ndim
        if found.size > 1:
            shape[axis or 0] = -1
        levels = 2 ** (bits - 1) - 1
        safe = np.maximum(found, 1e-12).reshape(shape)
        q = np.round(np.clip(weight / safe, -1, 1) * levels)
        self.arrays[name] = weight_on_grid(q, found, axis, bits)


def _copy(op: Any) -> Any:
    copied = type(op)()
    copied.CopyFrom(op)
    return copied


def _one(slots: Any, name: str) -> str:
    return next((slot.arguments[0] for slot in slots if slot.parameter == name and slot.arguments), "")


def _attr(op: Any, name: str, default: Any) -> Any:
    fields: Tuple[str, ...] = ("i", "f", "s", "ints", "floats", "strings", "b")
    for attr in op.attrs:
        if attr.name == name:
            value = getattr(attr, fields[attr.type])
            return list(value) if fields[attr.type] in ("ints", "floats", "strings") else value
    return default
