"""Which layers QAT wraps, where, and what of the network stays as it was."""

import copy

import numpy as np
import paddle
import pytest
from paddle import nn

from slimkit.errors import ConfigError
from slimkit.quant.layers import QAT, LayerQuantConfig
from slimkit.quant.layers.fuse import conv_bn_pairs, fuse_conv_bn
from slimkit.quant.layers.wrappers import QuantizedLayer
from slimkit.quant.layers.wrapping import wrapped_layers


def random(*shape, seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def paths(model):
    return [path for path, _ in wrapped_layers(model)]


class Head(nn.Layer):
    """As detectors write it: the layers are registered and kept in a plain list, which forward reads."""

    def __init__(self):
        super().__init__()
        self.outputs = []
        self.by_level = {}
        for level in range(2):
            self.outputs.append(self.add_sublayer(f"output.{level}", nn.Conv2D(4, 6, 1)))
            self.by_level[level] = (self.outputs[-1], level)

    def forward(self, levels):
        return [conv(x) for conv, x in zip(self.outputs, levels)]


class Shared(nn.Layer):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2D(4, 4, 3, padding=1)
        self.again = self.first
        self.blocks = nn.LayerList([self.first, nn.Conv2D(4, 4, 1)])

    def forward(self, x):
        return self.blocks[1](self.again(self.first(x)))


def test_names_parameters_and_keys_stay():
    net = nn.Sequential(nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 5))
    before = {name: p.name for name, p in net.named_parameters()}
    kept = [id(p) for p in net.parameters()]
    assert QAT().quantize(net) is net
    assert [id(p) for p in net.parameters()] == kept
    assert net[0].weight.name == before["0.weight"]
    assert list(net.state_dict())[:5] == [
        "0._layer.weight",
        "0._layer.bias",
        "0._layer._fake_quant_weight._scale",
        "0._layer._fake_quant_input._scale",
        "0._layer._fake_quant_input._state",
    ]


def test_a_wrapper_passes_on_what_its_layer_has():
    net = nn.Sequential(nn.Conv2D(3, 4, 3, stride=2, groups=1))
    weight = net[0].weight
    QAT().quantize(net)
    assert net[0].weight is weight and net[0]._in_channels == 3 and net[0]._stride == [2, 2]
    new = paddle.create_parameter([4, 3, 3, 3], "float32")
    net[0].weight = new
    assert net[0]._layer.weight is new
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = net[0].no_such_thing


def test_who_looks_at_a_layers_results_goes_on_seeing_them():
    """PaddleClas takes features by hooks that it registers before the network is quantized."""
    net, seen = nn.Sequential(nn.Conv2D(3, 4, 3), nn.ReLU()), []
    net[0].register_forward_post_hook(lambda layer, inputs, outputs: seen.append(outputs.shape))
    QAT().quantize(net)
    net(paddle.zeros([1, 3, 8, 8]))
    assert seen == [[1, 4, 6, 6]]


def test_layers_in_plain_lists_and_dicts_are_wrapped_too():
    head = Head()
    QAT().quantize(head)
    assert all(isinstance(conv, QuantizedLayer) for conv in head.outputs)
    assert all(head.by_level[level][0] is head.outputs[level] for level in range(2))
    head([random(1, 4, 2, 2), random(1, 4, 2, 2)])
    assert all(conv._layer._fake_quant_input.seen for conv in head.outputs)


def test_a_layer_in_several_places_is_wrapped_once():
    net = Shared()
    QAT().quantize(net)
    assert net.first is net.again is net.blocks[0]
    assert len({id(wrapper) for _, wrapper in wrapped_layers(net)}) == 2


def test_skip_quant_holds_for_a_layer_and_for_what_a_layer_contains():
    net = nn.Sequential(nn.Conv2D(3, 3, 1), nn.Sequential(nn.Conv2D(3, 3, 1), nn.Conv2D(3, 3, 1)), nn.Conv2D(3, 3, 1))
    net[0].skip_quant = True
    net[1].skip_quant = True
    net[2].skip_quant = False
    QAT().quantize(net)
    assert paths(net) == ["2"]


def test_only_the_types_asked_for_are_wrapped():
    net = nn.Sequential(nn.Conv2D(3, 3, 1), nn.Conv2DTranspose(3, 3, 2, stride=2), nn.Flatten(), nn.Linear(12, 2))
    QAT({"quantizable_layer_type": ["Conv2DTranspose", "Linear"]}).quantize(net)
    assert paths(net) == ["1", "3"]


class Odd(nn.Conv2D):
    def forward(self, x):
        return super().forward(x) * 2


def test_a_layer_with_a_forward_or_weight_of_its_own_stays_float():
    net = nn.Sequential(Odd(3, 3, 1), nn.utils.weight_norm(nn.Conv2D(3, 3, 1)), nn.Conv2D(3, 3, 1))
    x = random(1, 3, 4, 4)
    before = net[0](x).numpy()
    QAT().quantize(net)
    assert paths(net) == ["2"]
    np.testing.assert_array_equal(net[0](x).numpy(), before)


