"""A small network, its data and a training loop for the tests of unstructured pruning."""

from __future__ import annotations

import zlib  # noqa: F401  (before paddle)
from typing import Any, Iterator

import numpy as np
import paddle

CONFIGS = {
    "stable_iterations": 3,
    "pruning_iterations": 12,
    "tunning_iterations": 5,
    "pruning_steps": 4,
    "initial_ratio": 0.2,
    "resume_iteration": 0,
}


class Net(paddle.nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.stem = paddle.nn.Conv2D(3, 8, 3, padding=1)
        self.norm = paddle.nn.BatchNorm2D(8)
        self.point = paddle.nn.Conv2D(8, 12, 1)
        self.act = paddle.nn.PReLU(12)
        self.group = paddle.nn.GroupNorm(3, 12)
        self.fc = paddle.nn.Linear(12, 5)

    def forward(self, x: Any) -> Any:
        x = paddle.nn.functional.relu(self.norm(self.stem(x)))
        return self.fc(self.group(self.act(self.point(x))).mean([2, 3]))

    def weights(self) -> dict:
        """What is pruned by default."""
        return {layer.weight.name: layer.weight for layer in (self.stem, self.point, self.fc)}


def net(seed: int = 0) -> Net:
    paddle.seed(seed)
    return Net()


def batches(count: int, start: int = 0) -> Iterator[tuple]:
    for k in range(start, start + count):
        rng = np.random.RandomState(k)
        yield rng.randn(4, 3, 6, 6).astype("float32"), rng.randint(0, 5, (4, 1))


def train(model: Any, optimizer: Any, pruner: Any, data: Any) -> Iterator[int]:
    """One step a batch; yields after each."""
    model.train()
    for k, (x, y) in enumerate(data):
        loss = paddle.nn.functional.cross_entropy(model(paddle.to_tensor(x)), paddle.to_tensor(y))
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        pruner.step()
        yield k


def zero_share(arrays: Any) -> float:
    """Zeros among some arrays, counted one by one."""
    flat = [float(v) for a in arrays for v in np.asarray(a).ravel()]
    return sum(v == 0.0 for v in flat) / len(flat)


def paper_ratio(k: int, final: float, configs: dict) -> float:
    """s_f + (s_i - s_f)(1 - (t - t0)/(n dt))^3 at the last of t0, t0 + dt, ... that is reached."""
    t0, n = configs["stable_iterations"], configs["pruning_steps"]
    dt = configs["pruning_iterations"] // n
    if k < t0:
        return 0.0
    t = min(t0 + (k - t0) // dt * dt, t0 + n * dt)
    return final + (configs["initial_ratio"] - final) * (1 - (t - t0) / (n * dt)) ** 3
