"""``AvgrageMeter`` (PaddleSlim's spelling): a running mean."""

from __future__ import annotations

from typing import Any

__all__ = ["AvgrageMeter"]


class AvgrageMeter:
    """The mean of values with weights.

    Attributes:
        avg: the mean so far; 0 before the first value.
        sum: the weighted sum.
        cnt: the sum of the weights.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets all values."""
        self.avg: Any = 0
        self.sum: Any = 0
        self.cnt: Any = 0

    def update(self, val: Any, n: Any = 1) -> None:
        """Takes a value that stands for ``n``, such as the mean loss of a batch of ``n``."""
        self.sum += val * n
        self.cnt += n
        self.avg = self.sum / self.cnt if self.cnt else 0
