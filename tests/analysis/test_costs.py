"""Every formula against the arithmetic itself, done in loops that count; the loops' result is Paddle's result."""

from __future__ import annotations

import zlib  # noqa: F401  (before paddle)
from typing import Any, Callable, List

import numpy as np
import paddle
import pytest
from counting import Counter
from paddle import nn
from small_programs import Net, random

from slimkit.analysis import complexity
from slimkit.analysis.costs import FORMULAS, FREE, PER_INPUT, PER_OUTPUT
from slimkit.ir import Model
from slimkit.ir.translate.tables import ROWS


class Call(nn.Layer):
    """A function as a layer, with a weight each of some shapes."""

    def __init__(self, function: Callable, *shapes: List[int]) -> None:
        super().__init__()
        self.function = function
        self.weights = nn.ParameterList([self.create_parameter(shape) for shape in shapes])

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs, *self.weights)


def _weight(layer: nn.Layer) -> np.ndarray:
    return layer.weight.numpy()


def _first(layer: nn.Layer) -> Any:
    return lambda x: layer(x)[0]


CONV = nn.Conv2D(4, 6, 3, stride=2, padding=1, groups=2, bias_attr=False)
DEPTHWISE = nn.Conv2D(4, 4, 3, padding=1, groups=4, bias_attr=False)
DILATED = nn.Conv1D(2, 3, 3, bias_attr=False)
CONV3D = nn.Conv3D(2, 3, 2, bias_attr=False)
TRANSPOSED = nn.Conv2DTranspose(4, 6, 3, stride=2, groups=2, bias_attr=False)
DEPTHWISE_TRANSPOSED = nn.Conv2DTranspose(3, 3, 2, stride=2, groups=3, bias_attr=False)
TRANSPOSED3D = nn.Conv3DTranspose(2, 3, 2, bias_attr=False)
LINEAR = nn.Linear(5, 4, bias_attr=False)
LSTM, GRU = nn.LSTM(3, 4), nn.GRU(3, 4)
BILINEAR = nn.Bilinear(3, 4, 5, bias_attr=False)


def _flat(layer: nn.Layer) -> List[np.ndarray]:
    return [weight.numpy() for weight in layer.parameters()]


