"""A float model and the table of its quantization with few bits, straight from the planner."""

from __future__ import annotations

from typing import Any, Dict, List

import numpy as np
from small_programs import Net, random

from slimkit.ir import Graph, Model, legacy_ir
from slimkit.quant.calibrate import observe
from slimkit.quant.capabilities import Capability
from slimkit.quant.export import export_program
from slimkit.quant.ptq_config import PtqConfig
from slimkit.quant.ptq_plan import make_plan
from slimkit.quant.ptq_table import build_table
from slimkit.quant.quantized import Quantized

OPS = ("conv2d", "depthwise_conv2d", "conv2d_transpose", "mul", "matmul_v2")


def quantize(model: Model, feeds: List[Dict[str, np.ndarray]], weight_bits: int = 4, **settings: Any) -> Quantized:
    config = PtqConfig(weight_bits=weight_bits, **settings)
    widths = tuple(range(2, 17))
    row = Capability("any", OPS, weight_bits=widths, activation_bits=widths, affine_activations=True)
    with legacy_ir():
        plan = make_plan(Graph(model.program, for_test=True), row, config, model.fetches)
    return Quantized(model, build_table(plan, model.scope, observe(model, plan.tensors(), feeds), config))


def error(quantized: Quantized, reference: Model, feeds: List[Dict[str, np.ndarray]]) -> float:
    """Mean squared error of the simulated result over the reference's mean square."""
    simulated = export_program(quantized.model, quantized.table, "onnx")
    pairs = [(simulated.run(feed)[0], reference.run(feed)[0]) for feed in feeds]
    return float(np.mean([(a - b) ** 2 for a, b in pairs]) / np.mean([b**2 for _, b in pairs]))


def batches(count: int = 4, size: int = 8, channels: int = 3, side: int = 12) -> List[Dict[str, np.ndarray]]:
    """Smooth images."""
    found = []
    for i in range(count):
        noise = random(100 + i, size, channels, side + 2, side + 2)
        smooth = sum(noise[:, :, a : a + side, b : b + side] for a in range(3) for b in range(3)) / 3
        found.append({"x": smooth.astype("float32")})
    return found


def small_net(bias: bool = True) -> Model:
    """conv, depthwise, pointwise, transposed convolution, pool and fc, with biases and relus between."""
    net = Net()
    x = net.data("x", [-1, 3, 12, 12])

    def biased(y: str, channels: int, axis: int = 1) -> str:
        return (
            net.add(y, net.param(f"{y}.b", random(ord(y[0]), channels, size=0.1)), f"{y}.biased", axis) if bias else y
        )

    y = net.relu(biased(net.conv(x, random(1, 12, 3, 3, 3, size=0.3), "a"), 12), "a.relu")
    y = net.relu(
        biased(net.conv(y, random(2, 12, 1, 3, 3, size=0.4), "b", "depthwise_conv2d", groups=12), 12), "b.relu"
    )
    y = net.relu(biased(net.conv(y, random(3, 16, 12, 1, 1, size=0.4), "c", paddings=[0, 0]), 16), "c.relu")
    more = {"strides": [2, 2], "output_padding": [], "output_size": []}
    y = net.relu(biased(net.conv(y, random(4, 16, 4, 3, 3, size=0.2), "d", "conv2d_transpose", **more), 4), "d.relu")
    attrs = {"start_axis": 1, "stop_axis": 3}
    y = net.op("flatten_contiguous_range", {"Out": "flat", "XShape": "flat.xshape"}, attrs, X=y)
    y = biased(net.linear(y, random(5, 4 * 23 * 23, 6, size=0.05), "e", trans_x=False, trans_y=False), 6, -1)
    return net.model(["x"], [y])
