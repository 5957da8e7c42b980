"""A sensitivity curve: how much is lost when a layer is pruned by a ratio, fitted to measured points.

The curve starts at (0, 0), never falls, and is nowhere below 0: pruning more cannot be worth more in the long run, so a
point below one measured at a smaller ratio, or below 0, is noise. Least squares over all curves that never fall is the
isotonic regression of the points; between them a cubic runs that never falls either (PCHIP).

Sources: Barlow et al., Statistical Inference under Order Restrictions, 1972 (pool adjacent violators); Fritsch and
Butland, A method for constructing local monotone piecewise cubic interpolants, 1984 (the slopes).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Mapping, Union

import numpy as np

from slimkit.errors import NumericsError

__all__ = ["SensitivityCurve", "fit_curve", "isotonic", "pchip_slopes", "ratio_at_loss"]


@dataclass(frozen=True)
class SensitivityCurve:
    """A fitted curve, never falling, through (0, 0); call it with ratios.

    Attributes:
        ratios: float64 [n + 1], strictly rising from 0: where was measured.
        losses: float64 [n + 1]: the fitted losses there.
        slopes: float64 [n + 1]: the curve's derivative there.
        residual: root mean square of fitted minus measured; what noise the fit took away.
    """

    ratios: np.ndarray
    losses: np.ndarray
    slopes: np.ndarray
    residual: float = 0.0

    @property
    def largest(self) -> float:
        """The largest ratio that was measured; beyond it nothing is known, and the curve is infinite."""
        return float(self.ratios[-1])

    def __call__(self, ratio: Union[float, np.ndarray]) -> np.ndarray:
        """The loss at ratios, float64 of their shape; infinite beyond :attr:`largest`.

        Raises:
            NumericsError: a ratio is negative or NaN.
        """
        asked = np.asarray(ratio, np.float64)
        if not (asked >= 0).all():
            raise NumericsError("A sensitivity curve was asked for a negative ratio or NaN; ratios are from 0 to 1.")
        left = np.clip(np.searchsorted(self.ratios, asked, side="right") - 1, 0, len(self.ratios) - 2)
        width = self.ratios[left + 1] - self.ratios[left]
        t = np.clip((asked - self.ratios[left]) / width, 0.0, 1.0)
        low, high = self.losses[left], self.losses[left + 1]
        cubic = (
            low
            + (high - low) * t * t * (3 - 2 * t)
            + width * t * (1 - t) * (self.slopes[left] * (1 - t) - self.slopes[left + 1] * t)
        )
        # Rounding must not take the curve out of its interval: it would fall by an ulp.
        inside = np.clip(cubic, low, high)
        return np.where(asked > self.largest + 1e-9, np.inf, inside)


def fit_curve(points: Mapping[float, float]) -> SensitivityCurve:
    """Fits a curve to measured points.

    Args:
        points: ratio in (0, 1) -> loss; one or more. A point at ratio 0 is left out: the loss there is 0. Losses may be
            negative.

    Raises:
        NumericsError: there is no point, or a ratio or loss that is none.
    """
    pairs = sorted((float(ratio), float(loss)) for ratio, loss in points.items())
    bad = next((p for p in pairs if not (0 <= p[0] < 1) or not np.isfinite(p[1])), None)
    if bad is not None:
        raise NumericsError(
            f"A sensitivity of {bad[1]:g} at the ratio {bad[0]:g} cannot be fitted; ratios are from 0 to below 1 and "
            "losses finite."
        )
    pairs = [pair for pair in pairs if pair[0] > 0]
    if not pairs:
        raise NumericsError("A sensitivity curve needs at least one measured ratio above 0; measure one.")
    ratios, measured = np.array(pairs).T
    # Under the bound 0 the least-squares solution is the unbounded one, clipped.
    fitted = np.maximum(isotonic(measured), 0.0)
    x, y = np.concatenate([[0.0], ratios]), np.concatenate([[0.0], fitted])
    return SensitivityCurve(x, y, pchip_slopes(x, y), float(np.sqrt(np.mean((fitted - measured) ** 2))))


def isotonic(values: np.ndarray) -> np.ndarray:
    """The never-falling sequence nearest to a sequence in least squares (pool adjacent violators).

    Args:
        values: shape [n].

    Returns:
        float64, shape [n].
    """
    means: list = []
    counts: list = []
    for value in np.asarray(values, np.float64).tolist():
        mean, count = value, 1
        while means and means[-1] > mean:
            previous, number = means.pop(), counts.pop()
            mean = (previous * number + mean * count) / (number + count)
            count += number
        means.append(mean)
        counts.append(count)
    return np.repeat(np.array(means, np.float64), np.array(counts, np.int64))


def pchip_slopes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Derivatives of the monotone piecewise cubic through points (Fritsch and Butland 1984, equation 4).

    Args:
        x: shape [n], strictly rising, n >= 2.
        y: shape [n], never falling.

    Returns:
        float64, shape [n]; zero beside a flat piece. At the ends the three-point formula, kept within three times the
        secant, which keeps the curve from falling.
    """
    widths, secants = np.diff(x), np.diff(y) / np.diff(x)
    if len(x) == 2:
        return np.repeat(secants, 2)
    slopes = np.zeros(len(x))
    h0, h1, d0, d1 = widths[:-1], widths[1:], secants[:-1], secants[1:]
    w0, w1 = 2 * h1 + h0, h1 + 2 * h0
    rising = (d0 > 0) & (d1 > 0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        slopes[1:-1] = np.where(rising, (w0 + w1) / (w0 / d0 + w1 / d1), 0.0)
    slopes[0] = _end_slope(widths[0], widths[1], secants[0], secants[1])
    slopes[-1] = _end_slope(widths[-1], widths[-2], secants[-1], secants[-2])
    return slopes


def _end_slope(h0: float, h1: float, d0: float, d1: float) -> float:
    slope = ((2 * h0 + h1) * d0 - h0 * d1) / (h0 + h1)
    return float(min(max(slope, 0.0), 3 * d0))


def ratio_at_loss(points: Mapping[float, float], loss: float) -> float:
    """The ratio at which a layer loses ``loss``, by PaddleSlim's rule: linear between measured points.

    The last measured point that loses no more is taken; towards the next one the loss is linear. The rule knows nothing
    of (0, 0): it gives 0 when every point loses more.

    Args:
        points: ratio -> loss.
        loss: what may be lost.

    Returns:
        From 0 to the largest measured ratio; 0 when there are no points.
    """
    pairs = sorted((float(r), float(l)) for r, l in points.items())
    within = [i for i, (_, lost) in enumerate(pairs) if lost <= loss]
    if not within:
        return 0.0
    last = within[-1]
    ratio, lost = pairs[last]
    if last == len(pairs) - 1:
        return ratio
    after, more = pairs[last + 1]
    if np.isnan(more):
        return ratio
    return ratio + (loss - lost) * (after - ratio) / (more - lost)
