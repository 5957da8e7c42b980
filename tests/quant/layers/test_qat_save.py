"""What QAT saves computes what the trained network computes, whatever form the network comes in."""

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.static import InputSpec

from slimkit.errors import ConfigError
from slimkit.ir import Model
from slimkit.quant.layers import QAT


def random(*shape, seed=0):
    return paddle.to_tensor(np.random.default_rng(seed).normal(size=shape).astype(np.float32))


def network():
    return nn.Sequential(
        nn.Conv2D(3, 8, 3, stride=2, padding=1, bias_attr=False),
        nn.BatchNorm2D(8),
        nn.Hardswish(),
        nn.Conv2D(8, 8, 3, padding=1, groups=8),
        nn.ReLU(),
        nn.Conv2DTranspose(8, 6, 2, stride=2),
        nn.AdaptiveAvgPool2D(2),
        nn.Flatten(),
        nn.Linear(24, 5),
    )


TYPES = {"quantizable_layer_type": ["Conv2D", "Linear", "Conv2DTranspose"]}
SPEC = [InputSpec([None, 3, 16, 16], "float32", "image")]


class UsersPact(nn.Layer):
    """PACT as PaddleOCR's quant.py writes it."""

    start = 20.0

    def __init__(self):
        super().__init__()
        attr = paddle.ParamAttr(
            name=self.full_name() + ".pact",
            initializer=nn.initializer.Constant(self.start),
            learning_rate=1.0,
            regularizer=paddle.regularizer.L2Decay(2e-5),
        )
        self.alpha = self.create_parameter(shape=[1], attr=attr, dtype="float32")

    def forward(self, x):
        out_left = nn.functional.relu(x - self.alpha)
        out_right = nn.functional.relu(-self.alpha - x)
        return x - out_left + out_right


class TightPact(UsersPact):
    start = 0.5


class Halve(nn.Layer):
    """A preprocess that is no clip: it must go with the export as it is."""

    def forward(self, x):
        return x * 0.5


def train(net, steps=3, classes=5):
    net.train()
    optimizer = paddle.optimizer.Momentum(0.01, parameters=net.parameters())
    for seed in range(steps):
        out = net(random(4, 3, 16, 16, seed=seed))
        nn.functional.cross_entropy(out, paddle.to_tensor(np.arange(4) % classes)).backward()
        optimizer.step()
        optimizer.clear_grad()
    return net


def assert_export_is(net, path, tolerance=1e-6):
    net.eval()
    x = random(3, 3, 16, 16, seed=9) * 2
    expected = net(x).numpy()
    (found,) = Model.load(path).run([x.numpy()])
    assert np.abs(found - expected).max() <= tolerance * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize(
    "config, arguments",
    [
        ({}, {}),
        ({"onnx_format": False}, {}),
        ({"activation_preprocess_type": "PACT"}, {}),
        ({"weight_quantize_type": "abs_max", "weight_bits": 4, "activation_bits": 6}, {}),
        ({"activation_quantize_type": "range_abs_max"}, {}),
        ({"weight_preprocess_type": "PACT"}, {}),
        ({}, {"act_preprocess": UsersPact}),
        ({}, {"act_preprocess": TightPact}),
        ({}, {"act_preprocess": Halve}),
    ],
    ids=["plain", "old format", "PACT", "few bits", "range", "weight PACT", "user's PACT", "tight PACT", "halve"],
)
def test_the_export_is_the_trained_network(tmp_path, config, arguments):
    paddle.seed(0)
    quanter = QAT({**TYPES, **config}, **arguments)
    net = network()
    quanter.quantize(net)
    train(net)
    quanter.save_quantized_model(net, str(tmp_path / "model"), SPEC)
    assert paddle.in_dynamic_mode() and net.training
    assert_export_is(net, tmp_path / "model")
    counts = Model.load(tmp_path / "model").op_counts()
    quantize = "quantize_linear" if config.get("onnx_format", True) else "fake_quantize_moving_average_abs_max"
    assert sum(count for name, count in counts.items() if name == quantize) >= 4
    train(net, 1)  # it trains on


