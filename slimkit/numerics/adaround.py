"""AdaRound: which weights of a layer to round up and which down, so that the layer's result changes least.

Source: Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization" (arXiv 2004.10568), eq. 21-24:
a soft rounding ``h(V) = clip(sigmoid(V) (zeta - gamma) + gamma, 0, 1)`` is learned with Adam under a regularizer
``sum 1 - |2 h - 1|**beta`` whose beta falls. Where the code departs from the paper:

- The layer is linear, so its squared error needs the samples only through two matrices, the ``gram`` (input by input)
  and the ``cross`` (target by input). Every step sees all samples at the cost of one product, the gradient has no
  noise, and a tenth of the paper's steps do. In turn the activation behind the layer is left out (the paper's eq. 25).
- Each group's error is put in units of what rounding one weight costs, so one weight of the regularizer suits all.
- Where there are few samples for many inputs (a classifier behind a global pool), what they say of the correlation of
  inputs is chance; ``shrink`` leaves of it as much as there are samples for.
- At the end single weights are flipped as long as that lowers the error (coordinate descent on the paper's eq. 20), and
  a channel that came out worse than rounding to nearest is rounded to nearest: the result is never worse.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Tuple

import numpy as np

from slimkit.errors import NumericsError

__all__ = ["Rounded", "learn_rounding", "rounding_error", "shrink"]

ZETA, GAMMA = 1.1, -0.1
#: Weight of the regularizer, in units of what a whole step of one weight costs.
REGULARIZER = 10.0
#: The regularizer's exponent falls from the first to the second.
BETA = (20.0, 2.0)
#: Part of the steps before the regularizer sets in.
WARM_UP = 0.2
LEARNING_RATE = 0.1
MOMENTS = (0.9, 0.999)
#: Sweeps over all weights when single ones are flipped; it ends earlier once none is.
SWEEPS = 20


@dataclass(frozen=True)
class Rounded:
    """Integers of a layer.

    Attributes:
        integers: float32 whole numbers, shape ``[groups, outputs, inputs]``.
        nearest_error: squared error of rounding to nearest, less the target's own square, summed over outputs.
        error: that of ``integers``; at most ``nearest_error``.
    """

    integers: np.ndarray
    nearest_error: float
    error: float


def rounding_error(weight: np.ndarray, gram: np.ndarray, cross: np.ndarray) -> np.ndarray:
    """The squared error of each output, less the target's own square: ``w G w - 2 w c``.

    Args:
        weight: float, shape ``[groups, outputs, inputs]``.
        gram: mean of ``x x^T``, shape ``[groups, inputs, inputs]``.
        cross: mean of ``y x^T``, shape ``[groups, outputs, inputs]``.

    Returns:
        float64, shape ``[groups, outputs]``.
    """
    twice = 2.0 * cross.astype(np.float64)
    return np.einsum("gok,gok->go", np.matmul(weight, gram) - twice, weight.astype(np.float64))


def shrink(
    weight: np.ndarray, gram: np.ndarray, cross: np.ndarray, x_mean: np.ndarray, y_mean: np.ndarray, samples: int
) -> Tuple[np.ndarray, np.ndarray]:
    """Statistics of a few samples drawn towards what few samples tell: the means and the variance of each input.

    The gram is mixed with ``diag(variance) + mean mean^T``, in the proportion of samples to inputs, and the cross with
    that of a layer whose inputs vary independently. Source: Ledoit and Wolf 2004, "A well-conditioned estimator for
    large-dimensional covariance matrices", with this target and the mixture ``inputs / (inputs + samples)`` in place of
    the estimated one.

    Args:
        weight: float32, shape ``[groups, outputs, inputs]``.
        gram, cross: see :func:`learn_rounding`.
        x_mean: of the inputs, shape ``[groups, inputs]``.
        y_mean: of the targets, shape ``[groups, outputs]``.
        samples: how many there were.

    Returns:
        gram and cross, float32.
    """
    inputs = gram.shape[1]
    part = np.float32(inputs / (inputs + samples))
    variance = np.maximum(np.einsum("gkk->gk", gram) - x_mean * x_mean, 0)
    mixed = (1 - part) * gram + part * (x_mean[:, :, None] * x_mean[:, None, :])
    diagonal = np.arange(inputs)
    mixed[:, diagonal, diagonal] += part * variance
    independent = weight * variance[:, None, :] + y_mean[:, :, None] * x_mean[:, None, :]
    return mixed.astype(np.float32), ((1 - part) * cross + part * independent).astype(np.float32)


def learn_rounding(
    weight: np.ndarray,
    step: np.ndarray,
    gram: np.ndarray,
    cross: np.ndarray,
    qmax: int,
    nearest: np.ndarray,
    steps: int = 1000,
) -> Rounded:
    """Rounds the weights of a linear layer, in groups that share no input.

    Args:
        weight: float32, shape ``[groups, outputs, inputs]``.
        step: distance of neighbouring levels, positive, broadcastable to ``[groups, outputs, 1]``.
        gram: mean of ``x x^T`` over samples of the quantized input x, shape ``[groups, inputs, inputs]``.
        cross: mean of ``y x^T``, y what the float layer gives, shape ``[groups, outputs, inputs]``.
        qmax: largest integer of the symmetric grid.
        nearest: the integers of rounding to nearest, shape of ``weight``.
        steps: of Adam.

    Raises:
        NumericsError: shapes do not fit, a statistic is not finite, or steps is below 1.
    """
    _check(weight, gram, cross, steps)
    step = np.broadcast_to(step, (*weight.shape[:2], 1)).astype(np.float32)
    power = np.einsum("gkk->gk", gram).mean(axis=1)[:, None, None].astype(np.float32)
    power = np.where(power > 0, power, np.float32(1))
    # From here on a weight is counted in steps, and an error in what one whole step of one weight costs.
    unit_gram, unit_cross = (gram / power).astype(np.float32), (cross / (step * power)).astype(np.float32)
    scaled, nearest = (weight / step).astype(np.float32), nearest.astype(np.float32)
    floor = np.floor(scaled)
    low, high = (np.clip(floor + up, -qmax, qmax) for up in (np.float32(0), np.float32(1)))
    up = _learn(scaled - floor, low, high, unit_gram, unit_cross, steps) >= 0.5
    found = np.where(up, high, low)
    _flip(found, low, high, unit_gram, unit_cross)
    before, after = (rounding_error(q, unit_gram, unit_cross) for q in (nearest, found))
    better = after < before
    cost = (step * step * power)[:, :, 0].astype(np.float64)
    return Rounded(
        np.where(better[:, :, None], found, nearest),
        float((before * cost).sum()),
        float((np.where(better, after, before) * cost).sum()),
    )


def _check(weight: np.ndarray, gram: np.ndarray, cross: np.ndarray, steps: int) -> None:
    groups, _, inputs = weight.shape
    if gram.shape != (groups, inputs, inputs) or cross.shape != weight.shape:
        raise NumericsError(
            f"A weight of shape {weight.shape} [groups, outputs, inputs] does not fit a gram of {gram.shape} and a "
            f"cross of {cross.shape}; these are [groups, inputs, inputs] and the weight's shape."
        )
    if not (np.isfinite(gram).all() and np.isfinite(cross).all()):
        raise NumericsError("The samples of a layer hold NaN or infinity; check the calibration data.")
    if steps < 1:
        raise NumericsError(f"{steps} steps of AdaRound learn nothing; give at least 1.")


def _learn(
    fraction: np.ndarray, low: np.ndarray, high: np.ndarray, gram: np.ndarray, cross: np.ndarray, steps: int
) -> np.ndarray:
    """The soft rounding after ``steps`` of Adam, in [0, 1], 1 being up; it starts at the weights themselves."""
    start = np.clip((fraction - GAMMA) / (ZETA - GAMMA), 1e-4, 1 - 1e-4)
    v = np.log(start / (1 - start)).astype(np.float32)
    first, second = np.zeros_like(v), np.zeros_like(v)
    width = high - low  # 0 beyond the ends of the grid
    for number in range(steps):
        sigmoid = 1 / (1 + np.exp(-v))
        stretched = sigmoid * np.float32(ZETA - GAMMA) + np.float32(GAMMA)
        soft = np.clip(stretched, 0, 1)
        gradient = np.matmul(low + width * soft, gram)
        gradient -= cross
        gradient *= 2 * width
        late = number / steps - WARM_UP
        if late >= 0:
            beta = BETA[1] + 0.5 * (BETA[0] - BETA[1]) * (1 + math.cos(math.pi * late / (1 - WARM_UP)))
            centred = 2 * soft - 1
            slope = np.abs(centred) ** np.float32(beta - 1) * np.sign(centred)
            gradient -= np.float32(2 * beta * REGULARIZER) * slope
        gradient *= sigmoid * (1 - sigmoid) * np.float32(ZETA - GAMMA)
        gradient *= soft == stretched
        first += (1 - MOMENTS[0]) * (gradient - first)
        second += (1 - MOMENTS[1]) * (gradient * gradient - second)
        rate = LEARNING_RATE * math.sqrt(1 - MOMENTS[1] ** (number + 1)) / (1 - MOMENTS[0] ** (number + 1))
        v -= np.float32(rate) * first / (np.sqrt(second) + np.float32(1e-8))
    return np.clip(stretched, 0, 1)


def _flip(q: np.ndarray, low: np.ndarray, high: np.ndarray, gram: np.ndarray, cross: np.ndarray) -> None:
    """Flips single weights, in place, as long as that lowers the error: coordinate descent, all outputs at a time."""
    slope = np.matmul(q, gram) - cross
    own = np.einsum("gkk->gk", gram)
    for _ in range(SWEEPS):
        flipped = 0
        for k in range(q.shape[2]):
            change = low[:, :, k] + high[:, :, k] - 2 * q[:, :, k]
            gain = change * (2 * slope[:, :, k] + change * own[:, k, None])
            group, output = np.nonzero(gain < -1e-6)
            if group.size:
                by = change[group, output]
                slope[group, output] += by[:, None] * gram[group, k]
                q[group, output, k] += by
                flipped += group.size
        if not flipped:
            return
