"""Thresholds M of symmetric grids: of one tensor, and tracked over training steps.

Trackers take one batch after another and answer with the threshold to use for that very batch, as Paddle's training
kernels do: the new value counts in the step that brought it. ``ACTIVATION_SCALES`` and ``WEIGHT_SCALES`` name them by
PaddleSlim's range types.

Sources: Krishnamoorthi 2018 (arXiv 1806.08342), section 3.1; Jacob et al. 2018 (arXiv 1712.05877), section 3.1 (moving
average of activations' ranges).
"""

from __future__ import annotations

from typing import Callable, Dict, Optional

import numpy as np

from slimkit.errors import NumericsError, nearest
from slimkit.numerics.grid import reduced_axes

__all__ = [
    "ACTIVATION_SCALES",
    "WEIGHT_SCALES",
    "CurrentScale",
    "MovingAverageScale",
    "ScaleTracker",
    "WindowMaxScale",
    "WindowMeanScale",
    "abs_max",
    "channel_wise_abs_max",
    "scale_tracker",
]


def abs_max(x: np.ndarray) -> np.float32:
    """max |x| over the whole array.

    Raises:
        NumericsError: the array is empty or its largest magnitude is not finite.
    """
    return np.float32(_magnitude(x, None))


def channel_wise_abs_max(x: np.ndarray, axis: int = 0) -> np.ndarray:
    """max |x| of each channel: float32, shape ``[x.shape[axis]]``.

    Args:
        x: float, any shape. The output channels of a convolution's filter are axis 0, of a transposed convolution's and
            of a ``mul``'s or ``matmul``'s weight axis 1.
        axis: channel axis.

    Raises:
        NumericsError: the array is empty, has no such axis, or a magnitude is not finite.
    """
    return _magnitude(x, axis)


def _magnitude(x: np.ndarray, axis: Optional[int]) -> np.ndarray:
    x = np.asarray(x, np.float32)
    if x.size == 0:
        raise NumericsError(f"An empty array of shape {x.shape} has no largest magnitude; give at least one value.")
    dims = reduced_axes(x.ndim, axis)
    found = np.maximum(-x.min(axis=dims), x.max(axis=dims)) + np.float32(0)
    if not np.all(np.isfinite(found)):
        raise NumericsError("The largest magnitude of an array is NaN or infinite; look for a training that diverged.")
    return found


class ScaleTracker:
    """A threshold that follows batches.

    Args:
        axis: channel axis of the arrays; None: one threshold.

    Attributes:
        scale: float32 after the last update, shape ``[]`` or ``[channels]``; None before the first.
    """

    def __init__(self, axis: Optional[int] = None) -> None:
        self.axis = axis
        self.scale: Optional[np.ndarray] = None

    def update(self, x: np.ndarray) -> np.ndarray:
        """Takes a batch in and returns the threshold to quantize it with.

        Args:
            x: float, any shape, not empty.

        Raises:
            NumericsError: the batch is empty or holds NaN or infinity; the tracker is then as it was.
        """
        now = _magnitude(x, self.axis)
        if self.scale is not None and now.shape != self.scale.shape:
            raise NumericsError(
                f"A batch has {now.size} channels where earlier ones had {self.scale.size}; use one tracker per tensor."
            )
        self.scale = np.asarray(self._next(now), np.float32)
        return self.scale

    def _next(self, now: np.ndarray) -> np.ndarray:
        raise NotImplementedError  # pragma: no cover - abstract


class CurrentScale(ScaleTracker):
    """max |x| of the batch itself: dynamic activations, and weights, which are what they are."""

    def _next(self, now: np.ndarray) -> np.ndarray:
        return now


