"""One program with a branch for everything the Q/DQ writer tells apart, its grids, and inputs far from ties."""

from __future__ import annotations

import numpy as np
from small_programs import Net, random

from slimkit.ir import Model
from slimkit.quant.table import QuantizedOp, QuantParams, QuantTable

REACH = 3.0
POOL = {
    **{"pooling_type": "max", "ksize": [2, 2], "strides": [2, 2], "paddings": [0, 0], "adaptive": False},
    **{"global_pooling": False, "exclusive": True, "ceil_mode": False, "data_format": "NCHW"},
}
PLAIN = {"trans_x": False, "trans_y": False}


def zoo() -> Model:
    """x (-1, 4, 8, 8) -> one result a branch."""
    net = Net()
    x = net.data("x", [-1, 4, 8, 8])
    net.conv(x, random(1, 6, 4, 3, 3, size=0.3), "conv")
    net.add("conv", net.param("conv.b", random(2, 6)), "conv.out", axis=1)
    net.conv(x, random(3, 4, 1, 3, 3, size=0.3), "depthwise", "depthwise_conv2d", groups=4)
    net.conv(x, random(4, 4, 6, 3, 3, size=0.3), "transposed", "conv2d_transpose", output_size=[], output_padding=[])
    net.op("conv2d", {"Output": "shared"}, _conv_attrs(strides=[2, 2]), Input=x, Filter="conv.w")
    net.op("conv2d", {"Output": "float"}, _conv_attrs(), Input=x, Filter="conv.w")
    net.conv(x, random(5, 5, 4, 1, 1, size=0.3), "stored", paddings=[0, 0])
    attrs = {"start_axis": 1, "stop_axis": 3}
    flat = net.op("flatten_contiguous_range", {"Out": "flat", "XShape": "flat.shape"}, attrs, X=x)
    net.linear(flat, random(6, 256, 5, size=0.1), "fc", **PLAIN)
    net.add("fc", net.param("fc.b", random(7, 5)), "fc.out")
    net.linear(flat, random(8, 5, 256, size=0.1), "turned", trans_x=False, trans_y=True)
    net.linear(flat, random(9, 256, 5, size=0.1), "mul", "mul", x_num_col_dims=1, y_num_col_dims=1)
    net.add(x, x, "twice")
    # conv -> relu on a grid of its own -> max pool -> conv: two layers in integers
    net.relu(net.conv(x, random(10, 6, 4, 3, 3, size=0.3), "first"), "middle")
    net.op("pool2d", {"Out": "pooled"}, POOL, X="middle")
    net.conv("pooled", random(11, 4, 6, 3, 3, size=0.3), "second")
    fetches = ["conv.out", "depthwise", "transposed", "shared", "float", "stored", "fc.out", "turned", "mul", "twice"]
    return net.model(["x"], [*fetches, "second"])


def _conv_attrs(**more) -> dict:
    from small_programs import CONV

    return {**CONV, **more}


def batch(bits: int = 8, affine: bool = False, seed: int = 0) -> np.ndarray:
    """Inputs up to a tenth beyond the grid, at least 0.1 of a step away from where rounding turns."""
    step = _step(bits, affine)
    generator = np.random.default_rng(seed)
    whole = generator.integers(-int(1.1 * REACH / step), int(1.1 * REACH / step), (2, 4, 8, 8))
    return ((whole + generator.uniform(-0.4, 0.4, whole.shape)) * step).astype("float32")


def _step(bits: int, affine: bool) -> float:
    return float(2 * REACH / (2**bits - 1)) if affine else float(REACH / (2 ** (bits - 1) - 1))


def zoo_table(model: Model, bits: int = 8, affine: bool = False, per_channel: bool = True) -> QuantTable:
    """Grids of every branch of :func:`zoo`; "float" has none."""
    table = QuantTable()
    for name in ("x", "flat"):
        table.add(activation(name, -REACH, REACH, bits, affine))
    table.add(activation("middle", 0.0, 5.0, bits, affine))
    table.add(activation("pooled", 0.0, 5.0, bits, affine))
    layers = [
        *(("conv2d", "conv", "x", "conv.w", 0), ("depthwise_conv2d", "depthwise", "x", "depthwise.w", 0)),
        *(("conv2d_transpose", "transposed", "x", "transposed.w", 1), ("conv2d", "shared", "x", "conv.w", 0)),
        *(("matmul_v2", "fc", "flat", "fc.w", 1), ("matmul_v2", "turned", "flat", "turned.w", 0)),
        *(("mul", "mul", "flat", "mul.w", 1), ("conv2d", "first", "x", "first.w", 0)),
        *(("conv2d", "second", "pooled", "second.w", 0), ("conv2d", "stored", None, "stored.w", 0)),
    ]
    for kind, output, source, name, axis in layers:
        table.add(weight(name, model.params[name], axis if per_channel else None, bits))
        slots = ("Input", "Filter") if "conv" in kind else ("X", "Y")
        inputs = {slots[0]: source, slots[1]: name} if source else {slots[1]: name}
        table.ops.append(QuantizedOp(kind, output, inputs, {"middle": "middle"} if output == "first" else {}))
    table.ops.append(QuantizedOp("elementwise_add", "twice", {"X": "x", "Y": "x"}))
    return table


def activation(name: str, low: float, high: float, bits: int = 8, affine: bool = False) -> QuantParams:
    if not affine:
        return QuantParams(name, np.array([max(-low, high)], "float32"), bits, rounding="half_even")
    zero = np.array([round(-low / (high - low) * (2**bits - 1))])
    return QuantParams(name, np.array([high - low], "float32"), bits, None, False, zero, rounding="half_even")


def weight(name: str, value: np.ndarray, axis, bits: int = 8) -> QuantParams:
    others = None if axis is None else tuple(d for d in range(value.ndim) if d != axis)
    return QuantParams(name, np.abs(value).max(others).reshape(-1), bits, axis, is_weight=True)