@pytest.mark.parametrize(
    "layer, shape",
    [
        (lambda: nn.Conv2D(4, 4, 3, padding=1, groups=4), (2, 4, 6, 6)),
        (lambda: nn.Conv2D(4, 6, 3, padding=2, padding_mode="reflect"), (2, 4, 6, 6)),
        (lambda: nn.Conv2D(4, 6, 3, padding="SAME", dilation=2, data_format="NHWC"), (2, 6, 6, 4)),
        (lambda: nn.Conv2DTranspose(4, 6, 3, stride=2, output_padding=1, bias_attr=False), (2, 4, 6, 6)),
        (lambda: nn.Linear(4, 3), (2, 5, 4)),
    ],
    ids=["depthwise", "reflect", "NHWC", "transposed", "linear"],
)
def test_at_16_bits_a_quantized_layer_computes_what_the_float_one_does(layer, shape):
    net = nn.Sequential(layer())
    x = random(*shape)
    expected = net(x).numpy()
    QAT({"weight_bits": 16, "activation_bits": 16, "quantizable_layer_type": [
        "Conv2D", "Conv2DTranspose", "Linear"]}).quantize(net)  # fmt: skip
    np.testing.assert_allclose(net(x).numpy(), expected, atol=3e-3 * np.abs(expected).max())


def test_output_size_of_a_transposed_convolution_is_passed_on():
    net = nn.Sequential(nn.Conv2DTranspose(2, 2, 3, stride=2))
    QAT({"quantizable_layer_type": ["Conv2DTranspose"]}).quantize(net)
    assert net[0](random(1, 2, 5, 5), output_size=[12, 12]).shape == [1, 2, 12, 12]


def test_a_copy_is_quantized_when_asked_and_deepcopies_are_apart():
    net = nn.Sequential(nn.Conv2D(3, 4, 3), nn.ReLU())
    quantized = QAT().quantize(net, inplace=False)
    assert paths(net) == [] and paths(quantized) == ["0"]
    twin = copy.deepcopy(quantized)
    twin(random(1, 3, 8, 8))
    assert twin[0]._layer._fake_quant_input.seen and not quantized[0]._layer._fake_quant_input.seen
    assert paddle.summary(twin, (1, 3, 8, 8))["total_params"] == 112


def test_a_network_of_another_type_keeps_it():
    """The CPU has no bfloat16 products, so float64 stands for the types that the quantizing kernels do not know."""
    net = nn.Sequential(nn.Linear(4, 3))
    QAT({"activation_preprocess_type": "PACT"}).quantize(net)
    net.to(dtype="float64")
    out = net(random(2, 4).astype("float64"))
    assert out.dtype == net[0].weight.dtype == paddle.float64
    assert net[0]._layer._fake_quant_input._scale.dtype == paddle.float32


def test_batch_norms_are_folded_before_training_when_asked():
    layers = nn.Conv2D(3, 4, 3, bias_attr=False), nn.BatchNorm2D(4), nn.ReLU(), nn.Conv2D(4, 5, 1), nn.ReLU()
    net = nn.Sequential(*layers)
    net(random(8, 3, 6, 6))
    net.eval()
    x = random(2, 3, 6, 6, seed=1)
    expected = net(x).numpy()
    assert conv_bn_pairs(net) == [("0", "1")]
    assert fuse_conv_bn(copy.deepcopy(net)) == [("0", "1")]
    QAT({"fuse_conv_bn": True, "weight_bits": 16}).quantize(net)
    assert isinstance(net[1], nn.Identity)
    np.testing.assert_allclose(net(x).numpy(), expected, rtol=1e-3, atol=3e-4)  # no batch was seen yet: float inputs


@pytest.mark.parametrize(
    "config, message",
    [
        ({"weight_bitz": 8}, "weight_bits"),
        ({"weight_bits": 1}, "weight_bits"),
        ({"weight_quantize_type": "moving_average_abs_max"}, "abs_max"),
        ({"activation_preprocess_type": "pact"}, "PACT"),
        ({"quantizable_layer_type": ["Conv1D"]}, "Conv2D"),
        ({"moving_rate": 2.0}, "moving_rate"),
    ],
)
def test_a_bad_config_is_refused_in_one_sentence(config, message):
    with pytest.raises(ConfigError, match=message):
        QAT(config)


def test_bad_calls_are_refused():
    with pytest.raises(ConfigError, match="dict"):
        QAT("int8")
    with pytest.raises(ConfigError, match="subclass of paddle"):
        QAT(act_preprocess=nn.ReLU())
    with pytest.raises(ConfigError, match="no layer to quantize"):
        QAT().quantize(nn.Sequential(nn.ReLU()))
    with pytest.raises(ConfigError, match="give a paddle"):
        QAT().quantize(lambda x: x)
    net = nn.Sequential(nn.Linear(2, 2))
    QAT().quantize(net)
    with pytest.raises(ConfigError, match="quantized already"):
        QAT().quantize(net)


def test_the_defaults_are_paddleslims():
    config = LayerQuantConfig.read(None)
    assert (config.weight_quantize_type, config.activation_quantize_type) == (
        "channel_wise_abs_max", "moving_average_abs_max",
    )  # fmt: skip
    assert config.quantizable_layer_type == ["Conv2D", "Linear"] and config.onnx_format
