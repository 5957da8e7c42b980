"""A small classifier as a user of PaddleSlim's static API has it: train program, test program, scope, data."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional

import numpy as np
import paddle
import static_networks as networks

from slimkit.ir import legacy_ir

CPU = paddle.CPUPlace()


def feed(count: int = 16) -> Dict[str, np.ndarray]:
    random = np.random.RandomState(5)
    return {
        "image": random.randn(count, 3, 8, 8).astype("float32"),
        "label": random.randint(0, 10, (count, 1)).astype("int64"),
    }


@dataclass
class Classifier:
    """Programs of one network.

    Args:
        optimizer: makes one; None: the train program is not minimized.
        network: image -> features.
    """

    optimizer: Optional[Callable[[], Any]] = None
    network: Callable[..., Any] = networks.residual
    scope: Any = field(default_factory=paddle.static.Scope)

    def __post_init__(self) -> None:
        with legacy_ir():
            self.train, startup = paddle.static.Program(), paddle.static.Program()
            with paddle.static.program_guard(self.train, startup), paddle.utils.unique_name.guard():
                image = paddle.static.data("image", [None, 3, 8, 8])
                label = paddle.static.data("label", [None, 1], "int64")
                out = paddle.static.nn.fc(self.network(image), 10, activation="softmax")
                loss = paddle.mean(paddle.nn.functional.cross_entropy(out, label))
                accuracy = paddle.static.accuracy(out, label, k=1)
                self.test = self.train.clone(for_test=True)
                if self.optimizer is not None:
                    self.optimizer().minimize(loss)
            self.executor = paddle.static.Executor(CPU)
            self.executor.run(startup, scope=self.scope)
        self.out, self.loss, self.accuracy = out.name, loss.name, accuracy.name
        for var in self.test.list_vars():
            if var.persistable:
                value = networks.fixed_values(var.name, tuple(var.shape))
                self.set(var.name, value * np.float32(0.02) if var.name.startswith("fc") else value)

    def run(self, program: Any, *fetch: str) -> List[np.ndarray]:
        with legacy_ir():
            found = self.executor.run(program, feed=feed(), fetch_list=list(fetch), scope=self.scope)
        return [np.array(value) for value in found]

    def step(self, program: Any) -> float:
        """One step of training; returns the loss before it."""
        return float(self.run(program, self.loss)[0])

    def get(self, name: str) -> np.ndarray:
        return np.array(self.scope.find_var(name).get_tensor())

    def set(self, name: str, value: np.ndarray) -> None:
        self.scope.find_var(name).get_tensor().set(value, CPU)

    def values(self) -> Dict[str, np.ndarray]:
        return {
            v.name: self.get(v.name) for v in self.train.list_vars() if v.persistable and self.scope.find_var(v.name)
        }


def momentum() -> Any:
    return paddle.optimizer.Momentum(0.01, momentum=0.9)


def adam() -> Any:
    return paddle.optimizer.Adam(0.01)
