"""``to_training``: inference programs made trainable."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from small_programs import Net, mobile_net, random

from slimkit.errors import ModelError
from slimkit.ir import Model, legacy_ir, to_training
from slimkit.quant import QatTrainer

CPU = paddle.CPUPlace()
X = random(0, 16, 3, 8, 8) + (np.arange(16) % 5).reshape(-1, 1, 1, 1).astype("float32")
LABEL = (np.arange(16) % 5).astype("int64").reshape(-1, 1)
FEED = {"x": X, "label": LABEL}


def _saved(tmp_path, softmax=True, dropout=False):
    """An inference model on disk, as users have it: no training information."""
    net = mobile_net(train=False)
    out = "logits"
    if dropout:
        attrs = {"dropout_prob": 0.5, "is_test": False, "dropout_implementation": "upscale_in_train", "seed": 0}
        with legacy_ir():
            net.block.create_var(name="mask", dtype="uint8")
        out = net.op("dropout", {"Out": "dropped", "Mask": "mask"}, attrs, X=out)
    if softmax:
        out = net.op("softmax", {"Out": "probability"}, {"axis": -1}, X=out)
    net.program = net.test_program()
    return Model.load(net.model(["x"], [out]).save(tmp_path / "inference"))


def _optimize(model, loss, rate=0.05):
    with legacy_ir():
        startup = paddle.static.Program()
        with paddle.static.program_guard(model.program, startup):
            paddle.optimizer.Momentum(rate).minimize(model.program.global_block().vars[loss])
        paddle.static.Executor(CPU).run(startup, scope=model.scope)


@pytest.mark.parametrize("softmax", [True, False])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_the_loss_falls(tmp_path, softmax, batch_norm):
    model = _saved(tmp_path, softmax)
    (before,) = model.run([X])
    loss = to_training(model, train_batch_norm=batch_norm)
    assert model.feeds == ["x", "label"] and model.fetches[1] == loss
    outputs, value = model.run(FEED)
    probability = before if softmax else np.exp(before) / np.exp(before).sum(1, keepdims=True)
    if not batch_norm:
        np.testing.assert_allclose(outputs, before, rtol=1e-5, atol=1e-6)
        want = -np.log(probability[np.arange(16), LABEL[:, 0]]).mean()
        np.testing.assert_allclose(value, want, rtol=1e-5)
    _optimize(model, loss)
    losses = [float(model.run(FEED, [loss])[0]) for _ in range(15)]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize("batch_norm", [True, False])
def test_batch_norm_statistics(tmp_path, batch_norm):
    model = _saved(tmp_path)
    loss = to_training(model, train_batch_norm=batch_norm)
    _optimize(model, loss)
    mean, variance, scale = (model.params[f"stem.bn.{n}"].copy() for n in ("mean", "variance", "scale"))
    stem = model.run(FEED, ["stem"])[0]
    moved = not np.array_equal(model.params["stem.bn.mean"], mean)
    assert moved == batch_norm == (not np.array_equal(model.params["stem.bn.variance"], variance))
    assert not np.array_equal(model.params["stem.bn.scale"], scale)  # its weights are trained either way
    if batch_norm:
        want = 0.9 * mean + 0.1 * stem.mean((0, 2, 3))
        np.testing.assert_allclose(model.params["stem.bn.mean"], want, rtol=1e-4, atol=1e-5)


def test_every_weight_becomes_a_parameter(tmp_path):
    model = _saved(tmp_path)
    to_training(model)
    names = {p.name for p in model.program.all_parameters() if p.trainable}
    want = {n for n in model.params if not n.endswith((".mean", ".variance"))}
    assert names == want and "fc.w" in names and "stem.bn.scale" in names


def test_dropout_is_live_again(tmp_path):
    model = _saved(tmp_path, dropout=True)
    to_training(model)
    values = [model.run(FEED, ["dropped"])[0] for _ in range(2)]
    assert np.abs(values[0] - values[1]).max() > 0


def test_names_and_outputs_can_be_chosen(tmp_path):
    model = _saved(tmp_path, softmax=False)
    model.fetches.append("flat")
    loss = to_training(model, label="truth", output="logits")
    assert model.feeds == ["x", "truth"]
    assert np.isfinite(model.run({"x": X, "truth": LABEL}, [loss])[0])


def test_errors(tmp_path):
    model = _saved(tmp_path)
    with pytest.raises(ModelError, match=r"no output 'nope'.*probability"):
        to_training(model, output="nope")
    with pytest.raises(ModelError, match=r"'stem' has shape .*\[batch, classes\]"):
        to_training(model, output="stem")
    assert model.feeds == ["x"]
    with pytest.raises(ModelError, match=r"'x' already.*another name for the new feed"):
        to_training(model, label="x")
    to_training(model)
    with pytest.raises(ModelError, match="label"):
        to_training(model)


def test_modes_are_restored(tmp_path):
    model = _saved(tmp_path)
    with pytest.raises(ModelError):
        to_training(model, output="nope")
    to_training(model)
    assert paddle.in_dynamic_mode()


def test_a_loaded_model_through_quantization(tmp_path):
    model = _saved(tmp_path)
    loss = to_training(model)
    config = {"quantize_op_types": ["conv2d", "depthwise_conv2d", "matmul_v2"]}
    qat = QatTrainer(model, config, loss, lambda: paddle.optimizer.Momentum(0.02), pact={}, place=CPU)
    qat.initialise([FEED])
    losses = [float(qat.train_step(FEED, [loss])[0]) for _ in range(12)]
    assert losses[-1] < losses[0]
    assert qat.outputs() == ["probability"]
    exported = Model.load(qat.export(tmp_path / "int8"))
    simulated = qat.eval_step({"x": X}, ["probability"])[0]
    np.testing.assert_allclose(exported.run([X])[0], simulated, atol=1e-4)


def test_a_model_without_batch_norm():
    net = Net()
    net.linear(net.data("x", [-1, 4]), random(1, 4, 3), "y", trans_x=False, trans_y=False)
    model = net.model(["x"], ["y"])
    loss = to_training(model)
    _optimize(model, loss, 0.5)
    feed = {"x": random(2, 6, 4), "label": np.array([[0], [1], [2]] * 2, "int64")}
    losses = [float(model.run(feed, [loss])[0]) for _ in range(20)]
    assert losses[-1] < 0.7 * losses[0]
