"""``FloatTrainer`` against dygraph, its state, and ``to_imitation``'s losses against their formulas."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from slimkit.errors import ConfigError, ModelError, TrainingError
from slimkit.ir import Model
from slimkit.ir.trainer import FloatTrainer, StaticTrainer, inference_of
from slimkit.ir.training import to_imitation


class _Net(nn.Layer):
    def __init__(self, tail):
        super().__init__()
        self.convolution, self.norm = nn.Conv2D(2, 4, 3, padding=1), nn.BatchNorm2D(4)
        self.linear, self.tail = nn.Linear(4, 3), tail

    def forward(self, image):
        x = nn.functional.relu(self.norm(self.convolution(image)))
        return self.tail(self.linear(x.mean([2, 3])))


class _WithLoss(nn.Layer):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, image, label):
        logits = self.net(image)
        return logits, nn.functional.cross_entropy(logits, label)


IMAGE = paddle.static.InputSpec([-1, 2, 6, 6], "float32", "image")
LABEL = paddle.static.InputSpec([-1, 1], "int64", "label")


def _feeds(count):
    random = np.random.default_rng(0)
    return [
        {"image": random.normal(size=(8, 2, 6, 6)).astype(np.float32), "label": random.integers(0, 3, (8, 1))}
        for _ in range(count)
    ]


def _layer():
    paddle.seed(3)
    return _WithLoss(_Net(nn.Identity()))


@pytest.mark.parametrize("kind", [FloatTrainer, StaticTrainer])
def test_steps_are_those_of_dygraph(kind):
    layer = _layer()
    model = Model.from_layer(layer, [IMAGE, LABEL], train=True)
    trainer = kind(model, model.fetches[1], lambda: paddle.optimizer.Momentum(0.1), paddle.CPUPlace())
    optimizer = paddle.optimizer.Momentum(0.1, parameters=layer.parameters())
    for feed, rate in zip(_feeds(4), (0.1, 0.05, 0.05, 0.01)):
        optimizer.set_lr(rate)
        trainer.set_learning_rate(rate)
        _, loss = layer(paddle.to_tensor(feed["image"]), paddle.to_tensor(feed["label"]))
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        assert trainer.train_step(feed, [trainer.loss])[0] == pytest.approx(float(loss), rel=1e-4)
    layer.eval()
    image = _feeds(1)[0]["image"]
    expected = layer.net(paddle.to_tensor(image)).numpy()
    np.testing.assert_allclose(trainer.eval_step({"image": image}, trainer.outputs())[0], expected, atol=2e-5)
    np.testing.assert_allclose(trainer.float_model().run([image])[0], expected, atol=2e-5)
    assert inference_of(model, model.fetches[:1]).feeds == ["image"]


def test_state_resumes_exactly():
    model = Model.from_layer(_layer(), [IMAGE, LABEL], train=True)

    def fresh():
        return FloatTrainer(model, model.fetches[1], lambda: paddle.optimizer.Adam(0.01), paddle.CPUPlace())

    one, feeds = fresh(), _feeds(6)
    for feed in feeds[:3]:
        one.train_step(feed, [one.loss])
    other = fresh()
    other.load_state_dict(one.state_dict())
    for feed in feeds[3:]:
        assert one.train_step(feed, [one.loss])[0] == other.train_step(feed, [other.loss])[0]
    for name, value in one.state_dict().items():
        np.testing.assert_array_equal(value, other.state_dict()[name])
    with pytest.raises(TrainingError, match="lacks"):
        other.load_state_dict({"@steps": np.array([1])})


def test_what_a_trainer_refuses():
    model = Model.from_layer(_layer(), [IMAGE, LABEL], train=True)
    with pytest.raises(ConfigError, match="no variable of the model"):
        FloatTrainer(model, "lost", lambda: paddle.optimizer.Adam(0.01))
    inference = inference_of(model, model.fetches[:1])
    with pytest.raises(TrainingError, match="no trainable parameter"):
        plain = Model.from_layer(nn.Softmax(), [paddle.static.InputSpec([-1, 3], "float32", "x")])
        FloatTrainer(plain, plain.fetches[0], lambda: paddle.optimizer.Adam(0.01))
    with pytest.raises(ModelError, match="cannot be fetched"):
        FloatTrainer(model, model.fetches[1], lambda: paddle.optimizer.Adam(0.01)).eval_step({}, ["nothing"])
    with pytest.raises(ModelError, match="has no output 'nothing'"):
        to_imitation(inference, output="nothing")


def _sigmoid(logits, target):
    p = 1 / (1 + np.exp(-logits))
    return -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()


def _softmax(logits, target):
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    return -(target * log_p).sum(1).mean()


@pytest.mark.parametrize(
    ("tail", "expected"),
    [(nn.Sigmoid(), _sigmoid), (nn.Softmax(), _softmax), (nn.Identity(), lambda x, t: np.square(x - t).mean())],
    ids=["sigmoid", "softmax", "squares"],
)
def test_imitation(tail, expected):
    paddle.seed(1)
    net = _Net(tail)
    net.eval()
    model = Model.from_layer(net, [IMAGE])
    image = _feeds(1)[0]["image"]
    logits = net.linear(nn.functional.relu(net.norm(net.convolution(paddle.to_tensor(image)))).mean([2, 3])).numpy()
    target = np.random.default_rng(2).dirichlet(np.ones(3), 8).astype(np.float32)
    loss = to_imitation(model)
    assert model.feeds == ["image", "teacher"] and model.fetches[-1] == loss
    trainer = FloatTrainer(model, loss, lambda: paddle.optimizer.Adam(0.02), paddle.CPUPlace())
    feed = {"image": image, "teacher": target}
    losses = [float(trainer.train_step(feed, [loss])[0]) for _ in range(30)]
    assert losses[0] == pytest.approx(expected(logits.astype(np.float64), target), rel=1e-4)
    assert losses[-1] < losses[0] - 0.01
    with pytest.raises(ModelError, match="has a variable 'teacher' already"):
        to_imitation(model)
