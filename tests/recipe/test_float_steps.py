"""Float training through a static program with oneDNN takes the same steps as dygraph."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from slimkit.errors import ConfigError
from slimkit.recipe.config_file import load_as
from slimkit.recipe.float_config import FloatConfig
from slimkit.recipe.float_steps import EagerSteps, OnednnSteps
from slimkit.recipe.networks import TrainingNetwork
from slimkit.recipe.schema import OptimizerSection


def _network():
    paddle.seed(5)
    body = [nn.Conv2D(3, 4, 3, bias_attr=False), nn.BatchNorm2D(4), nn.ReLU()]
    layers = [*body, nn.AdaptiveAvgPool2D(1), nn.Flatten(), nn.Linear(4, 3)]
    return TrainingNetwork(nn.Sequential(*layers), 0.1)


def _named(make):
    """Made with the same parameter names each time, which checkpoints go by."""
    with paddle.utils.unique_name.guard():
        return make()


def test_same_steps():
    section = OptimizerSection(name="AdamW", weight_decay=0.5)
    eager, static = _named(_network), _named(_network)
    ways = EagerSteps(eager, section), OnednnSteps(static, section, 8, seed=0)
    random = np.random.default_rng(0)
    for rate in (0.05, 0.02, 0.02):
        batch = {"image": random.normal(size=(8, 3, 8, 8)).astype(np.float32), "label": random.integers(0, 3, (8, 1))}
        losses = [way.step(batch, rate) for way in ways]
        assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for name, value in eager.state_dict().items():
        np.testing.assert_allclose(static.state_dict()[name].numpy(), value.numpy(), atol=1e-4, err_msg=name)
    other = OnednnSteps(_named(_network), section, 8, seed=0)
    other.load_state_dict(ways[1].state_dict())
    assert other.step(batch, 0.02) == ways[1].step(batch, 0.02)


def test_another_optimizer_is_refused(config_file):
    path = config_file("train: {onednn: true, optimizer: {name: Momentum}}\n")
    with pytest.raises(ConfigError, match="trains with AdamW, not Momentum"):
        load_as(FloatConfig, path)
