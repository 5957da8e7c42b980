"""Networks that dygraph PTQ is tried on, small and with trained-looking batch norms."""

from __future__ import annotations

from typing import Any, Callable, List, Sequence, Tuple

import numpy as np
import paddle
from paddle import nn

SPEC = [paddle.static.InputSpec([None, 4, 8, 8], "float32", "x")]


def images(count: int = 3, seed: int = 0) -> List[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=(2, 4, 8, 8)).astype("float32") for _ in range(count)]


def made(network: Callable[[], nn.Layer], seed: int = 3) -> nn.Layer:
    """A network in eval mode whose parameters and statistics do not depend on other tests."""
    rng = np.random.default_rng(seed)
    net = network()
    for name, value in net.state_dict().items():
        numbers = rng.normal(size=value.shape) / max(1, np.sqrt(np.prod(value.shape[1:])))
        value.set_value((np.abs(numbers) + 0.1 if name.endswith("_variance") else numbers).astype("float32"))
    net.eval()
    return net


class Plain(nn.Layer):
    """Convolution and batch norm, depthwise, transposed, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2D(4, 8, 3, padding=1, bias_attr=False)
        self.norm = nn.BatchNorm2D(8)
        self.depthwise = nn.Conv2D(8, 8, 3, groups=8)
        self.norm2 = nn.BatchNorm2D(8)
        self.up = nn.Conv2DTranspose(8, 6, 2, stride=2)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Any) -> Any:
        y = nn.functional.relu(self.norm(self.conv(x)))
        y = nn.functional.hardswish(self.norm2(self.depthwise(y)))
        return self.fc(self.up(y).mean([2, 3]))


class Misordered(nn.Layer):
    """``norm`` is registered behind ``first``, is not its batch norm, and nothing says so but ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2D(4, 4, 1)
        self.norm = nn.BatchNorm2D(4)
        self.second = nn.Conv2D(4, 4, 1)
        self.other = nn.BatchNorm2D(4)

    def forward(self, x: Any) -> Any:
        y = self.first(x)
        return self.norm(self.second(self.other(y) + y))


class Shared(nn.Layer):
    """One convolution on two tensors, one of which another convolution reads as well."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2D(4, 4, 3, padding=1)
        self.other = nn.Conv2D(4, 4, 1)

    def forward(self, x: Any) -> Any:
        y = 3 * nn.functional.relu(self.conv(x))
        return self.other(y) + self.conv(y)


class Unusual(nn.Layer):
    """Padding modes, channels last, grouped transposed convolution, matrices of many rows, keywords."""

    def __init__(self) -> None:
        super().__init__()
        self.reflect = nn.Conv2D(4, 4, 3, padding=1, padding_mode="reflect")
        self.circular = nn.Conv2D(4, 4, 3, padding=1, padding_mode="circular")
        self.last = nn.Conv2D(4, 4, 3, data_format="NHWC")
        self.up = nn.Conv2DTranspose(4, 6, 3, stride=2, groups=2)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Any) -> Any:
        y = self.last(self.circular(self.reflect(x=x)).transpose([0, 2, 3, 1])).transpose([0, 3, 1, 2])
        return self.fc(self.up(y, output_size=[13, 13]).transpose([0, 2, 3, 1]))


class Loop(nn.Layer):
    """A layer inside a loop, another in a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.other = nn.Conv2D(4, 4, 1), nn.Conv2D(4, 4, 1)

    def forward(self, x: Any) -> Any:
        turn = paddle.zeros([1], "int32")
        while turn < 3:
            x = self.conv(x)
            turn = turn + 1
        if x.sum() > 1e6:
            x = self.other(x)
        return x


class Inputs(nn.Layer):
    """A detector's: a dict of several inputs in, a dict out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2D(4, 4, 1), nn.Linear(4, 2)

    def forward(self, inputs: Any) -> Any:
        features = self.conv(inputs["image"]).mean([2, 3])
        return {"boxes": self.fc(features) * inputs["scale_factor"]}


def ran(model: Any, batch: np.ndarray) -> np.ndarray:
    with paddle.no_grad():
        return model(paddle.to_tensor(batch)).numpy()


def calibrated(model: Any, batches: Sequence[np.ndarray]) -> Any:
    for batch in batches:
        ran(model, batch)
    return model


def far(one: np.ndarray, other: np.ndarray) -> float:
    """The largest difference over the largest magnitude."""
    return float(np.abs(one - other).max() / np.abs(other).max())


#: What all networks of one image input are.
NETWORKS: Tuple[Callable[[], nn.Layer], ...] = (Plain, Misordered, Shared, Unusual, Loop)
