"""Networks of the configs, their loss, and their weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
import pytest

from slimkit.errors import ConfigError, ModelError
from slimkit.recipe import networks
from slimkit.recipe.weights import embedded_path, load_weights, read_weights, save_weights


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_loss_against_numpy(smoothing: float) -> None:
    network = networks.TrainingNetwork(paddle.nn.Identity(), smoothing)
    logits = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    label = np.array([[0], [3], [1], [1], [2]])
    _, loss = network(paddle.to_tensor(logits), paddle.to_tensor(label))
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    target = np.eye(4)[label[:, 0]] * (1 - smoothing) + smoothing / 4
    assert float(loss) == pytest.approx(float(-(target * log_p).sum(1).mean()), rel=1e-5)
    reference = paddle.nn.functional.cross_entropy(
        paddle.to_tensor(logits), paddle.to_tensor(target.astype(np.float32)), soft_label=True
    )
    assert float(loss) == pytest.approx(float(reference), rel=1e-5)


def test_build_and_names() -> None:
    network = networks.build("mobilenet_v3_small", num_classes=7, scale=0.5)
    spec = networks.input_spec([48, 32])
    assert spec[0].shape == (-1, 3, 48, 32) and spec[1].name == "label"
    network.eval()
    logits, loss = network(paddle.zeros([2, 3, 48, 32]), paddle.zeros([2, 1], "int64"))
    assert logits.shape == [2, 7] and loss.shape == []
    with pytest.raises(ConfigError, match="did you mean mobilenet_v3_small"):
        networks.build("mobilenet_v3_smal", num_classes=7)
    with pytest.raises(ConfigError, match="resnet18 has no width multiplier"):
        networks.build("resnet18", num_classes=7, scale=0.5)


@pytest.mark.parametrize("name", sorted(networks.NETWORKS))
def test_every_row_can_be_built(name: str) -> None:
    assert isinstance(networks.build(name, num_classes=3).backbone, paddle.nn.Layer)


def _small() -> paddle.nn.Layer:
    return paddle.nn.Sequential(
        paddle.nn.Conv2D(3, 4, 3), paddle.nn.BatchNorm2D(4), paddle.nn.Flatten(), paddle.nn.Linear(16, 3)
    )


def test_weights_round_trip(tmp_path: Path) -> None:
    source, target = _small(), _small()
    state = {k: v.numpy() for k, v in source.state_dict().items()}
    save_weights(state, tmp_path / "w.npz", half=False)
    assert load_weights(target, tmp_path / "w.npz") == []
    for key, value in target.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), state[key])
    save_weights(state, tmp_path / "half.npz")
    stored = np.load(tmp_path / "half.npz")
    assert stored["0.weight"].dtype == np.float16 and stored["1._variance"].dtype == np.float32
    np.testing.assert_allclose(read_weights(tmp_path / "half.npz")["0.weight"], state["0.weight"], rtol=1e-3)
    paddle.save(source.state_dict(), str(tmp_path / "w.pdparams"))
    assert load_weights(target, tmp_path / "w.pdparams") == []


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    state = {k: v.numpy() for k, v in _small().state_dict().items()}
    save_weights(state, tmp_path / "w.npz")
    other = _small()
    other[3] = paddle.nn.Linear(16, 5)
    with pytest.raises(ModelError, match=r"3.weight of shape \(16, 3\).*\(16, 5\); check network.scale"):
        load_weights(other, tmp_path / "w.npz")
    assert load_weights(other, tmp_path / "w.npz", new_head=True) == ["3.weight", "3.bias"]
    np.testing.assert_allclose(other[0].weight.numpy(), state["0.weight"], rtol=1e-3)
    with pytest.raises(ModelError, match="belongs to another network"):
        load_weights(paddle.nn.Sequential(_small()), tmp_path / "w.npz")
    with pytest.raises(ModelError, match="does not exist"):
        load_weights(other, tmp_path / "none.npz")
    for name in ("junk.npz", "junk.pdparams"):
        (tmp_path / name).write_bytes(b"junk")
        with pytest.raises(ModelError, match=r"cannot be read as weights"):
            load_weights(other, tmp_path / name)


def test_embedded_weights_only_where_there_are_some() -> None:
    assert embedded_path("mobilenet_v3_small", 1.0).is_file()
    with pytest.raises(ModelError, match=r"only for mobilenet_v1 with scale 0.5, mobilenet_v3_small with"):
        embedded_path("mobilenet_v3_small", 0.5)