def _bilinear(c: Counter, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x by the weight, [batch, s, n], and that by y."""
    weight = _weight(BILINEAR)
    inner = np.stack([c.matmul(x, w) for w in weight], 1)
    return np.stack([np.array([c.matmul(row[None], y[i][:, None])[0, 0] for row in inner[i]]) for i in range(len(x))])


CASES = {
    "conv, strided, grouped": (CONV, [[2, 4, 7, 5]], lambda c, x: c.conv(x, _weight(CONV), 2, 1, 2)),
    "conv, depthwise": (DEPTHWISE, [[1, 4, 5, 6]], lambda c, x: c.conv(x, _weight(DEPTHWISE), 1, 1, 4)),
    "conv 1-D": (DILATED, [[2, 2, 7]], lambda c, x: c.conv(x, _weight(DILATED))),
    "conv 3-D": (CONV3D, [[1, 2, 3, 4, 5]], lambda c, x: c.conv(x, _weight(CONV3D))),
    "transposed, grouped": (TRANSPOSED, [[1, 4, 4, 3]], lambda c, x: c.conv_transpose(x, _weight(TRANSPOSED), 2, 2)),
    "transposed, depthwise": (
        DEPTHWISE_TRANSPOSED, [[1, 3, 4, 3]], lambda c, x: c.conv_transpose(x, _weight(DEPTHWISE_TRANSPOSED), 2, 3),
    ),
    "transposed 3-D": (TRANSPOSED3D, [[1, 2, 2, 3, 3]], lambda c, x: c.conv_transpose(x, _weight(TRANSPOSED3D))),
    "fc": (LINEAR, [[3, 5]], lambda c, x: c.matmul(x, _weight(LINEAR))),
    "fc of 3-D": (LINEAR, [[2, 3, 5]], lambda c, x: c.matmul(x, _weight(LINEAR))),
    "fc of 4-D": (LINEAR, [[2, 3, 2, 5]], lambda c, x: c.matmul(x, _weight(LINEAR))),
    "activations": (paddle.matmul, [[2, 3, 4, 5], [2, 3, 5, 4]], lambda c, x, y: c.matmul(x, y)),
    "broadcast batch": (paddle.matmul, [[3, 4, 5], [2, 1, 5, 2]], lambda c, x, y: c.matmul(x, y)),
    "transposed operands": (
        lambda x, y: paddle.matmul(x, y, True, True), [[2, 5, 3], [2, 4, 5]],
        lambda c, x, y: c.matmul(x.swapaxes(1, 2), y.swapaxes(1, 2)),
    ),
    "vectors": (paddle.matmul, [[7], [7]], lambda c, x, y: c.matmul(x[None], y[:, None])[0, 0]),
    "bmm": (paddle.bmm, [[2, 3, 4], [2, 4, 5]], lambda c, x, y: c.matmul(x, y)),
    "mv": (paddle.mv, [[3, 4], [4]], lambda c, x, y: c.matmul(x, y[:, None])[:, 0]),
    "dot": (paddle.dot, [[2, 6], [2, 6]], lambda c, x, y: c.matmul(x[:, None], y[:, :, None])[:, 0, 0]),
    "addmm": (paddle.addmm, [[3, 2], [3, 4], [4, 2]], lambda c, b, x, y: b + c.matmul(x, y)),
    "lstm": (_first(LSTM), [[2, 3, 3]], lambda c, x: c.lstm(x, _flat(LSTM))),
    "gru": (_first(GRU), [[2, 3, 3]], lambda c, x: c.gru(x, _flat(GRU))),
    "bilinear": (BILINEAR, [[2, 3], [2, 4]], _bilinear),
    "einsum": (
        lambda x, y: paddle.einsum("bij,bkj->bik", x, y), [[2, 3, 4], [2, 5, 4]],
        lambda c, x, y: c.einsum("bij,bkj->bik", x, y),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_macs_are_the_products_that_the_arithmetic_does(name: str) -> None:
    layer, shapes, reference = CASES[name]
    owner = layer if isinstance(layer, nn.Layer) else Call(layer)
    model = Model.from_layer(owner, [paddle.static.InputSpec(shape) for shape in shapes])
    arrays = [random(i, *shape) for i, shape in enumerate(shapes)]
    counter = Counter()
    expected = reference(counter, *arrays)
    np.testing.assert_allclose(model.run(arrays)[0], expected, atol=1e-5)
    assert counter.count > 0
    assert complexity(model).macs == counter.count


def test_flops_are_twice_the_macs_and_the_rest() -> None:
    net = nn.Sequential(nn.Conv2D(3, 4, 3, padding=1), nn.BatchNorm2D(4), nn.ReLU(), nn.AvgPool2D(2, 2))
    found = complexity(net, [1, 3, 8, 8])
    macs, elements = 4 * 8 * 8 * 27, 4 * 8 * 8
    assert found.macs == macs
    assert found.flops == 2 * macs + elements + 2 * elements + elements + elements  # bias, batch norm, relu, pool
    assert found.parameters == 4 * 27 + 4 + 4 * 4


def test_a_bias_inside_the_op_is_counted_as_additions() -> None:
    net = Net()
    x = net.data("x", [1, 3, 6, 6])
    weight, bias = net.param("w", random(0, 3, 5, 3, 3)), net.param("b", random(1, 5))
    attrs = {"strides": [1, 1], "paddings": [0, 0], "dilations": [1, 1], "groups": 1, "data_format": "NCHW"}
    net.op("conv2d_transpose", {"Output": "y"}, attrs, Input=x, Filter=weight, Bias=bias)
    found = complexity(net.program)
    macs = 3 * 36 * 45
    assert (found.macs, found.flops) == (macs, 2 * macs + 5 * 64)
    assert [(op.weight, op.parameters) for op in found.ops] == [("w", 140)]


def test_mul_flattens_its_first_axes() -> None:
    net = Net()
    x, y = net.data("x", [2, 3, 4]), net.param("w", random(0, 12, 5))
    net.op("mul", {"Out": "z"}, {"x_num_col_dims": 1, "y_num_col_dims": 1}, X=x, Y=y)
    assert complexity(net.program).macs == 2 * 12 * 5


def test_channels_last_counts_the_same() -> None:
    nchw, nhwc = (nn.Conv2D(4, 6, 3, groups=2, data_format=layout) for layout in ("NCHW", "NHWC"))
    assert complexity(nchw, [1, 4, 8, 9]).macs == complexity(nhwc, [1, 8, 9, 4]).macs == 6 * 6 * 7 * 18


def test_a_deformable_convolution_is_a_convolution_and_its_sampling() -> None:
    layer = paddle.vision.ops.DeformConv2D(4, 6, 3, bias_attr=False)
    found = complexity(layer, [[1, 4, 8, 8], [1, 18, 6, 6]])
    assert found.macs == 6 * 36 * 4 * 9
    assert found.flops - 2 * found.macs == 36 * 4 * 9 * 7


#: Ops without a formula; they are told, not passed over.
UNKNOWN = {"inverse", "isclose", "solve", "spectral_norm", "warpctc"}


def test_every_op_the_translator_writes_is_in_one_table() -> None:
    written = {row.legacy for row in ROWS.values() if row.legacy}
    tables = [set(FORMULAS), set(PER_OUTPUT), set(PER_INPUT), set(FREE)]
    assert written - set().union(*tables) == UNKNOWN
    assert sum(len(table) for table in tables) == len(set().union(*tables))


def test_what_no_table_knows_is_told() -> None:
    found = complexity(Call(paddle.inverse), [3, 3])
    assert found.uncounted == {"inverse": 1}
    assert "not counted: inverse (1)" in str(found)