def test_a_redundant_pact_leaves_no_op_and_a_tight_one_a_clip(tmp_path):
    for act, clips in ((UsersPact, 0), (TightPact, 4)):
        quanter = QAT(TYPES, act_preprocess=act)
        net = train(network(), 0)
        quanter.quantize(net)
        train(net)
        for name, buffer in net.named_buffers():  # as when alpha fell since the moving average saw it
            if name.endswith("_fake_quant_input._scale"):
                buffer.set_value(np.maximum(buffer.numpy(), 0.6))
        quanter.save_quantized_model(net, str(tmp_path / act.__name__), SPEC)
        counts = Model.load(tmp_path / act.__name__).op_counts()
        assert counts.get("clip", 0) == clips and "elementwise_sub" not in counts
        assert_export_is(net, tmp_path / act.__name__)


@pytest.mark.parametrize("full_graph", [True, False], ids=["whole graph", "by bytecode"])
def test_a_to_static_network_is_saved_by_its_own_spec_and_stays_one(tmp_path, full_graph):
    net = network()
    quanter = QAT(TYPES)
    quanter.quantize(net)
    train(net)
    net.eval()
    x = random(3, 3, 16, 16, seed=9)
    expected = net(x).numpy()
    static = paddle.jit.to_static(net, input_spec=SPEC, full_graph=full_graph)
    quanter.save_quantized_model(static, str(tmp_path / "model"))
    assert paddle.in_dynamic_mode() and static.forward is not type(net).forward
    model = Model.load(tmp_path / "model")
    assert model.feeds == ["image"]
    np.testing.assert_allclose(model.run([x.numpy()])[0], expected, atol=1e-6)
    if full_graph:  # by bytecode Paddle 3.3 itself loses the channels in front of transposed convolutions
        np.testing.assert_allclose(static(x).numpy(), expected, atol=1e-6)
        train(static, 1)


@pytest.mark.parametrize("preprocess", [None, "PACT"])
def test_trained_by_a_compiled_forward(tmp_path, preprocess):
    """A traced training step keeps the ranges too: nothing that was trained quantized is exported float."""
    net = network()
    quanter = QAT({**TYPES, "activation_preprocess_type": preprocess})
    quanter.quantize(net)
    static = paddle.jit.to_static(net, input_spec=SPEC, full_graph=True)
    train(static)
    net.eval()
    quanter.save_quantized_model(static, str(tmp_path / "model"))
    assert Model.load(tmp_path / "model").op_counts()["quantize_linear"] == 4
    assert_export_is(net, tmp_path / "model")


class Exported(nn.Layer):
    """As PaddleClas's ExportModel: it holds the quantized network and adds what deployment wants."""

    def __init__(self, base_model):
        super().__init__()
        self.base_model = base_model
        self.out_act = nn.Softmax()

    def forward(self, x):
        return self.out_act(self.base_model(x))


def test_wrappers_and_data_parallel_are_saved(tmp_path):
    net = network()
    quanter = QAT(TYPES)
    quanter.quantize(net)
    train(net)
    for wrapped in (Exported(net), paddle.DataParallel(net)):
        path = tmp_path / type(wrapped).__name__
        quanter.save_quantized_model(wrapped, str(path), SPEC)
        assert_export_is(wrapped, path)


class Branches(nn.Layer):
    """As PPLCNetV3's LearnableRepLayer: two branches until rep() makes one convolution of them."""

    def __init__(self):
        super().__init__()
        self.kxk, self.one = nn.Conv2D(3, 4, 3, padding=1), nn.Conv2D(3, 4, 1)
        self.is_repped = False

    def forward(self, x):
        return self.rep_conv(x) if self.is_repped else self.kxk(x) + self.one(x)

    def rep(self):
        kernel = self.kxk.weight + nn.functional.pad(self.one.weight, [1, 1, 1, 1])
        self.rep_conv = nn.Conv2D(3, 4, 3, padding=1)
        self.rep_conv.weight.set_value(kernel)
        self.rep_conv.bias.set_value(self.kxk.bias + self.one.bias)
        self.is_repped = True


