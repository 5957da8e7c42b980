"""``QatTrainer`` from initial scales to the exported file, and its resume."""

from __future__ import annotations

import os

import numpy as np
import paddle
import pytest
from grids import symmetric
from small_programs import Net, mobile_net, random

from slimkit.errors import ConfigError, ModelError, TrainingError
from slimkit.ir import Model, legacy_ir
from slimkit.quant import QatTrainer, QuantTable

CPU = paddle.CPUPlace()
CONFIG = {"quantize_op_types": ["conv2d", "depthwise_conv2d", "matmul_v2"]}


def _feed(seed):
    labels = np.random.RandomState(seed).randint(0, 5, (8, 1)).astype("int64")
    return {"x": random(seed, 8, 3, 8, 8), "label": labels}


def _momentum(rate=0.05):
    return lambda: paddle.optimizer.Momentum(rate, weight_decay=paddle.regularizer.L2Decay(1e-4))


def _net(dropout=False):
    if not dropout:
        return mobile_net()
    net = Net()
    x = net.data("x", [-1, 3, 8, 8], grad=False)
    y = net.relu(net.conv(x, random(1, 4, 3, 3, 3, size=0.4), "c"), "a")
    attrs = {"dropout_prob": 0.5, "is_test": False, "dropout_implementation": "upscale_in_train", "seed": 0}
    with legacy_ir():
        net.block.create_var(name="mask", dtype="uint8")
    y = net.op("dropout", {"Out": "d", "Mask": "mask"}, attrs, X=y)
    attrs = {"start_axis": 1, "stop_axis": 3}
    y = net.op("flatten_contiguous_range", {"Out": "flat", "XShape": "xs"}, attrs, X=y)
    net.linear(y, random(2, 256, 5, size=0.1), "logits", trans_x=False, trans_y=False)
    net.cross_entropy("logits")
    return net


def _qat(net=None, config=CONFIG, pact=None, seed=0, optimizer=None, **more):
    net = net or mobile_net()
    model = net.model(["x", "label"], ["logits", "loss"])
    return QatTrainer(model, config, "loss", optimizer or _momentum(), pact=pact, place=CPU, seed=seed, **more)


def _train(qat, first, last):
    return [float(qat.train_step(_feed(t), ["loss"])[0]) for t in range(first, last)]


@pytest.mark.parametrize("pact", [None, {}, {"form": "relu"}])
def test_it_learns(pact):
    qat, feed = _qat(pact=pact), _feed(0)
    qat.initialise([feed])
    before = float(qat.eval_step(feed, ["loss"])[0])
    losses = [float(qat.train_step(feed, ["loss"])[0]) for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0] and float(qat.eval_step(feed, ["loss"])[0]) < before
    assert qat.steps == 8


def test_the_model_is_not_changed():
    net = mobile_net()
    before = {p.name: net.value(p.name) for p in net.program.all_parameters()}
    program = net.program.desc.serialize_to_string()
    qat = _qat(net)
    qat.initialise([_feed(0)])
    _train(qat, 0, 2)
    for name, value in before.items():
        np.testing.assert_array_equal(net.value(name), value)
    assert net.program.desc.serialize_to_string() == program


def test_initialise_starts_scales_from_data():
    qat, feeds = _qat(), [_feed(0), _feed(1)]
    qat.initialise(feeds)
    want = np.mean([np.abs(f["x"]).max() for f in feeds])
    np.testing.assert_allclose(qat.table().params["x"].scale, [want], rtol=1e-5)
    flat = np.mean([np.abs(qat.float_step(f, ["flat"])[0]).max() for f in feeds])
    np.testing.assert_allclose(qat.table().params["flat"].scale, [flat], rtol=1e-4)
    qat.train_step(_feed(2), ["loss"])  # the average is settled: one batch moves it by 1 - k
    now = 0.9 * want + 0.1 * np.abs(_feed(2)["x"]).max()
    np.testing.assert_allclose(qat.table().params["x"].scale, [now], rtol=1e-5)


@pytest.mark.parametrize("init", ["max", "percentile", "mse"])
def test_initialise_starts_alpha_from_data(init):
    qat, feeds = _qat(pact={"init": init, "percentile": 99.0}), [_feed(0), _feed(1)]
    qat.initialise(feeds)
    values = np.abs(np.concatenate([qat.float_step(f, ["flat"])[0].ravel() for f in feeds]))
    alpha = qat.alphas()["flat"]
    if init == "max":
        np.testing.assert_allclose(alpha, values.max(), rtol=1e-5)
    elif init == "percentile":
        np.testing.assert_allclose(alpha, np.percentile(values, 99.0), rtol=0.02)
    else:

        def error(level):
            return ((symmetric(values, level, 8) - values) ** 2).sum()

        best = min(error(values.max() * k / 200) for k in range(40, 201))
        assert error(alpha) <= 1.05 * best
    assert qat.summary()["alphas"]["flat"] == {"initial": alpha, "trained": alpha}


