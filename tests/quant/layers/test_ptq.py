"""Dygraph PTQ: what ``quantize`` does to a network and what it leaves alone, calibration, simulation, messages."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import paddle
import pytest
from paddle import nn
from ptq_networks import SPEC, Inputs, Plain, Shared, calibrated, far, images, made, ran

from slimkit import Model
from slimkit.errors import ConfigError, TrainingError
from slimkit.quant import post_training_quantize
from slimkit.quant.layers import PTQ, QAT
from slimkit.quant.layers.ptq_observer import array_of, observers
from slimkit.quant.layers.wrapping import wrapped_layers

IMAGES = images()


def _state(net: nn.Layer) -> dict:
    return {name: value.numpy() for name, value in net.state_dict().items()}


def _same(one: dict, other: dict) -> bool:
    return list(one) == list(other) and all(np.array_equal(one[name], other[name]) for name in one)


# ---------------------------------------------------------------------------------------------- thresholds


@pytest.mark.parametrize("name", ["KLQuantizer", "HistQuantizer", "AbsmaxQuantizer", "mse", "avg", "emd"])
def test_thresholds_are_those_of_the_float_engine(name: str) -> None:
    """Bit for bit: the histograms are the same."""
    net, ptq = made(Plain), PTQ(name, quantizable_layer_type=["Conv2D", "Conv2DTranspose", "Linear"])
    found = ptq.thresholds(calibrated(ptq.quantize(net), IMAGES))
    settings = {"algo": ptq.activation_quantizer.algo, "fold_batch_norm": False, "equalize": False}
    result = post_training_quantize(Model.from_layer(net, SPEC), [{"x": x} for x in IMAGES], ("paddle-onnx",), settings)
    engine = [float(p.scale[0]) for p in result.quantized["paddle-onnx"].table.activations().values()]
    assert list(found) == ["conv", "depthwise", "up", "fc"] and list(found.values()) == engine


def test_a_layer_called_twice_has_one_observer() -> None:
    net, ptq = made(Shared), PTQ("AbsmaxQuantizer")
    found = ptq.thresholds(calibrated(ptq.quantize(net), IMAGES))
    most = max(float(3 * nn.functional.relu(net.conv(paddle.to_tensor(x))).max()) for x in IMAGES)
    assert found == {"conv": pytest.approx(max(most, *(np.abs(x).max() for x in IMAGES)), rel=1e-6),
                     "other": pytest.approx(most, rel=1e-6)}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int32"])
def test_values_are_read_from_the_tensor(dtype: str) -> None:
    x = paddle.to_tensor([[1.0, -2.5], [0.0, 3.0]]).astype(dtype).transpose([1, 0])
    assert np.array_equal(array_of(x), x.astype("float32").numpy())
    assert array_of(paddle.zeros([0, 3])).shape == (0, 3)  # a detector's image without proposals
    big = paddle.ones([4, 4])
    assert np.shares_memory(array_of(big), array_of(big)), "an activation was copied"


# ---------------------------------------------------------------------------------------------- what is left alone


def test_the_given_network_stays_as_it_is() -> None:
    net, ptq = made(Plain), PTQ("mse")
    before, expected = _state(net), ran(net, IMAGES[0])
    model = ptq.quantize(net, fuse=True)
    assert model is not net and not observers(net) and len(observers(model)) == 3
    assert np.array_equal(ran(model, IMAGES[0]), expected), "observing changed the results"
    simulated = ptq.convert(model)
    assert 1e-4 < far(ran(simulated, IMAGES[0]), expected) < 0.1
    assert np.array_equal(ran(model, IMAGES[0]), expected), "the copy that was converted was the original"
    assert _same(_state(simulated), before) and _same(_state(net), before)
    assert simulated.conv.weight is simulated._sub_layers["conv"]._parameters["weight"]


def test_inplace() -> None:
    net, ptq = made(Plain), PTQ()
    assert ptq.quantize(net, inplace=True) is net and len(observers(net)) == 3
    calibrated(net, IMAGES)
    assert ptq.convert(net, inplace=True) is net and far(ran(net, IMAGES[0]), ran(made(Plain), IMAGES[0])) > 1e-4


def test_copies_are_on_their_own() -> None:
    net, ptq = made(Plain), PTQ("AbsmaxQuantizer")
    model = calibrated(ptq.quantize(net), IMAGES)
    twin = copy.deepcopy(model)
    ran(twin, 10 * IMAGES[0])
    assert ptq.thresholds(twin)["conv"] > 3 * ptq.thresholds(model)["conv"]
    simulated = ptq.convert(model)
    again = copy.deepcopy(simulated)
    assert np.array_equal(ran(again, IMAGES[0]), ran(simulated, IMAGES[0]))
    calibrated(simulated, [10 * IMAGES[0]])
    assert ptq.thresholds(simulated) == ptq.thresholds(model), "calibration ended with convert"


def test_weights_loaded_later_are_simulated() -> None:
    ptq = PTQ("AbsmaxQuantizer")
    model = ptq.convert(calibrated(ptq.quantize(made(Plain)), IMAGES))
    other = made(Plain, seed=5)
    model.set_state_dict(other.state_dict())
    expected = ptq.quantize(other)
    calibrated(expected, IMAGES)
    for (_, mine), (_, its) in zip(observers(expected), observers(model)):
        mine.histogram = its.histogram
    assert np.array_equal(ran(model, IMAGES[0]), ran(ptq.convert(expected), IMAGES[0]))


def test_an_error_in_a_layer_leaves_its_weight() -> None:
    ptq = PTQ()
    model = ptq.convert(calibrated(ptq.quantize(made(Plain)), IMAGES))
    before, expected = _state(model), ran(model, IMAGES[0])
    with pytest.raises(ValueError):
        ran(model, IMAGES[0][:, :3])
    assert _same(_state(model), before) and np.array_equal(ran(model, IMAGES[0]), expected)
    assert [p.name for p in model.parameters()] == [p.name for p in copy.copy(model).parameters()]


def test_skip_quant() -> None:
    net = made(Plain)
    net.depthwise.skip_quant = True
    ptq = PTQ()
    assert list(ptq.thresholds(calibrated(ptq.quantize(net), IMAGES))) == ["conv", "fc"]
    inner = nn.Sequential(made(Plain), nn.Linear(5, 2))
    inner[0].skip_quant = True  # and what it contains
    assert list(ptq.thresholds(calibrated(ptq.quantize(inner), IMAGES))) == ["1"]


class _Doubled(nn.Conv2D):
    def forward(self, x: Any) -> Any:
        return nn.functional.conv2d(2 * x, self.weight, self.bias)


def test_layers_whose_weight_or_input_is_another_stay_float() -> None:
    """What such a layer multiplies is not the input that a hook sees."""
    normed = nn.utils.weight_norm(nn.Conv2D(4, 4, 1))
    net = nn.Sequential(_Doubled(4, 4, 1), normed, nn.Conv2D(4, 4, 1))
    net.eval()
    ptq = PTQ()
    model = calibrated(ptq.quantize(net), IMAGES)
    assert list(ptq.thresholds(model)) == ["2"]
    assert far(ran(ptq.convert(model), IMAGES[0]), ran(net, IMAGES[0])) < 0.1


def test_a_lone_layer() -> None:
    ptq = PTQ("AbsmaxQuantizer")
    model = calibrated(ptq.quantize(nn.Conv2D(4, 2, 1)), IMAGES)
    assert list(ptq.thresholds(model).values()) == [max(float(np.abs(x).max()) for x in IMAGES)]


def test_layers_that_no_batch_reached_stay_float(caplog: pytest.LogCaptureFixture) -> None:
    class Head(Plain):
        aside = False

        def forward(self, x: Any) -> Any:
            return self.extra(x) if self.aside else super().forward(x)

    def build() -> nn.Layer:
        net = Head()
        net.extra = nn.Conv2D(4, 2, 1)
        return net

    ptq = PTQ()
    model = calibrated(ptq.quantize(made(build)), IMAGES)
    simulated = ptq.convert(model)
    assert "1 of 4 layers were not reached by the calibration batches (extra) and stay float" in caplog.text
    simulated.aside = model.aside = True
    assert np.array_equal(ran(simulated, IMAGES[0]), ran(model, IMAGES[0]))


def test_batches_without_rows() -> None:
    """A detector's second stage for an image without proposals."""
    net, ptq = nn.Sequential(nn.Linear(4, 3)), PTQ("AbsmaxQuantizer")
    model, empty = ptq.quantize(net), np.zeros((0, 4), np.float32)
    calibrated(model, [empty, np.ones((1, 4), np.float32), empty])
    assert ptq.thresholds(model) == {"0": 1.0}
    assert ran(ptq.convert(model), empty).shape == (0, 3)