def test_a_convolution_made_by_rep_is_quantized_on_its_branches_range(tmp_path):
    net = nn.Sequential(Branches(), nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(4, 5))
    quanter = QAT()
    quanter.quantize(net)
    train(net)
    net.eval()
    x = random(3, 3, 16, 16, seed=9)
    trained = net(x).numpy()
    net[0].rep()
    quanter.save_quantized_model(net, str(tmp_path / "model"), SPEC)
    assert type(net[0].rep_conv) is nn.Conv2D  # put back
    model = Model.load(tmp_path / "model")
    assert model.op_counts()["quantize_linear"] == 2 and model.op_counts()["conv2d"] == 1
    (found,) = model.run([x.numpy()])
    # Another weight grid than the branches': a few steps of it, not the trained network to the last digit.
    assert 0 < np.abs(found - trained).max() < 0.05 * np.abs(trained).max()
    scale = net[0].kxk._layer._fake_quant_input._scale.item()
    grids = [op for op in model.program.global_block().ops if op.type == "quantize_linear"]
    first = model.params[grids[0].input("Scale")[0]].reshape(-1)[0]
    assert first == pytest.approx(scale, rel=1e-6) or first == pytest.approx(scale / 127, rel=1e-6)


class Twice(nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2D(3, 3, 3, padding=1)
        self.flat = nn.Flatten()
        self.fc = nn.Linear(3 * 256, 5)

    def forward(self, x):
        return self.fc(self.flat(self.conv(nn.functional.relu(self.conv(x)))))


def test_a_layer_called_twice_has_one_scale_and_two_quantizers(tmp_path):
    net = Twice()
    quanter = QAT()
    quanter.quantize(net)
    train(net)
    quanter.save_quantized_model(net, str(tmp_path / "model"), SPEC)
    assert_export_is(net, tmp_path / "model")
    assert Model.load(tmp_path / "model").op_counts()["quantize_linear"] == 3


def test_layers_that_never_saw_a_batch_stay_float_and_are_told(tmp_path, caplog):
    net = network()
    quanter = QAT(TYPES)
    quanter.quantize(net)
    with caplog.at_level("WARNING", logger="slimkit"):
        quanter.save_quantized_model(net, str(tmp_path / "model"), SPEC)
    assert "4 quantized layers never saw a batch" in caplog.text
    assert "quantize_linear" not in Model.load(tmp_path / "model").op_counts()
    assert_export_is(net, tmp_path / "model")


def test_a_checkpoint_brings_the_trained_network_back(tmp_path):
    config = {**TYPES, "activation_preprocess_type": "PACT"}
    net = network()
    QAT(config).quantize(net)
    train(net)
    paddle.save(net.state_dict(), str(tmp_path / "net.pdparams"))
    other = network()
    quanter = QAT({**config, "activation_preprocess_type": None})  # as PaddleClas and PaddleDetection export
    quanter.quantize(other)
    other.set_state_dict(paddle.load(str(tmp_path / "net.pdparams")))
    quanter.save_quantized_model(other, str(tmp_path / "model"), SPEC)
    assert_export_is(net, tmp_path / "model")


def test_bad_saves_are_refused(tmp_path):
    net, quanter = network(), QAT(TYPES)
    with pytest.raises(ConfigError, match="was not quantized"):
        quanter.save_quantized_model(net, str(tmp_path / "model"), SPEC)
    quanter.quantize(net)
    with pytest.raises(ConfigError, match="input_spec"):
        quanter.save_quantized_model(net, str(tmp_path / "model"))
    with pytest.raises(ConfigError, match="clip_extra"):
        quanter.save_quantized_model(net, str(tmp_path / "model"), SPEC, clip_extra=True)
    assert not list(tmp_path.iterdir())
