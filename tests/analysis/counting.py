"""Layers' arithmetic in plain loops that count every product added to a sum."""

from __future__ import annotations

import itertools
from typing import Sequence

import numpy as np

__all__ = ["Counter"]


class Counter:
    """Counts multiply-accumulates while it computes."""

    def __init__(self) -> None:
        self.count = 0

    def accumulate(self, target: np.ndarray, at: tuple, x: float, y: float) -> None:
        target[at] += x * y
        self.count += 1

    def matmul(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """[..., m, k] x [..., k, n] with batch dimensions broadcast."""
        batch = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        x, y = np.broadcast_to(x, (*batch, *x.shape[-2:])), np.broadcast_to(y, (*batch, *y.shape[-2:]))
        out = np.zeros((*batch, x.shape[-2], y.shape[-1]))
        for at in np.ndindex(*out.shape):
            for k in range(x.shape[-1]):
                self.accumulate(out, at, x[(*at[:-1], k)], y[(*at[:-2], k, at[-1])])
        return out

    def conv(self, x: np.ndarray, w: np.ndarray, stride: int = 1, padding: int = 0, groups: int = 1) -> np.ndarray:
        """x [N, C, *sides], w [F, C / groups, *kernel]."""
        kernel = w.shape[2:]
        x = np.pad(x, [(0, 0), (0, 0), *[(padding, padding)] * len(kernel)])
        sides = [(side - k) // stride + 1 for side, k in zip(x.shape[2:], kernel)]
        out = np.zeros((x.shape[0], w.shape[0], *sides))
        per_group = w.shape[0] // groups
        for n, f, *place in np.ndindex(*out.shape):
            first = f // per_group * w.shape[1]
            for c, *tap in np.ndindex(*w.shape[1:]):
                where = [p * stride + t for p, t in zip(place, tap)]
                self.accumulate(out, (n, f, *place), x[(n, first + c, *where)], w[(f, c, *tap)])
        return out

    def conv_transpose(self, x: np.ndarray, w: np.ndarray, stride: int = 1, groups: int = 1) -> np.ndarray:
        """x [N, C, *sides], w [C, F / groups, *kernel], no padding."""
        sides = [(side - 1) * stride + k for side, k in zip(x.shape[2:], w.shape[2:])]
        out = np.zeros((x.shape[0], w.shape[1] * groups, *sides))
        for n, c, *place in np.ndindex(*x.shape):
            first = c // (x.shape[1] // groups) * w.shape[1]
            for f, *tap in np.ndindex(*w.shape[1:]):
                where = [p * stride + t for p, t in zip(place, tap)]
                self.accumulate(out, (n, first + f, *where), x[(n, c, *place)], w[(c, f, *tap)])
        return out

    def lstm(self, x: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
        """x [N, T, I]; weights: input [4H, I], state [4H, H], biases [4H] twice; gates in the order i, f, c, o."""
        w_in, w_state, b_in, b_state = weights
        state = cell = np.zeros((x.shape[0], w_state.shape[1]))
        steps = []
        for t in range(x.shape[1]):
            gates = self.matmul(x[:, t], w_in.T) + self.matmul(state, w_state.T) + b_in + b_state
            i, f, c, o = np.split(gates, 4, 1)
            cell = _sigmoid(f) * cell + _sigmoid(i) * np.tanh(c)
            state = _sigmoid(o) * np.tanh(cell)
            steps.append(state)
        return np.stack(steps, 1)

    def gru(self, x: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
        """As :meth:`lstm`; gates in the order r, z, c."""
        w_in, w_state, b_in, b_state = weights
        state = np.zeros((x.shape[0], w_state.shape[1]))
        steps = []
        for t in range(x.shape[1]):
            r, z, c = np.split(self.matmul(x[:, t], w_in.T) + b_in, 3, 1)
            rs, zs, cs = np.split(self.matmul(state, w_state.T) + b_state, 3, 1)
            z = _sigmoid(z + zs)
            state = z * state + (1 - z) * np.tanh(c + _sigmoid(r + rs) * cs)
            steps.append(state)
        return np.stack(steps, 1)

    def einsum(self, equation: str, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """One product per combination of all letters."""
        left, result = equation.split("->")
        first, second = left.split(",")
        sides = {**dict(zip(first, x.shape)), **dict(zip(second, y.shape))}
        out = np.zeros([sides[letter] for letter in result])
        for place in itertools.product(*(range(side) for side in sides.values())):
            at = dict(zip(sides, place))
            one, other = x[tuple(at[c] for c in first)], y[tuple(at[c] for c in second)]
            self.accumulate(out, tuple(at[c] for c in result), one, other)
        return out


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))