def test_another_precision() -> None:
    """Ranges are measured, and grids are applied, in float32."""
    net, ptq = nn.Sequential(nn.Linear(4, 3)), PTQ("AbsmaxQuantizer")
    net.to(dtype="float64")
    x = paddle.to_tensor(IMAGES[0][:, :, 0, 0]).astype("float64")
    model = ptq.quantize(net)
    model(x)
    assert ptq.thresholds(model) == {"0": float(x.abs().max().astype("float32"))}
    out = ptq.convert(model)(x)
    assert out.dtype == paddle.float64
    assert 0 < far(out.astype("float32").numpy(), net(x).astype("float32").numpy()) < 0.1


# ---------------------------------------------------------------------------------------------- wrapped networks


def test_a_network_compiled_by_to_static() -> None:
    """Compiled forwards run no hooks; the given network stays compiled."""
    net = paddle.jit.to_static(made(Plain), input_spec=SPEC, full_graph=True)
    compiled, ptq = net.forward, PTQ("AbsmaxQuantizer")
    model = calibrated(ptq.quantize(net), IMAGES)
    assert net.forward is compiled and type(net.forward) is not type(model.forward)
    assert ptq.thresholds(model) == ptq.thresholds(calibrated(ptq.quantize(made(Plain)), IMAGES))
    assert ran(net, IMAGES[0]).shape == (2, 5)
    inner = nn.Sequential(paddle.jit.to_static(made(Plain), full_graph=True))
    assert len(ptq.thresholds(calibrated(ptq.quantize(inner, inplace=True), IMAGES))) == 3


