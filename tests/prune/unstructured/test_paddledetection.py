"""PaddleDetection's own caller: ``ppdet.slim.unstructured_prune`` and its trainer's loop, with its averaged weights."""

import copy
import importlib
import sys
import types

import numpy as np
import paddle
import pytest
from detectors import Head, build, import_ppdet

import slimkit.prune.unstructured.dygraph as pruners

RATIO, EPOCHS, STEPS = 0.75, 4, 2


@pytest.fixture(scope="module")
def ppdet(paddledet_package):
    yield from import_ppdet(paddledet_package)


@pytest.fixture
def ppdet_pruner(ppdet, paddledet_package, monkeypatch):
    """Its class, as PicoDet's configs set it up, scaled down."""
    package = types.ModuleType("ppdet.slim")  # its own __init__ imports distillation, which needs the data pipeline
    package.__path__ = [str(paddledet_package / "ppdet" / "slim")]
    monkeypatch.setitem(sys.modules, "ppdet.slim", package)
    paddleslim = types.ModuleType("paddleslim")
    paddleslim.GMPUnstructuredPruner = pruners.GMPUnstructuredPruner
    monkeypatch.setitem(sys.modules, "paddleslim", paddleslim)
    made = importlib.import_module("ppdet.slim.unstructured_prune").UnstructuredPruner
    return made(0, 3, 1, pruning_steps=3, ratio=RATIO, initial_ratio=0.15, prune_params_type="conv1x1_only")


def points(state):
    return [np.asarray(v) for k, v in state.items() if np.ndim(v) == 4 and v.shape[2:] == [1, 1] and "mask" not in k]


def off_by(weights):
    """How many weights each is from the ratio."""
    return max(abs(int((w == 0).sum()) - RATIO * w.size) for w in weights)


def test_its_training_loop(ppdet, ppdet_pruner):
    ema_class = importlib.import_module("ppdet.optimizer.ema").ModelEMA
    paddle.seed(0)
    model = Head(build(ppdet, "picodet"))
    optimizer = paddle.optimizer.Momentum(1e-4, 0.9, parameters=model.parameters())
    pruner, ema, ratios = ppdet_pruner(model, STEPS), None, []
    ema = ema_class(model, decay=0.6)
    x = {"image": paddle.randn([2, 3, 64, 64])}
    model.train()
    for _ in range(EPOCHS):
        for _ in range(STEPS):  # Trainer.train: step, clear_grad, then the average
            outputs = paddle.utils.flatten(model(x))
            loss = sum((out**2).mean() for out in outputs)
            loss.backward()
            optimizer.step()
            pruner.step()
            optimizer.clear_grad()
            ema.update()
            ratios.append(pruner.ratio)
        pruner.update_params()
    assert ratios == [pruner.schedule.at(k) for k in range(EPOCHS * STEPS)] and ratios[-1] == RATIO
    own = copy.deepcopy(model.state_dict())
    assert off_by(points(own)) <= 1
    model.set_dict(ema.apply())  # what it saves and evaluates: an average over masks that changed
    averaged = copy.deepcopy(model.state_dict())
    assert any((np.asarray(a) != np.asarray(b)).any() for a, b in zip(points(own), points(averaged)))
    assert off_by(points(averaged)) <= 1
    model.set_dict(own)
    pruner.step()
    assert off_by(points(model.state_dict())) <= 1
