"""Networks, data and evaluations that are measured; of a module's top level, so that workers can have them."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np
import paddle
from paddle import nn
from paddle.static import InputSpec

from slimkit.ir import Model

SIZE = 32

Batch = Tuple[Dict[str, np.ndarray], Any]


class Branches(nn.Layer):
    """Parallel branches whose ops take turns, a concatenation, a residual sum and a mean over places."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2D(3, 12, 3, padding=1)
        self.a1, self.a2 = nn.Conv2D(12, 8, 1), nn.Conv2D(8, 10, 3, padding=1)
        self.b1, self.b2 = nn.Conv2D(12, 6, 1), nn.Conv2D(6, 10, 3, padding=1, bias_attr=False)
        self.c1 = nn.Conv2D(20, 12, 3, padding=1, groups=2)
        self.norm = nn.BatchNorm2D(12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Any) -> Any:
        x = nn.functional.relu(self.stem(x))
        a, b = self.a1(x), self.b1(x)
        a, b = nn.functional.relu(a), nn.functional.sigmoid(b)
        a, b = self.a2(a), self.b2(b)
        y = self.norm(self.c1(paddle.concat([a, b], axis=1))) + x
        return self.head(paddle.mean(nn.functional.hardswish(y), axis=[2, 3]))


class Attention(nn.Layer):
    """Softmax between what makes channels and what reads them, over places and over channels."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2D(3, 8, 3, stride=4)
        self.q, self.k, self.v = nn.Linear(8, 6), nn.Linear(8, 6), nn.Linear(8, 7)
        self.out, self.head = nn.Linear(7, 8), nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        x = paddle.transpose(paddle.flatten(self.stem(x), 2), [0, 2, 1])
        weights = nn.functional.softmax(paddle.matmul(self.q(x), self.k(x), transpose_y=True))
        return self.head(paddle.mean(self.out(paddle.matmul(weights, self.v(x))) + x, axis=1))


def network(make: Any, size: int = SIZE, seed: int = 1) -> Model:
    """A traced layer whose batch norms know their inputs and have random scales, as after training."""
    paddle.seed(seed)
    layer = make()
    norms = [each for each in layer.sublayers() if isinstance(each, nn.BatchNorm2D)]
    for norm in norms:
        norm._momentum = 0.0
        norm.weight.set_value(paddle.uniform(norm.weight.shape, min=0.5, max=1.5))
        norm.bias.set_value(paddle.uniform(norm.bias.shape, min=-0.5, max=0.5))
    if norms:
        layer.train()
        layer(paddle.randn([8, 3, size, size]))
    layer.eval()
    return Model.from_layer(layer, [InputSpec([-1, 3, size, size], "float32", "x")])


def batches(
    count: int = 3, samples: int = 2, size: int = SIZE, seed: int = 0
) -> List[Tuple[Dict[str, np.ndarray], Any]]:
    random = np.random.RandomState(seed)
    return [({"x": random.randn(samples, 3, size, size).astype("float32")}, i) for i in range(count)]


class Outputs:
    """Not a figure of merit, but one that tells networks apart: a fixed projection of all results; keeps them."""

    made: List[Outputs] = []

    def __init__(self) -> None:
        self.seen: List[np.ndarray] = []
        self.labels: List[Any] = []
        Outputs.made.append(self)

    def update(self, outputs: Sequence[np.ndarray], labels: Any) -> None:
        self.seen.append(np.concatenate([np.ravel(output) for output in outputs]))
        self.labels.append(labels)

    def result(self) -> Dict[str, float]:
        values = np.concatenate(self.seen).astype(np.float64)
        return {"projection": float(values @ np.cos(np.arange(values.size)) + 10.0), "other": 0.0}


class Dying(Outputs):
    """Ends its process where it is not the one of the test."""

    def update(self, outputs: Sequence[np.ndarray], labels: Any) -> None:
        super().update(outputs, labels)
        if os.getpid() != int(os.environ["SENSITIVITY_TEST_PID"]) and len(Outputs.made) > 3:
            os._exit(7)


def evaluate(model: Model) -> float:
    """The same as a function of the model."""
    metric = Outputs()
    for feed, labels in batches():
        metric.update(model.run(feed), labels)
    return metric.result()["projection"]


def evaluate_badly(model: Model) -> float:
    """Fails once a filter of the second convolution is masked."""
    found = evaluate(model)
    name = next(
        name for name in model.params if name.startswith("conv2d") and model.params[name].shape == (8, 12, 1, 1)
    )
    if not np.abs(model.params[name]).sum(axis=(1, 2, 3)).all():
        raise RuntimeError("out of\nluck.")
    return found
