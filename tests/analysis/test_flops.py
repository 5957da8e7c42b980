"""PaddleSlim's ``flops``, ``dygraph_flops`` and ``model_size``: its numbers, without its defects."""

from __future__ import annotations

import zlib  # noqa: F401  (before paddle)
from typing import Any, Iterator

import numpy as np
import paddle
import pytest
from detectors import build, import_ppdet
from paddle import nn
from paddle.static import InputSpec
from small_programs import Net, random

from slimkit.analysis import dygraph_flops, flops, model_size
from slimkit.errors import ConfigError, ModelError
from slimkit.ir import Model

#: What PaddleSlim 2.6 on paddlepaddle 2.6.2 says at [1, 3, 224, 224]: ``dygraph_flops(net, shape)``, and the same with
#: ``only_conv=True``.
PADDLESLIM = {
    "mobilenet_v2": (320238848, 300774272),
    "mobilenet_v3_small": (59812672, 56510400),
    "squeezenet1_0": (781438416, 777221152),
}


@pytest.mark.parametrize("name", PADDLESLIM)
def test_the_numbers_are_paddleslims(name: str) -> None:
    net = getattr(paddle.vision.models, name)()
    assert dygraph_flops(net, [1, 3, 224, 224]) == PADDLESLIM[name][0]
    assert flops(net, [1, 3, 224, 224]) == PADDLESLIM[name][1]


def _net() -> nn.Layer:
    return nn.Sequential(nn.Conv2D(3, 4, 3, stride=2), nn.BatchNorm2D(4), nn.ReLU(), nn.AvgPool2D(3))


def test_cheap_ops_count_as_paddleslim_counts_them() -> None:
    conv, elements = 4 * 225 * 27, 4 * 225
    assert dygraph_flops(_net(), [1, 3, 32, 32], only_conv=True) == conv
    assert dygraph_flops(_net(), [1, 3, 32, 32]) == conv + 2 * elements + elements + 2 * 9 * 4 * 25


def test_detail_names_every_weight() -> None:
    net = nn.Sequential(nn.Conv2D(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))
    total, each = dygraph_flops(net, [1, 3, 8, 8], detail=True)
    assert each == {net[0].weight.name: 144 * 27, net[2].weight.name: 720}
    assert total == sum(each.values())


# ------------------------------------------------------------------ PaddleSlim's defects


def test_dynamic_shapes_give_no_negative_numbers() -> None:
    model = Model.from_layer(nn.Conv2D(3, 4, 3, padding=1), [InputSpec([-1, 3, -1, -1], "float32", "x")])
    with pytest.raises(ModelError, match=r"give input_shapes=\{'x': \[1, 3, 320, 320\]\}"):
        flops(model.program)
    assert flops(model.program, {"x": [1, 3, 8, 8]}) == flops(model.program, [1, 3, 8, 8]) == 4 * 64 * 27


def test_a_fully_connected_layer_on_three_dimensions() -> None:
    assert dygraph_flops(nn.Linear(6, 5), [2, 7, 6], only_conv=True) == 2 * 7 * 6 * 5


def test_a_transposed_convolution() -> None:
    net = nn.Conv2DTranspose(4, 6, 2, stride=2)
    assert dygraph_flops(net, [1, 4, 5, 5], only_conv=True) == 25 * 4 * 6 * 4


def test_products_of_activations() -> None:
    class Attention(nn.Layer):
        def forward(self, q: Any, k: Any) -> Any:
            return paddle.matmul(q, k, transpose_y=True)

    assert dygraph_flops(Attention(), [[2, 3, 7, 4], [2, 3, 7, 4]]) == 2 * 3 * 7 * 7 * 4


def test_convolutions_of_a_batch_count_each_image() -> None:
    net = nn.Sequential(nn.Conv2D(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))
    assert dygraph_flops(net, [6, 3, 8, 8]) == 6 * dygraph_flops(net, [1, 3, 8, 8])


def test_model_size_of_a_loaded_model() -> None:
    net = Net()
    net.data("x", [-1, 8])
    weight = net.param("w", random(0, 8, 5), trainable=False)  # as loading gives it: a variable, no Parameter object
    net.op("matmul_v2", {"Out": "y"}, {}, X="x", Y=weight)
    assert not net.program.global_block().all_parameters()  # what PaddleSlim counts
    assert model_size(net.program) == flops(net.program) == 40


# ------------------------------------------------------------------ inputs


