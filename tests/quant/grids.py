"""Quantization by hand, in float64: what the tests hold the package against. Nothing of slimkit is used here."""

from __future__ import annotations

import numpy as np


def symmetric(x: np.ndarray, m: np.ndarray, bits: int) -> np.ndarray:
    """round(clip(x, -m, m) / m * n) * m / n, n = 2**(bits-1) - 1, halves away from zero."""
    x, m, n = np.asarray(x, "float64"), np.asarray(m, "float64"), 2 ** (bits - 1) - 1
    y = np.clip(x, -m, m) / m * n
    return np.sign(y) * np.floor(np.abs(y) + 0.5) * m / n


def affine(x: np.ndarray, low: np.ndarray, high: np.ndarray, bits: int) -> np.ndarray:
    """(clip(round(x / step) + zero, 0, top) - zero) * step on [min(low, 0), max(high, 0)]."""
    x, top = np.asarray(x, "float64"), 2**bits - 1
    low, high = np.minimum(low, 0).astype("float64"), np.maximum(high, 0).astype("float64")
    step = (high - low) / top
    zero = -np.round(low / step)
    return (np.clip(np.round(x / step) + zero, 0, top) - zero) * step


def _over(x: np.ndarray, axis) -> tuple:
    return tuple(d for d in range(x.ndim) if d != axis) if axis is not None else tuple(range(x.ndim))


def by_type(kind: str, x: np.ndarray, bits: int, axis=None, ranges=None) -> np.ndarray:
    """A tensor on the grid of a range type; ``ranges`` (m, or (low, high)) where the type remembers.

    Args:
        kind: a weight or activation type of the config.
        x: the tensor.
        bits: of the grid.
        axis: channel axis of the channel-wise types.
        ranges: of the types with a state.
    """
    axis = axis if kind.startswith("channel_wise") else None
    if kind.endswith("min_max"):
        if ranges is None:
            ranges = x.min(_over(x, axis), keepdims=True), x.max(_over(x, axis), keepdims=True)
        return affine(x, np.asarray(ranges[0]), np.asarray(ranges[1]), bits)
    m = np.abs(x).max(_over(x, axis), keepdims=True) if ranges is None else ranges
    return symmetric(x, m, bits)


def step_of(kind: str, x: np.ndarray, bits: int) -> float:
    """The widest distance of two levels that ``x``'s own range can give."""
    if kind.endswith("min_max"):
        return float(max(x.max(), 0) - min(x.min(), 0)) / (2**bits - 1)
    return float(np.abs(x).max()) / (2 ** (bits - 1) - 1)


def assert_same_grid(got: np.ndarray, want: np.ndarray, step: float) -> None:
    """Equal up to float32's error, save for the few values next to a tie, which may fall to the neighbour level."""
    error = np.abs(np.asarray(got, "float64") - want)
    off = error > max(2e-2 * step, 3e-6 * np.abs(want).max())
    assert error.max() <= 1.001 * step + 1e-6, f"off by {error.max() / step} levels"
    # At 16 bits float32 tells a tie to 0.01 levels only: one or two of a few dozen values may be that near.
    assert off.sum() <= max(2, 0.01 * off.size), f"{off.sum()} of {off.size} values are on another level"


def pad(x: np.ndarray, p: int) -> np.ndarray:
    return np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))


def conv2d(x: np.ndarray, w: np.ndarray, groups: int = 1, padding: int = 1) -> np.ndarray:
    """Stride 1; x [N, C, H, W], w [O, C / groups, k, k]."""
    x, k = pad(x, padding), w.shape[2]
    h, wd = x.shape[2] - k + 1, x.shape[3] - k + 1
    out = np.zeros((len(x), len(w), h, wd))
    per_in, per_out = w.shape[1], len(w) // groups
    for o in range(len(w)):
        g = o // per_out
        part = x[:, g * per_in : (g + 1) * per_in]
        for i in range(k):
            for j in range(k):
                out[:, o] += (part[:, :, i : i + h, j : j + wd] * w[o, :, i, j][None, :, None, None]).sum(1)
    return out


def conv2d_transpose(x: np.ndarray, w: np.ndarray, padding: int = 1) -> np.ndarray:
    """Stride 1, one group; x [N, C, H, W], w [C, O, k, k]."""
    k = w.shape[2]
    out = np.zeros((len(x), w.shape[1], x.shape[2] + k - 1, x.shape[3] + k - 1))
    for i in range(k):
        for j in range(k):
            out[:, :, i : i + x.shape[2], j : j + x.shape[3]] += np.einsum("nchw,co->nohw", x, w[:, :, i, j])
    return out[:, :, padding : out.shape[2] - padding, padding : out.shape[3] - padding]
