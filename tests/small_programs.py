"""Small legacy programs built op by op, with values in a scope of their own."""

from __future__ import annotations

import zlib  # noqa: F401  (before paddle)
from typing import Any

import numpy as np
import paddle
from paddle.base import core

from slimkit.ir import Model, legacy_ir

CONV = {
    "strides": [1, 1],
    "paddings": [1, 1],
    "dilations": [1, 1],
    "groups": 1,
    "padding_algorithm": "EXPLICIT",
    "data_format": "NCHW",
}
BATCH_NORM = {"momentum": 0.9, "epsilon": 1e-5, "is_test": False, "data_layout": "NCHW", "use_global_stats": False}
AVERAGE_POOL = {
    **{"pooling_type": "avg", "ksize": [1, 1], "strides": [1, 1], "paddings": [0, 0], "adaptive": True},
    **{"global_pooling": False, "exclusive": True, "ceil_mode": False, "data_format": "NCHW"},
}


def random(seed: int, *shape: int, size: float = 1.0) -> np.ndarray:
    return (np.random.RandomState(seed).randn(*shape) * size).astype("float32")


class Net:
    """A program that grows by one op a call; every method returns the name of what it made."""

    def __init__(self) -> None:
        self.scope = core.Scope()
        self.executor = paddle.static.Executor(paddle.CPUPlace())
        self.count = 0
        with legacy_ir():
            self.program = paddle.static.Program()
        self.block = self.program.global_block()

    def data(self, name: str, shape: list, dtype: str = "float32", grad: bool = True) -> str:
        with legacy_ir(), paddle.static.program_guard(self.program):
            paddle.static.data(name, shape, dtype).stop_gradient = not grad
        return name

    def param(self, name: str, value: np.ndarray, trainable: bool = True, **more: Any) -> str:
        value = np.asarray(value)
        with legacy_ir():
            if trainable:
                self.block.create_parameter(name=name, shape=list(value.shape), dtype=str(value.dtype), **more)
            else:
                self.block.create_var(
                    name=name, shape=list(value.shape), dtype=str(value.dtype), persistable=True, stop_gradient=True
                )
        self.scope.var(name).get_tensor().set(value, paddle.CPUPlace())
        return name

    def op(self, type_: str, outputs: dict, attrs: dict | None = None, **inputs: Any) -> str:
        listed = {k: v if isinstance(v, list) else [v] for k, v in inputs.items()}
        made = {k: v if isinstance(v, list) else [v] for k, v in outputs.items()}
        with legacy_ir():
            for name in (n for names in made.values() for n in names):
                if name not in self.block.vars:
                    self.block.create_var(name=name, dtype="float32")
            self.block.append_op(type=type_, inputs=listed, outputs=made, attrs=attrs or {})
            for name in (n for names in made.values() for n in names):
                if not self.block.vars[name].persistable:
                    self.block.vars[name].stop_gradient = False
        return next(iter(made.values()))[0]

    def conv(self, x: str, weight: np.ndarray, out: str, type_: str = "conv2d", **attrs: Any) -> str:
        name = self.param(f"{out}.w", weight)
        return self.op(type_, {"Output": out}, {**CONV, **attrs}, Input=x, Filter=name)

    def relu(self, x: str, out: str) -> str:
        return self.op("relu", {"Out": out}, X=x)

    def batch_norm(self, x: str, out: str, channels: int) -> str:
        ones, seed = np.ones(channels, "float32"), sum(map(ord, out))
        slots = {
            "Scale": self.param(f"{out}.scale", ones + random(seed, channels, size=0.1)),
            "Bias": self.param(f"{out}.bias", random(seed + 1, channels, size=0.1)),
            "Mean": self.param(f"{out}.mean", random(seed + 2, channels, size=0.1), trainable=False),
            "Variance": self.param(f"{out}.variance", ones * 1.5, trainable=False),
        }
        outputs = {"Y": out, "MeanOut": slots["Mean"], "VarianceOut": slots["Variance"]}
        outputs.update({s: f"{out}.{s}" for s in ("SavedMean", "SavedVariance", "ReserveSpace")})
        return self.op("batch_norm", outputs, BATCH_NORM, X=x, **slots)

    def linear(self, x: str, weight: np.ndarray, out: str, type_: str = "matmul_v2", **attrs: Any) -> str:
        return self.op(type_, {"Out": out}, attrs, X=x, Y=self.param(f"{out}.w", weight))

    def add(self, x: str, y: str, out: str, axis: int = -1) -> str:
        return self.op("elementwise_add", {"Out": out}, {"axis": axis}, X=x, Y=y)

    def weighted_sum(self, x: str, weights: np.ndarray, out: str = "loss") -> str:
        """loss = sum(x * weights): its gradient at x is ``weights``."""
        r = self.param(f"{out}.r", weights, trainable=False)
        product = self.op("elementwise_mul", {"Out": f"{out}.product"}, {"axis": -1}, X=x, Y=r)
        attrs = {"reduce_all": True, "keep_dim": False, "dim": [0]}
        return self.op("reduce_sum", {"Out": out}, attrs, X=product)

    def cross_entropy(self, logits: str, label: str = "label", out: str = "loss") -> str:
        self.data(label, [-1, 1], "int64", grad=False)
        attrs = {"soft_label": False, "ignore_index": -100, "axis": -1, "numeric_stable_mode": True}
        made = {"Softmax": f"{out}.softmax", "Loss": f"{out}.each"}
        self.op("softmax_with_cross_entropy", made, attrs, Logits=logits, Label=label)
        return self.op("mean", {"Out": out}, X=f"{out}.each")

    def minimize(self, optimizer: Any, loss: str = "loss") -> None:
        minimize(self.program, optimizer, loss, self.scope)

    def run(self, feed: dict, fetch: list, program: Any = None) -> list:
        return run(program if program is not None else self.program, self.scope, feed, fetch)

    def value(self, name: str) -> np.ndarray:
        return np.array(self.scope.find_var(name).get_tensor())

    def model(self, feeds: list, fetches: list) -> Model:
        return Model(self.program, self.scope, feeds, fetches)

    def test_program(self, program: Any = None) -> Any:
        with legacy_ir():
            return (program if program is not None else self.program).clone(for_test=True)