def test_initialise_at_two_widths_of_one_tensor():
    rules = [{"names": ["fc"], "activation_bits": 4}, {"names": ["se.reduce"], "activation_bits": 4}]
    net = mobile_net()
    net.linear("flat", random(1, 16, 3), "side", trans_x=False, trans_y=False)
    qat = _qat(net, {**CONFIG, "rules": rules})
    qat.initialise([_feed(0)])
    peak = np.abs(qat.float_step(_feed(0), ["flat"])[0]).max()
    scales = [p.scale[0] for k, p in qat.table().params.items() if p.tensor == "flat"]
    assert len(scales) == 2
    np.testing.assert_allclose(scales, [peak, peak], rtol=1e-4)


def test_initialise_does_not_train():
    qat = _qat()
    before = qat.state_dict()
    qat.initialise([_feed(0)])
    after = qat.state_dict()
    weights = [n for n in before if n.endswith(".w")]
    assert weights
    for name in [*weights, "stem.bn.mean"]:
        np.testing.assert_array_equal(before[name], after[name])


def test_initialise_errors():
    with pytest.raises(TrainingError, match="no batch"):
        _qat().initialise([])
    feed = _feed(0)
    feed["x"][0, 0, 0, 0] = np.nan
    with pytest.raises(TrainingError, match="batch 1"):
        _qat().initialise([feed])


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("pact", [None, {"optimizer": "adam"}])
def test_resume_is_bit_exact(dropout, pact):
    whole = _qat(_net(dropout), pact=pact, seed=3)
    whole.initialise([_feed(0)])
    losses = _train(whole, 0, 6)
    first = _qat(_net(dropout), pact=pact, seed=3)
    first.initialise([_feed(0)])
    head = _train(first, 0, 3)
    state = {name: value.copy() for name, value in first.state_dict().items()}
    second = _qat(_net(dropout), pact=pact, seed=3)
    second.load_state_dict(state)
    assert head + _train(second, 3, 6) == losses
    final = whole.state_dict()
    for name, value in second.state_dict().items():
        np.testing.assert_array_equal(value, final[name], err_msg=name)


def test_dropout_follows_the_seed():
    def losses(seed, noise):
        paddle.seed(noise)
        qat = _qat(_net(dropout=True), seed=seed)
        qat.initialise([_feed(0)])
        return _train(qat, 0, 3)

    assert losses(1, 10) == losses(1, 20) != losses(2, 10)