class Named(nn.Layer):
    """Takes PaddleDetection's dict."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2D(3, 4, 3, bias_attr=False)

    def forward(self, inputs: Any) -> Any:
        return self.conv(inputs["image"]).mean() * inputs["scale_factor"]


def _dict(**more: Any) -> dict:
    return {"image": paddle.rand([1, 3, 8, 8]), "scale_factor": paddle.ones([1, 2]), **more}


@pytest.mark.parametrize(
    "inputs",
    [
        [_dict()],
        (_dict(),),
        _dict(),
        [_dict(im_shape=np.ones((1, 2), "float32"))],
        [{"image": InputSpec([1, 3, 8, 8], "float32"), "scale_factor": paddle.ones([1, 2])}],
    ],
)
def test_a_dict_of_tensors(inputs: Any) -> None:
    assert dygraph_flops(Named(), inputs, only_conv=True) == 144 * 27


@pytest.mark.parametrize(
    "inputs",
    [[1, 3, 8, 8], (1, 3, 8, 8), [[1, 3, 8, 8]], [np.zeros((1, 3, 8, 8), "float32")], paddle.zeros([1, 3, 8, 8])],
)
def test_shapes_arrays_and_tensors(inputs: Any) -> None:
    assert dygraph_flops(nn.Conv2D(3, 4, 3), inputs, only_conv=True) == 144 * 27


def test_several_shapes_with_dtypes() -> None:
    class Two(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.fc = nn.Embedding(9, 4), nn.Linear(4, 5)

        def forward(self, ids: Any, x: Any) -> Any:
            return self.fc(self.table(ids) + x)

    assert dygraph_flops(Two(), [[1, 6], [1, 6, 4]], ["int64", "float32"], only_conv=True) == 6 * 20
    with pytest.raises(ConfigError, match="2 input shapes and 1 dtypes"):
        dygraph_flops(Two(), [[1, 6], [1, 6, 4]], ["int64"])


def test_values_given_are_the_ones_a_run_sees() -> None:
    class Turns(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4, bias_attr=False)

        def forward(self, x: Any, n: Any) -> Any:
            i = paddle.zeros([1], "int64")
            while i < n:
                x = self.fc(x)
                i = i + 1
            return x

    assert dygraph_flops(Turns(), [paddle.ones([1, 4]), paddle.to_tensor([5])], only_conv=True) == 5 * 16


@pytest.mark.parametrize("inputs", [[], None, [{}], "x"])
def test_no_inputs(inputs: Any) -> None:
    with pytest.raises(ConfigError, match=r"give a shape such as \[1, 3, 224, 224\]"):
        dygraph_flops(nn.Conv2D(3, 4, 3), inputs)


def test_inputs_the_layer_refuses() -> None:
    with pytest.raises(ModelError, match=r"conv2d with the weight '.*' gets 5 channels and needs 3"):
        dygraph_flops(nn.Conv2D(3, 4, 3), [1, 5, 8, 8])
    with pytest.raises(ModelError, match="Linear cannot be traced with inputs x0"):
        dygraph_flops(nn.Linear(3, 4), [1, 5])


def test_the_layer_is_left_as_it_was() -> None:
    net = _net()
    net.train()
    net[1].eval()
    before = {name: value.numpy() for name, value in net.state_dict().items()}
    forward = type(net).forward
    dygraph_flops(net, [2, 3, 32, 32])
    assert paddle.in_dynamic_mode()
    assert net.training and not net[1].training and type(net).forward is forward and "forward" not in vars(net)
    for name, value in net.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])
    y = net(paddle.ones([2, 3, 32, 32]))
    y.sum().backward()
    assert net[0].weight.grad is not None


def test_a_layer_that_to_static_has_converted() -> None:
    net = paddle.vision.models.LeNet()
    before = dygraph_flops(net, [1, 1, 28, 28])
    static = paddle.jit.to_static(net)
    forward = static.forward
    assert dygraph_flops(static, [1, 1, 28, 28]) == before
    assert vars(static)["forward"] is forward


@pytest.fixture(scope="module")
def detector(paddledet_package: Any) -> Iterator[nn.Layer]:
    found = import_ppdet(paddledet_package)
    yield build(next(found), "picodet")
    next(found, None)


def test_a_detector_with_paddledetections_inputs(detector: nn.Layer) -> None:
    sizes = {"im_shape": paddle.ones([1, 2]), "scale_factor": paddle.ones([1, 2])}
    inputs = [{"image": paddle.ones([1, 3, 64, 64]), **sizes}]
    total, each = dygraph_flops(detector, inputs, only_conv=True, detail=True)
    filters = {p.name: p.shape for p in detector.parameters() if len(p.shape) == 4}
    assert filters.keys() <= each.keys() and total == sum(each.values())
    first = detector.backbone.conv1.conv.weight
    assert each[first.name] == 32 * 32 * np.prod(first.shape)
