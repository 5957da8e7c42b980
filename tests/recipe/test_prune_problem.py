"""Teachers in the place of labels, agreement, and the CIFAR ResNets."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from slimkit.analysis import complexity
from slimkit.errors import ConfigError, DataError
from slimkit.ir import Model
from slimkit.recipe.cifar_resnet import CifarResNet
from slimkit.recipe.prune_problem import Agreement
from slimkit.recipe.tasks import open_samples
from slimkit.recipe.teacher import TeacherBatches


@pytest.fixture
def teacher():
    paddle.seed(0)
    net = nn.Sequential(nn.Conv2D(3, 2, 3, padding=1), nn.Sigmoid())
    return Model.from_layer(net, [paddle.static.InputSpec([-1, 3, -1, -1], "float32", "x")])


def _samples(model, tmp_path, arrays):
    np.save(tmp_path / "arrays.npy", arrays)
    return open_samples(model, str(tmp_path / "arrays.npy"), "array")[1]


def test_squares_and_what_the_teacher_gives(teacher, tmp_path):
    arrays = np.random.default_rng(0).normal(size=(5, 3, 12, 10)).astype(np.float16).astype(np.float32)
    samples = _samples(teacher, tmp_path, arrays)
    batches = TeacherBatches(samples, teacher, "wanted", batch_size=3, steps=4, crop=8, seed=7)
    epoch = list(batches.batches(1))
    assert len(epoch) == batches.steps == 4
    windows = {
        array[:, top : top + 8, left : left + 8].tobytes() for array in arrays for top in range(5) for left in range(3)
    }
    for feed in epoch:
        assert feed["x"].shape == (3, 3, 8, 8) and all(image.tobytes() in windows for image in feed["x"])
        np.testing.assert_allclose(feed["wanted"], teacher.run([feed["x"]])[0], atol=1e-5)
    again = list(batches.batches(1, 2))  # as a resumed run asks for
    assert all((a["x"] == b["x"]).all() for a, b in zip(again, epoch[2:])) and len(again) == 2
    assert (next(batches.batches(2))["x"] != epoch[0]["x"]).any()
    held = batches.fixed(5)
    assert [len(feed["x"]) for feed, _ in held] == [3, 2] and held[0][1].shape == (3, 2, 8, 8)


def test_small_samples_are_filled_up_and_shapes_must_agree(teacher, tmp_path):
    samples = _samples(teacher, tmp_path, np.ones((2, 3, 4, 12), np.float32))
    (feed,) = TeacherBatches(samples, teacher, "t", batch_size=4, steps=1, crop=8, seed=0).batches()
    assert feed["x"].shape == (4, 3, 8, 8) and feed["x"].sum() == 4 * 3 * 4 * 8

    class Uneven:
        where = "here"

        def parts(self, size, limit):
            return [[0], [1]]

        def load(self, part):
            return [({"x": np.ones((1, 3, 4, 4 + part[0]), np.float32)}, None)]

    with pytest.raises(DataError, match=r"set samples\.crop"):
        next(TeacherBatches(Uneven(), teacher, "t", batch_size=2, steps=1, crop=None, seed=0).batches())


def test_agreement():
    random = np.random.default_rng(0)
    ours, theirs = random.normal(size=(2, 3, 4, 5))
    metric = Agreement()
    for a, b in zip(ours, theirs):
        metric.update([a], b)
    expected = 1 - np.abs(ours - theirs).sum() / (np.abs(ours).sum() + np.abs(theirs).sum())
    assert metric.result()["agreement"] == pytest.approx(expected)
    assert Agreement().result() == {"agreement": 1.0}


@pytest.mark.parametrize(("depth", "millions"), [(20, 0.27), (32, 0.46), (56, 0.85)])
def test_parameters_of_the_paper(depth, millions):
    """He et al., table 6; the two projections add 2,560 weights and 192 of batch norm to it."""
    net = CifarResNet(depth)
    weights = sum(int(p.size) for p in net.parameters() if not p.stop_gradient)
    assert round((weights - 2560 - 192) / 1e6, 2) == millions
    convolutions = [layer for layer in net.sublayers() if isinstance(layer, nn.Conv2D)]
    assert len(convolutions) == depth - 1 + 2


def test_macs_of_resnet20():
    net = CifarResNet(20)
    net.eval()
    found = complexity(Model.from_layer(net, [paddle.static.InputSpec([1, 3, 32, 32], "float32", "x")]))
    assert found.macs == pytest.approx(40.8e6, rel=0.01)
    with pytest.raises(ConfigError, match="6 n \\+ 2"):
        CifarResNet(21)