def test_no_global_side_effects(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paddle.seed(5)
    state = paddle.get_rng_state()
    want = paddle.rand([4]).numpy()
    paddle.set_rng_state(state)
    qat = _qat(_net(dropout=True), pact={})
    qat.initialise([_feed(0)])
    _train(qat, 0, 2)
    qat.eval_step(_feed(0), ["logits"])
    qat.export(tmp_path / "out" / "m")
    with pytest.raises(Exception, match="nope"):
        qat.eval_step(_feed(0), ["nope"])
    with pytest.raises(Exception):  # noqa: B017 - Paddle's own
        qat.train_step({"x": np.zeros((1, 2), "float32"), "label": np.zeros((1, 1), "int64")}, ["loss"])
    assert paddle.in_dynamic_mode()
    np.testing.assert_array_equal(paddle.rand([4]).numpy(), want)
    assert os.listdir(tmp_path) == ["out"]


def test_errors_of_construction():
    with pytest.raises(ConfigError, match="'los' is no variable"):
        QatTrainer(mobile_net().model(["x", "label"], ["logits", "loss"]), CONFIG, "los", _momentum())
    with pytest.raises(TrainingError, match="Nothing in the model can be quantized"):
        _qat(config={"quantize_op_types": ["conv2d_transpose"]})
    with pytest.raises(TrainingError, match=r"rule of the config \(rules\[0\]\)"):
        _qat(config={**CONFIG, "rules": [{"skip": True}]})
    with pytest.raises(ConfigError, match="schedules go through set_learning_rate"):
        _qat(optimizer=lambda: paddle.optimizer.SGD(paddle.optimizer.lr.StepDecay(0.1, 3)))
    net = mobile_net()
    for p in net.program.all_parameters():
        p.trainable, p.stop_gradient = False, True
    with pytest.raises(TrainingError, match="no trainable parameter"):
        _qat(net)
    assert paddle.in_dynamic_mode()


def test_load_state_of_another_run():
    state = _qat().state_dict()
    with pytest.raises(TrainingError, match=r"holds '\w+@accum', which this run has not"):
        _qat(config={**CONFIG, "activation_quantize_type": "abs_max"}).load_state_dict(state)
    with pytest.raises(TrainingError, match="lacks"):
        _qat(pact={}).load_state_dict(state)


def test_a_state_of_another_shape_is_refused():
    qat = _qat()
    state = qat.state_dict()
    state["fc.w"] = np.zeros((3, 3), "float32")
    with pytest.raises(TrainingError, match=r"'fc\.w'.*\[3, 3\]"):
        qat.load_state_dict(state)


def test_learning_rates():
    qat = _qat(pact={"learning_rate": 0.02, "l2": 0.0})
    qat.initialise([_feed(0)])
    qat.set_learning_rate(0.0)
    before = qat.state_dict()
    _train(qat, 0, 2)
    after = qat.state_dict()
    for name in ("stem.w", "fc.w", "flat@alpha"):
        np.testing.assert_array_equal(before[name], after[name])
    qat.set_learning_rate(0.0, alpha_lr=0.5)
    _train(qat, 2, 4)
    now = qat.state_dict()
    np.testing.assert_array_equal(before["fc.w"], now["fc.w"])
    alphas = [n for n in now if n.endswith("@alpha")]
    assert any(now[n] != before[n] for n in alphas)


def test_one_schedule_moves_both_rates():
    qat = _qat(pact={"learning_rate": 0.02}, optimizer=_momentum(0.1))
    qat.set_learning_rate(0.05)
    rates = {n: v for n, v in qat.state_dict().items() if "learning_rate" in n}
    assert sorted(float(v.item()) for v in rates.values()) == [np.float32(0.01), np.float32(0.05)]


def test_eval_is_the_simulation_and_float_is_not():
    qat = _qat(config={**CONFIG, "weight_bits": 4, "activation_bits": 4})
    qat.initialise([_feed(0)])
    feed = {"x": _feed(0)["x"]}  # no label needed for logits
    (simulated,), (plain,) = qat.eval_step(feed, ["logits"]), qat.float_step(feed, ["logits"])
    assert np.abs(simulated - plain).max() > 1e-3
    np.testing.assert_array_equal(simulated, qat.eval_step(feed, ["logits"])[0])
    with pytest.raises(ModelError, match="nope"):
        qat.float_step(feed, ["nope"])
    xq = qat.eval_step(feed, [qat.report.tensors["x"]])[0]
    np.testing.assert_allclose(xq, symmetric(feed["x"], qat.table().params["x"].scale, 4), atol=1e-5)


def test_float_model():
    qat = _qat()
    qat.initialise([_feed(0)])
    _train(qat, 0, 2)
    model = qat.float_model()
    assert model.feeds == ["x"] and model.fetches == ["logits"] == qat.outputs()
    want = qat.float_step(_feed(3), ["logits"])[0]
    np.testing.assert_allclose(model.run([_feed(3)["x"]])[0], want, rtol=1e-4, atol=1e-6)
    before = model.run([_feed(3)["x"]])[0]
    types = model.op_counts()
    assert not any("quant" in t or t.endswith("_grad") or t == "momentum" for t in types)
    _train(qat, 2, 3)  # parameters of its own
    np.testing.assert_array_equal(model.run([_feed(3)["x"]])[0], before)


@pytest.mark.parametrize("fmt", ["onnx", "old"])
def test_export_formats(tmp_path, fmt):
    qat = _qat(pact={})
    qat.initialise([_feed(0)])
    _train(qat, 0, 2)
    path = qat.export(tmp_path / "deep" / "m", fmt)
    assert path == tmp_path / "deep" / "m.pdmodel" and path.exists()
    model = Model.load(path)
    simulated = qat.eval_step(_feed(4), ["logits"])[0]
    assert np.abs(model.run([_feed(4)["x"]])[0] - simulated).max() <= 1e-4 * np.abs(simulated).max()


def test_summary():
    rules = [{"names": ["fc"], "skip": True}, {"names": ["nothing"], "skip": True}]
    qat = _qat(config={**CONFIG, "rules": rules}, pact={})
    found = qat.summary()
    assert [row["output"] for row in found["quantized"]] == ["stem", "dw", "se.reduce", "se.expand", "project"]
    first = found["quantized"][0]
    assert first["type"] == "conv2d" and first["inputs"] == {"Input": "x", "Filter": "stem.w"}
    assert first["bits"] == {"Input": 8, "Filter": 8}
    assert [(r["op"], r["type"]) for r in found["skipped"]] == [("fc", "matmul_v2")]
    assert len(found["unused_rules"]) == 1 and set(found["alphas"]) == {"stem.relu", "se.pool", "se.relu", "se"}
    assert qat.table().skipped == found["skipped"]


def test_layers_for_rules():
    layers = {"stem.w": "features.stem.weight"}
    qat = _qat(config={**CONFIG, "rules": [{"layers": ["features.*"], "skip": True}]}, layers=layers)
    assert qat.summary()["skipped"][0]["layer"] == "features.stem"


def test_table_round_trip(tmp_path):
    qat = _qat(config={**CONFIG, "weight_quantize_type": "channel_wise_min_max", "weight_bits": 4})
    qat.initialise([_feed(0)])
    table = qat.table()
    again = QuantTable.load(table.save(tmp_path / "table.json"))
    assert again.params.keys() == table.params.keys() and again.ops == table.ops and len(again) == len(table)
    for key, params in table.params.items():
        other = again.params[key]
        np.testing.assert_array_equal(params.scale, other.scale)
        np.testing.assert_array_equal(params.zero_point, other.zero_point)
        fields = ("tensor", "bits", "axis", "symmetric", "is_weight", "dynamic", "rounding", "qmax")
        assert [getattr(params, f) for f in fields] == [getattr(other, f) for f in fields]
    assert table.params["stem.w"].rounding == "half_even" and table.params["x"].rounding == "half_away"
    assert set(table.weights()) == {"stem.w", "dw.w", "se.reduce.w", "se.expand.w", "project.w", "fc.w"}
    assert set(table.activations()) == {"x", "stem.relu", "se.pool", "se.relu", "se", "flat"}


def test_table_errors(tmp_path):
    (tmp_path / "t.json").write_text("[]")
    with pytest.raises(ModelError, match="QuantTable"):
        QuantTable.load(tmp_path / "t.json")
    (tmp_path / "t.json").write_text('{"format": 99}')
    with pytest.raises(ModelError, match="format 99"):
        QuantTable.load(tmp_path / "t.json")
    with pytest.raises(ModelError, match=r"nope\.json"):
        QuantTable.load(tmp_path / "nope.json")


def test_a_diverged_scale_is_refused():
    qat = _qat()
    qat.scope.find_var("x@scale").get_tensor().set(np.full(1, np.nan, "float32"), CPU)
    with pytest.raises(ModelError, match=r"'x'.*diverged"):
        qat.table()


def test_evaluation_sees_the_depthwise_weights_of_now():
    """oneDNN caches reordered weights in test mode; an evaluation must not go on with those of the one before."""

    class Net(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.conv = paddle.nn.Conv2D(4, 4, 3, groups=4)
            self.fc = paddle.nn.Linear(4, 2)

        def forward(self, image, label):
            logits = self.fc(paddle.nn.functional.relu(self.conv(image)).mean(axis=[2, 3]))
            return logits, paddle.nn.functional.cross_entropy(logits, label, reduction="none").mean()

    specs = [
        paddle.static.InputSpec([-1, 4, 8, 8], "float32", "image"),
        paddle.static.InputSpec([-1, 1], "int64", "label"),
    ]
    net = Net()
    model = Model.from_layer(net, specs, train=True)
    config = {"quantize_op_types": ["depthwise_conv2d"]}
    qat = QatTrainer(model, config, model.fetches[1], _momentum(0.1), place=paddle.CPUPlace())
    feed = {"image": np.random.default_rng(0).normal(size=(2, 4, 8, 8)).astype(np.float32)}
    qat.initialise([{**feed, "label": np.zeros((2, 1), np.int64)}])
    state, logits = qat.state_dict(), model.fetches[:1]
    first = qat.eval_step(feed, logits)[0]
    qat.load_state_dict({**state, net.conv.weight.name: -state[net.conv.weight.name]})
    other = qat.eval_step(feed, logits)[0]
    qat.load_state_dict(state)
    assert np.abs(first - other).max() > 1e-3
    np.testing.assert_array_equal(qat.eval_step(feed, logits)[0], first)
