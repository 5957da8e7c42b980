"""Float training: the fast depthwise convolution, batch-norm statistics, resume, and the embedded weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest

from slimkit.errors import TrainingError
from slimkit.recipe import networks
from slimkit.recipe.data import build_datasets
from slimkit.recipe.float_config import FloatConfig
from slimkit.recipe.float_training import estimate_batch_norm, evaluate, train_float
from slimkit.recipe.small_maps import fast_small_maps
from slimkit.recipe.weights import embedded_path, load_weights


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2), (7, 3)])
@pytest.mark.parametrize("size", [(6, 6), (1, 1), (7, 4), (16, 3)])
def test_depthwise_of_small_maps_is_the_convolution(kernel: int, stride: int, size: tuple) -> None:
    _compare(paddle.nn.Conv2D(5, 5, kernel, stride=stride, padding=kernel // 2, groups=5, bias_attr=False), size)


@pytest.mark.parametrize("bias", [None, False])
@pytest.mark.parametrize("size", [(4, 4), (1, 1), (3, 2), (7, 7)])
def test_pointwise_of_small_maps_is_the_convolution(bias: Any, size: tuple) -> None:
    _compare(paddle.nn.Conv2D(5, 7, 1, bias_attr=bias), size)


def _compare(original: paddle.nn.Conv2D, size: tuple) -> None:
    """Compares outputs and gradients with and without the stand-in."""
    paddle.seed(0)
    layer = paddle.nn.Sequential(original)
    x = paddle.randn([2, 5, *size])
    x.stop_gradient = False

    def run() -> list:
        out = layer(x)
        (out * out).sum().backward()
        values = [out.numpy(), x.grad.numpy(), *(p.grad.numpy() for p in original.parameters())]
        x.clear_grad()
        original.clear_gradients()
        return values

    want = run()
    with fast_small_maps(layer):
        assert layer[0] is not original
        got = run()
    assert layer[0] is original
    for a, b in zip(got, want):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_fast_small_maps_leaves_other_convolutions_and_restores_on_error() -> None:
    convolutions = [
        paddle.nn.Conv2D(4, 8, 3),
        paddle.nn.Conv2D(8, 8, 1, stride=2),
        paddle.nn.Conv2D(8, 8, 3, groups=2, bias_attr=False),
        paddle.nn.Conv2D(8, 8, 3, groups=8),
        paddle.nn.Conv2D(8, 8, 3, groups=8, dilation=2, bias_attr=False),
        paddle.nn.Conv2D(8, 8, 3, groups=8, bias_attr=False),
    ]
    layer = paddle.nn.Sequential(*convolutions)
    with pytest.raises(ZeroDivisionError):
        with fast_small_maps(layer):
            assert [a is b for a, b in zip(layer, convolutions)] == [True] * 5 + [False]
            raise ZeroDivisionError
    assert all(a is b for a, b in zip(layer, convolutions))


def test_batch_norm_estimate_is_the_mean_over_batches() -> None:
    train, _ = build_datasets(_data(train_limit=96), num_classes=10)
    network = networks.TrainingNetwork(paddle.nn.Sequential(paddle.nn.BatchNorm2D(3), paddle.nn.Flatten()))
    network.eval()
    estimate_batch_norm(network, train, epoch=0)
    norm = network.backbone[0]
    images = [b["image"] for b in train.batches(0)]
    np.testing.assert_allclose(norm._mean.numpy(), np.mean([i.mean((0, 2, 3)) for i in images], 0), rtol=1e-4)
    np.testing.assert_allclose(norm._variance.numpy(), np.mean([i.var((0, 2, 3)) for i in images], 0), rtol=1e-3)
    assert norm._momentum == 0.9 and not network.training


def _data(**keys: Any) -> dict:
    from data_config import section

    return section(**{**{"kind": "fashion_mnist", "image_size": 32, "batch_size": 16, "workers": 0}, **keys})


def _config(output: Path, **train: Any) -> FloatConfig:
    return FloatConfig.model_validate(
        {
            "run": {"output": str(output)},
            "network": {"name": "mobilenet_v3_small", "num_classes": 10, "scale": 0.35},
            "data": {
                "kind": "fashion_mnist",
                "image_size": 32,
                "batch_size": 16,
                "train_limit": 48,
                "eval_limit": 32,
                "workers": 0,
            },
            "train": {"epochs": 2, "evaluate_epochs": 2, "lr": {"base": 0.01}, **train},
        }
    )


def test_resumed_training_is_the_uninterrupted_one(tmp_path: Path) -> None:
    whole, card = train_float(_config(tmp_path / "a"), command="x")

    def stop(epoch: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_float(_config(tmp_path / "b"), on_epoch=stop)
    resumed, _ = train_float(_config(tmp_path / "b"), resume=True)
    with np.load(whole) as a, np.load(resumed) as b:
        assert a.files == b.files
        for key in a.files:
            np.testing.assert_array_equal(a[key], b[key])
    assert json.loads((tmp_path / "a" / "weights.json").read_text())["top1"] == card["top1"]
    with pytest.raises(TrainingError, match="made with another config"):
        train_float(_config(tmp_path / "b", epochs=3), resume=True)
    with pytest.raises(TrainingError, match="no checkpoint"):
        train_float(_config(tmp_path / "c"), resume=True)


def test_the_card_tells_the_accuracy_of_the_file(tmp_path: Path) -> None:
    config = _config(tmp_path, epochs=3, ema=0.9, lr={"base": 0.003})
    config = config.model_copy(update={"data": config.data.model_copy(update={"eval_limit": 400})})
    path, card = train_float(config)
    network = networks.build("mobilenet_v3_small", num_classes=10, scale=0.35)
    load_weights(network.backbone, path)
    _, test = build_datasets(config.data.model_dump(), num_classes=10)
    assert evaluate(network, test)["top1"] == pytest.approx(card["top1"], abs=0.003)
    assert evaluate(network, test)["top5"] == pytest.approx(card["top5"], abs=0.003)


def test_loss_that_is_not_finite_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"The loss is (nan|inf) at step \d+; lower train.lr.base"):
        train_float(_config(tmp_path, epochs=4, lr={"base": 1e30, "schedule": "constant"}))


def test_embedded_weights_are_as_accurate_as_their_card_says() -> None:
    path = embedded_path("mobilenet_v3_small", 1.0)
    card = json.loads(path.with_suffix(".json").read_text())
    network = networks.build("mobilenet_v3_small", num_classes=10)
    assert load_weights(network.backbone, path) == []
    _, test = build_datasets(_data(image_size=card["image_size"], eval_batch_size=200), num_classes=10)
    with fast_small_maps(network):
        accuracy = evaluate(network, test)
    assert accuracy["top1"] == pytest.approx(card["top1"], abs=0.0006)  # an image of 2,000, for rounding
    assert path.stat().st_size == card["bytes"] < 6e6
