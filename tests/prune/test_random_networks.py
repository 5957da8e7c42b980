"""Networks put together at random, of everything that joins, parts and reorders channels: masked = physical."""

from __future__ import annotations

from typing import Any, Callable, List, Tuple

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F
from rule_cases import compare
from zoo import layer_network

from slimkit.prune import find_groups

SIDE = 6
Step = Callable[[List[Any]], Any]


class Random(nn.Layer):
    """A network of 6 to 14 steps, each on one or two earlier tensors of [N, C, 6, 6]."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.rng = np.random.RandomState(seed)
        self.layers = nn.LayerList()
        self.channels, self.used = [3], set()
        self.steps: List[Step] = []
        for _ in range(3):
            self._add(*self._conv(0))
        for _ in range(self.rng.randint(6, 14)):
            kinds = (
                *(self._conv, self._conv, self._grouped, self._depthwise, self._norm, self._activation, self._sum),
                *(self._sum, self._concat, self._concat, self._split, self._slice, self._shuffle, self._excite),
                *(self._vector, self._pixels, self._reorder, self._repeat, self._stack, self._pad, self._attention),
                *(self._instance, self._transposed, self._maxout),
            )
            made = kinds[self.rng.randint(len(kinds))](self._pick())
            if made is not None:
                self._add(*made)
        self.leaves = [i for i in range(1, len(self.channels)) if i not in self.used]
        self.heads = nn.LayerList([nn.Conv2D(self.channels[i], 2, 1) for i in self.leaves[:-1]])
        self.last = nn.Linear(self.channels[self.leaves[-1]] * SIDE * SIDE, 3)

    def forward(self, x: Any) -> Any:
        tensors = [x]
        for step in self.steps:
            tensors.append(step(tensors))
        maps = [head(tensors[i]) for i, head in zip(self.leaves[:-1], self.heads)]
        return [self.last(tensors[self.leaves[-1]].flatten(1)), *maps]

    # ---------------------------------------------------------------- building

    def _add(self, step: Step, channels: int, *sources: int) -> None:
        self.steps.append(step)
        self.channels.append(channels)
        self.used.update(sources)

    def _pick(self) -> int:
        """A tensor, one that is not used yet when possible."""
        fresh = [i for i in range(1, len(self.channels)) if i not in self.used]
        some = fresh if fresh and self.rng.rand() < 0.7 else list(range(1, len(self.channels)))
        return int(self.rng.choice(some))

    def _keep(self, layer: Any) -> Any:
        self.layers.append(layer)
        return layer

    def _unary(self, i: int, layer: Callable[[Any], Any], channels: int = 0) -> Tuple[Any, ...]:
        return lambda t: layer(t[i]), channels or self.channels[i], i

    def _conv(self, i: int) -> Any:
        count = int(self.rng.choice([4, 6, 8, 12]))
        return self._unary(i, self._keep(nn.Conv2D(self.channels[i], count, 3, padding=1)), count)

    def _grouped(self, i: int) -> Any:
        groups = 2 if self.channels[i] % 2 == 0 else 1
        return self._unary(i, self._keep(nn.Conv2D(self.channels[i], 8, 1, groups=groups)), 8)

    def _depthwise(self, i: int) -> Any:
        c, times = self.channels[i], int(self.rng.choice([1, 1, 2]))
        return self._unary(i, self._keep(nn.Conv2D(c, c * times, 3, padding=1, groups=c)), c * times)

    def _transposed(self, i: int) -> Any:
        return self._unary(i, self._keep(nn.Conv2DTranspose(self.channels[i], 6, 3, padding=1)), 6)

    def _norm(self, i: int) -> Any:
        return self._unary(i, self._keep(nn.BatchNorm2D(self.channels[i])))

    def _instance(self, i: int) -> Any:
        if self.channels[i] % 2:
            return None
        kinds = (nn.InstanceNorm2D(self.channels[i]), nn.GroupNorm(2, self.channels[i]), nn.PReLU(self.channels[i]))
        return self._unary(i, self._keep(kinds[self.rng.randint(3)]))

    def _activation(self, i: int) -> Any:
        return self._unary(i, (F.relu, F.sigmoid, F.hardswish, paddle.tanh)[self.rng.randint(4)])

    def _sum(self, i: int) -> Any:
        same = [j for j in range(1, len(self.channels)) if self.channels[j] == self.channels[i] and j != i]
        if not same:
            return None
        j, product = int(self.rng.choice(same)), self.rng.rand() < 0.3
        return (lambda t: t[i] * F.sigmoid(t[j]) if product else t[i] + t[j]), self.channels[i], i, j

    def _concat(self, i: int) -> Any:
        j = self._pick()
        return (lambda t: paddle.concat([t[i], t[j]], 1)), self.channels[i] + self.channels[j], i, j

    def _split(self, i: int) -> Any:
        c = self.channels[i]
        if c < 4:
            return None
        cut = int(self.rng.randint(1, c - 1))
        self._add(lambda t: paddle.split(t[i], [cut, c - cut], 1)[0], cut, i)
        return (lambda t: paddle.split(t[i], [cut, c - cut], 1)[1]), c - cut, i

    def _slice(self, i: int) -> Any:
        c = self.channels[i]
        start, end = sorted(self.rng.choice(c + 1, 2, replace=False).tolist())
        return self._unary(i, lambda y: y[:, start:end], end - start) if end - start > 1 else None

    def _shuffle(self, i: int) -> Any:
        c = self.channels[i]
        if c % 2:
            return None
        if self.rng.rand() < 0.5:
            return self._unary(i, lambda y: F.channel_shuffle(y, 2))
        shape = [-1, 2, c // 2, SIDE, SIDE]
        return self._unary(i, lambda y: y.reshape(shape).transpose([0, 2, 1, 3, 4]).reshape([-1, c, SIDE, SIDE]))

    def _excite(self, i: int) -> Any:
        c = self.channels[i]
        less, more = self._keep(nn.Conv2D(c, 4, 1)), self._keep(nn.Conv2D(4, c, 1))
        return self._unary(i, lambda y: y * F.sigmoid(more(F.relu(less(F.adaptive_avg_pool2d(y, 1))))))

    def _vector(self, i: int) -> Any:
        layer = self._keep(nn.Linear(1, self.channels[i], bias_attr=False))
        return self._unary(
            i, lambda y: y * layer.weight.reshape([1, -1, 1, 1]) + layer.weight.transpose([1, 0]).unsqueeze(2)
        )

    def _pixels(self, i: int) -> Any:
        c = self.channels[i]
        if c % 4 or self.rng.rand() < 0.3:
            return self._unary(
                i, lambda y: F.max_pool2d(F.pixel_unshuffle(F.interpolate(y, scale_factor=2), 2), 1), 4 * c
            )
        return self._unary(i, lambda y: F.avg_pool2d(F.pixel_shuffle(y, 2), 2), c // 4) if c > 4 else None

    def _reorder(self, i: int) -> Any:
        parts = (lambda y: paddle.flip(y, [1]), lambda y: y.transpose([0, 2, 3, 1]).flatten(1, 2).transpose([0, 2, 1]))
        if self.rng.rand() < 0.5:
            return self._unary(i, parts[0])
        c = self.channels[i]
        return self._unary(i, lambda y: parts[1](y).reshape([-1, c, SIDE, SIDE]))

    def _repeat(self, i: int) -> Any:
        return self._unary(i, lambda y: paddle.tile(y, [1, 2, 1, 1]), 2 * self.channels[i])

    def _stack(self, i: int) -> Any:
        def run(t: Any) -> Any:
            one, other = paddle.unbind(paddle.stack([t[i], F.relu(t[i])], 1), 1)
            return one - 0.5 * other

        return run, self.channels[i], i

    def _pad(self, i: int) -> Any:
        return self._unary(
            i, lambda y: F.pad(y, [0, 0, 1, 2, 0, 0, 0, 0], pad_from_left_axis=True), self.channels[i] + 3
        )

    def _maxout(self, i: int) -> Any:
        return self._unary(i, lambda y: F.maxout(y, 2), self.channels[i] // 2) if self.channels[i] % 4 == 0 else None

    def _attention(self, i: int) -> Any:
        c = self.channels[i]
        if c % 2:
            return None
        q, k, v = (self._keep(nn.Linear(c, 8)) for _ in range(3))
        out = self._keep(nn.Linear(8, c))

        def heads(y: Any) -> Any:
            return y.reshape([-1, SIDE * SIDE, 2, 4]).transpose([0, 2, 1, 3])

        def run(t: Any) -> Any:
            y = t[i].flatten(2).transpose([0, 2, 1])
            weights = F.softmax(paddle.matmul(heads(q(y)), heads(k(y)), transpose_y=True) * 0.3, -1)
            z = paddle.matmul(weights, heads(v(y))).transpose([0, 2, 1, 3]).reshape([-1, SIDE * SIDE, 8])
            return t[i] + out(z).transpose([0, 2, 1]).reshape([-1, c, SIDE, SIDE])

        return run, c, i


@pytest.mark.parametrize("seed", [*range(5), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(5, 150))])
def test_random_network(seed: int):
    network = layer_network(lambda: Random(seed), (2, 3, SIDE, SIDE))
    groups = find_groups(network.model)
    assert groups.prunable
    compare(network, groups, plans=5)