def minimize(program: Any, optimizer: Any, loss: str, scope: Any) -> None:
    with legacy_ir():
        startup = paddle.static.Program()
        with paddle.static.program_guard(program, startup), paddle.utils.unique_name.guard():
            made = optimizer() if callable(optimizer) else optimizer
            made.minimize(program.global_block().vars[loss])
        paddle.static.Executor(paddle.CPUPlace()).run(startup, scope=scope)


def run(program: Any, scope: Any, feed: dict, fetch: list) -> list:
    with legacy_ir():
        executor = paddle.static.Executor(paddle.CPUPlace())
        return [np.asarray(v) for v in executor.run(program, feed=feed, fetch_list=fetch, scope=scope)]


def mobile_net(train: bool = True, channels: int = 8, classes: int = 5) -> Net:
    """conv + BN + relu, depthwise, squeeze-excitation, projection, pool, fc, cross-entropy; input x [-1, 3, 8, 8]."""
    net, c = Net(), channels
    x = net.data("x", [-1, 3, 8, 8], grad=False)
    y = net.relu(net.batch_norm(net.conv(x, random(1, c, 3, 3, 3, size=0.4), "stem"), "stem.bn", c), "stem.relu")
    y = net.conv(y, random(2, c, 1, 3, 3, size=0.5), "dw", "depthwise_conv2d", groups=c)
    y = net.relu(net.batch_norm(y, "dw.bn", c), "dw.relu")
    s = net.op("pool2d", {"Out": "se.pool"}, AVERAGE_POOL, X=y)
    s = net.conv(s, random(3, 4, c, 1, 1, size=0.7), "se.reduce", paddings=[0, 0])
    s = net.relu(net.add(s, net.param("se.b1", random(4, 4, size=0.1)), "se.reduce.b", axis=1), "se.relu")
    s = net.conv(s, random(5, c, 4, 1, 1, size=0.7), "se.expand", paddings=[0, 0])
    s = net.op("hard_sigmoid", {"Out": "se.gate"}, {"slope": 0.2, "offset": 0.5}, X=s)
    y = net.op("elementwise_mul", {"Out": "se"}, {"axis": -1}, X=y, Y=s)
    y = net.batch_norm(
        net.conv(y, random(6, 2 * c, c, 1, 1, size=0.5), "project", paddings=[0, 0]), "project.bn", 2 * c
    )
    y = net.op("pool2d", {"Out": "pool"}, AVERAGE_POOL, X=y)
    attrs = {"start_axis": 1, "stop_axis": 3}
    y = net.op("flatten_contiguous_range", {"Out": "flat", "XShape": "flat.xshape"}, attrs, X=y)
    y = net.linear(y, random(7, 2 * c, classes, size=0.5), "fc", "matmul_v2", trans_x=False, trans_y=False)
    net.add(y, net.param("fc.b", random(8, classes, size=0.1)), "logits", axis=-1)
    if train:
        net.cross_entropy("logits")
    return net