def test_data_parallel() -> None:
    with pytest.warns(UserWarning, match="single-card"):
        net = paddle.DataParallel(made(Plain))
    ptq = PTQ("AbsmaxQuantizer")
    model = calibrated(ptq.quantize(net), IMAGES)
    assert list(ptq.thresholds(model)) == ["conv", "depthwise", "fc"] and not observers(net)
    assert len(list(wrapped_layers(QAT().quantize(net, inplace=False)))) == 3 and not list(wrapped_layers(net))
    same = ptq.quantize(net, inplace=True)
    assert same is net and ptq.thresholds(calibrated(net, IMAGES)) == ptq.thresholds(model)


class _Named(nn.Layer):
    """Has an attribute that Paddle's wrappers have too."""

    def __init__(self) -> None:
        super().__init__()
        self._layers = nn.Sequential(nn.Conv2D(4, 4, 1), nn.ReLU())
        self.head = nn.Conv2D(4, 2, 1)

    def forward(self, x: Any) -> Any:
        return self.head(self._layers(x))


def test_a_network_with_an_attribute_of_a_wrapper() -> None:
    ptq = PTQ()
    assert list(ptq.thresholds(calibrated(ptq.quantize(made(_Named)), IMAGES))) == ["_layers.0", "head"]
    aware, quanter = made(_Named), QAT()
    assert [path for path, _ in wrapped_layers(quanter.quantize(aware))] == ["_layers.0", "head"]


def test_a_detectors_dict_of_inputs() -> None:
    net, ptq = made(Inputs), PTQ(activation_quantizer="HistQuantizer", upsample_bins=127, hist_percent=0.999)
    model = ptq.quantize(net, fuse=True, fuse_list=None)
    model({"image": paddle.to_tensor(IMAGES[0]), "scale_factor": paddle.ones([2, 2])})
    assert list(ptq.thresholds(model)) == ["conv", "fc"]


# ---------------------------------------------------------------------------------------------- messages


def _refusal(action: Any, kind: type) -> str:
    with pytest.raises(kind) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_uncalibrated(tmp_path: Any) -> None:
    ptq = PTQ()
    model = ptq.quantize(made(Plain))
    for action in (lambda: ptq.convert(model), lambda: ptq.save_quantized_model(model, str(tmp_path / "m"), SPEC)):
        assert "has seen no batch; run some calibration batches through" in _refusal(action, TrainingError)
    assert not list(tmp_path.iterdir())


def test_the_wrong_network() -> None:
    net, ptq = made(Plain), PTQ()
    calibrated(ptq.quantize(net), IMAGES)
    assert "Plain has no observers; pass the network that PTQ.quantize returned" in _refusal(
        lambda: ptq.save_quantized_model(net, "out", SPEC), ConfigError
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_activations_that_are_not_finite(bad: float) -> None:
    ptq = PTQ()
    model = calibrated(ptq.quantize(made(Plain)), IMAGES[:1])
    broken = IMAGES[1].copy()
    broken[0, 0, 0, 0] = bad
    text = _refusal(lambda: ran(model, broken), TrainingError)
    assert "The input of the layer 'conv' cannot be calibrated in its call 2" in text and "normalisation" in text


def test_quantized_already() -> None:
    ptq = PTQ()
    model = ptq.quantize(made(Plain))
    assert "is quantized already" in _refusal(lambda: ptq.quantize(model), ConfigError)
    aware = QAT().quantize(made(Plain))
    assert "is quantized already" in _refusal(lambda: ptq.quantize(aware), ConfigError)


@pytest.mark.parametrize(
    "given, sentence",
    [
        (nn.ReLU(), r"ReLU has no layer to quantize; quantizable_layer_type is Conv2D, Linear\."),
        (nn.Conv2DTranspose(2, 2, 1), r"Conv2DTranspose has no layer to quantize; quantizable_layer_type is Conv2D"),
        (_Doubled(4, 4, 1), r"no layer to quantize.*; it stays float: its class _Doubled has a forward of its own"),
        (Plain, r"the model is a type; give a paddle.nn.Layer"),
    ],
)
def test_nothing_to_quantize(given: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        PTQ().quantize(given)


@pytest.mark.parametrize(
    "pairs, sentence",
    [
        ([["conv", "norms"]], r"no layer 'norms'; did you mean 'norm'\?"),
        ([["conv"]], r"\['conv'\] is no pair"),
        (["convnorm"], r"'convnorm' is no pair"),
        ([["norm", "conv"]], r"pairs 'norm' \(BatchNorm2D\) with 'conv' \(Conv2D\); a pair is a convolution"),
    ],
)
def test_a_fuse_list_that_does_not_fit(pairs: Any, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        PTQ().quantize(made(Plain), fuse=True, fuse_list=pairs)
    assert PTQ().quantize(made(Plain), fuse=False, fuse_list=pairs)  # not read, as in PaddleSlim