class _Window(ScaleTracker):
    """The magnitudes of the last ``window`` batches in a ring."""

    def __init__(self, window: int = 10000, axis: Optional[int] = None) -> None:
        super().__init__(axis)
        if window < 1:
            raise NumericsError(f"A window of {window} batches is empty; window is 1 or more.")
        self.window = window
        self.ring: Optional[np.ndarray] = None
        self.steps = 0

    def _push(self, now: np.ndarray) -> np.ndarray:
        if self.ring is None:
            self.ring = np.zeros((self.window, *now.shape), np.float32)
        self.ring[self.steps % self.window] = now
        self.steps += 1
        return self.ring[: min(self.steps, self.window)]


class WindowMaxScale(_Window):
    """The largest magnitude of the last ``window`` batches (range_abs_max)."""

    def _next(self, now: np.ndarray) -> np.ndarray:
        return self._push(now).max(axis=0)


class WindowMeanScale(_Window):
    """The mean over the last ``window`` batches of each one's largest magnitude."""

    def _next(self, now: np.ndarray) -> np.ndarray:
        return self._push(now).mean(axis=0, dtype=np.float64)


class MovingAverageScale(ScaleTracker):
    """``V_t = (1 - k) V + k V_(t-1)`` of the batches' largest magnitudes V.

    Args:
        rate: k in [0, 1).
        debias: as Paddle's kernels, keep ``accum = k accum + V`` and ``state = k state + 1`` and answer
            ``accum / state``: the recursion above, started from nothing, divided by ``1 - k**t``. Otherwise the
            recursion is followed as it stands, from the first batch's value.
        axis: channel axis; None: one threshold.
        accum, state: where to start, for instance from calibration or a checkpoint.

    Raises:
        NumericsError: ``rate`` is out of range.
    """

    def __init__(
        self,
        rate: float = 0.9,
        debias: bool = True,
        axis: Optional[int] = None,
        accum: float = 0.0,
        state: float = 0.0,
    ) -> None:
        super().__init__(axis)
        if not 0 <= rate < 1:
            raise NumericsError(f"A moving rate of {rate} does not average; give one from 0 to below 1, such as 0.9.")
        self.rate = np.float32(rate)
        self.debias = debias
        self.accum = np.asarray(accum, np.float32)
        self.state = np.float32(state)

    def _next(self, now: np.ndarray) -> np.ndarray:
        if not self.debias:
            return now if self.scale is None else (np.float32(1) - self.rate) * now + self.rate * self.scale
        self.accum = self.rate * self.accum + now
        self.state = self.rate * self.state + np.float32(1)
        return self.accum / self.state


#: Range type of activations -> tracker; keywords ``window``, ``rate`` and ``axis`` go to those that have them.
ACTIVATION_SCALES: Dict[str, Callable[..., ScaleTracker]] = {
    "abs_max": CurrentScale,
    "range_abs_max": WindowMaxScale,
    "window_mean_abs_max": WindowMeanScale,
    "moving_average_abs_max": MovingAverageScale,
}

#: Range type of weights -> tracker. ``channel_wise_abs_max`` wants an ``axis``.
WEIGHT_SCALES: Dict[str, Callable[..., ScaleTracker]] = {
    "abs_max": CurrentScale,
    "channel_wise_abs_max": CurrentScale,
    "range_abs_max": WindowMaxScale,
    "moving_average_abs_max": MovingAverageScale,
}


def scale_tracker(range_type: str, table: Dict[str, Callable[..., ScaleTracker]], **settings: object) -> ScaleTracker:
    """A tracker by its range type.

    Args:
        range_type: key of ``table``.
        table: ``ACTIVATION_SCALES`` or ``WEIGHT_SCALES``.
        **settings: arguments of the tracker.

    Raises:
        NumericsError: there is no such type, or ``channel_wise_abs_max`` came without an axis.
    """
    if range_type not in table:
        close = nearest(range_type, table)
        hint = f"did you mean '{close}'?" if close else f"it is one of {', '.join(table)}."
        raise NumericsError(f"There is no range type '{range_type}'; {hint}")
    if range_type == "channel_wise_abs_max" and settings.get("axis") is None:
        raise NumericsError("channel_wise_abs_max needs the channel axis: 0 for conv2d's filter, 1 for mul's weight.")
    return table[range_type](**settings)
