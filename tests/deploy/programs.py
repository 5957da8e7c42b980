"""Small legacy programs built op by op, with a second implementation in numpy."""

from __future__ import annotations

import zlib  # noqa: F401  (before paddle)

import numpy as np
import paddle
from paddle.base import core

from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.ir.params import fill_scope

CONV = {"strides": [1, 1], "paddings": [1, 1], "dilations": [1, 1], "groups": 1, "padding_algorithm": "EXPLICIT"}
CONV["data_format"] = "NCHW"
POINT = {**CONV, "paddings": [0, 0]}
HARD_SWISH = {"threshold": 6.0, "scale": 6.0, "offset": 3.0}
LINEAR = {"round_type": 0, "is_test": True, "only_observer": False}
POOL = {
    **{"pooling_type": "avg", "ksize": [1, 1], "strides": [1, 1], "paddings": [0, 0], "adaptive": True},
    **{"global_pooling": False, "exclusive": True, "ceil_mode": False, "data_format": "NCHW"},
}


class Builder:
    """Collects ops and parameters, then saves the program."""

    def __init__(self) -> None:
        self.ops: list = []
        self.params: dict[str, np.ndarray] = {}

    def op(self, type_: str, inputs: dict, outputs: dict, **attrs) -> str:
        listed = {k: v if isinstance(v, list) else [v] for k, v in inputs.items()}
        self.ops.append((type_, listed, {k: [v] for k, v in outputs.items()}, attrs))
        return next(iter(outputs.values()))

    def param(self, name: str, value: np.ndarray) -> str:
        self.params[name] = np.asarray(value)
        return name

    def conv(self, x: str, weight: str, out: str, type_: str = "conv2d", **attrs) -> str:
        return self.op(type_, {"Input": x, "Filter": weight}, {"Output": out}, **{**CONV, **attrs})

    def qdq(self, x: str, scale: float, name: str, bits: int = 8) -> str:
        """onnx format: quantize_linear and dequantize_linear on an activation."""
        inputs = {"Scale": self.param(f"{name}.scale", np.array([scale], "float32"))}
        inputs["ZeroPoint"] = self.param(f"{name}.zero", np.zeros(1, "int32"))
        attrs = {
            **LINEAR,
            "quant_axis": -1,
            "bit_length": bits,
            "qmin": -(2 ** (bits - 1)),
            "qmax": 2 ** (bits - 1) - 1,
        }
        q = self.op("quantize_linear", {"X": x, **inputs}, {"Y": f"{name}.q"}, **attrs)
        return self.op("dequantize_linear", {"X": q, **inputs}, {"Y": f"{name}.dq"}, **attrs)

    def weight(self, value: np.ndarray, name: str, axis: int = 0, dtype: str = "int8") -> str:
        """onnx format: an int8 weight per channel and its dequantize_linear."""
        q, scale = integers(value, axis)
        inputs = {"X": self.param(name, q.astype(dtype)), "Scale": self.param(f"{name}.scale", scale)}
        inputs["ZeroPoint"] = self.param(f"{name}.zero", np.zeros(len(scale), "int32"))
        attrs = {**LINEAR, "quant_axis": axis, "bit_length": 8, "qmin": -128, "qmax": 127}
        return self.op("dequantize_linear", inputs, {"Y": f"{name}.dq"}, **attrs)

    def save(self, prefix, shape: list, fetch: str) -> str:
        """Writes ``prefix.pdmodel`` and ``prefix.pdiparams`` with one input "x" of ``shape``."""
        scope = core.Scope()
        fill_scope(scope, self.params)
        with legacy_ir():
            program = paddle.static.Program()
            with paddle.static.program_guard(program):
                block = program.global_block()
                paddle.static.data("x", shape, "float32")
                for name, value in self.params.items():
                    block.create_var(name=name, shape=value.shape, dtype=str(value.dtype), persistable=True)
                for type_, inputs, outputs, attrs in self.ops:
                    for name in (n for names in outputs.values() for n in names):
                        if name not in block.vars:
                            block.create_var(name=name, dtype="float32")
                    block.append_op(type=type_, inputs=inputs, outputs=outputs, attrs=attrs)
        Model(program, scope, ["x"], [fetch]).save(prefix)
        return str(prefix)


def integers(weight: np.ndarray, axis: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """int8 values and max-abs scales of a weight, per channel."""
    others = tuple(d for d in range(weight.ndim) if d != axis)
    scale = np.abs(weight).max(axis=others).astype("float32")
    shape = [1] * weight.ndim
    shape[axis] = -1
    return np.clip(np.round(weight / scale.reshape(shape) * 127), -127, 127), scale


def on_grid(weight: np.ndarray, axis: int = 0) -> np.ndarray:
    """The weight's values after a trip through int8."""
    q, scale = integers(weight, axis)
    shape = [1] * weight.ndim
    shape[axis] = -1
    return (q / 127 * scale.reshape(shape)).astype("float32")


def quantized(x: np.ndarray, scale: float) -> np.ndarray:
    """An activation after quantize and dequantize, rounding half to even."""
    return np.clip(np.round(x / scale * 127), -128, 127) * scale / 127


def conv2d(x: np.ndarray, weight: np.ndarray, padding: int = 1) -> np.ndarray:
    """Convolution as a sum over kernel positions, stride 1, one group."""
    x = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    rows, columns = weight.shape[2:]
    height, width = x.shape[2] - rows + 1, x.shape[3] - columns + 1
    out = np.zeros((x.shape[0], weight.shape[0], height, width))
    for i in range(rows):
        for j in range(columns):
            window = x[:, :, i : i + height, j : j + width].astype("float64")
            out += np.einsum("nihw,oi->nohw", window, weight[:, :, i, j].astype("float64"))
    return out


def hard_swish(x: np.ndarray) -> np.ndarray:
    return x * np.clip(x + 3, 0, 6) / 6


def random(seed: int, *shape: int, size: float = 1.0) -> np.ndarray:
    return (np.random.RandomState(seed).randn(*shape) * size).astype("float32")
