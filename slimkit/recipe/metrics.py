"""Accuracy over a data set, accumulated batch by batch."""

from __future__ import annotations

from typing import Dict, Sequence, Union

import numpy as np

from slimkit.errors import DataError

__all__ = ["Accuracy"]


class Accuracy:
    """Top-k accuracy.

    A sample is right at k when fewer than k classes score higher than its label's. Of equal scores the
    class of lower index counts as the higher, as in ``argmax``, so a constant output is not right everywhere.
    """

    def __init__(self, topk: Sequence[int] = (1, 5)) -> None:
        """
        Args:
            topk: the k of each accuracy wanted; at least 1 each.
        """
        if not topk or any(k < 1 for k in topk):
            raise DataError(f"topk is {tuple(topk)}; it must hold numbers of at least 1.")
        self.topk = tuple(topk)
        self.samples = 0
        self._right = dict.fromkeys(self.topk, 0)

    def update(self, logits: np.ndarray, label: np.ndarray) -> None:
        """Adds a batch.

        Args:
            logits: (N, classes), or probabilities.
            label: N integers, of shape (N,) or (N, 1).

        Raises:
            DataError: shapes do not fit each other, or a label is not a class.
        """
        scores, target = np.asarray(logits), np.asarray(label).reshape(-1)
        if scores.ndim != 2 or len(scores) != len(target):
            raise DataError(
                f"Accuracy needs logits of shape (N, classes) and N labels, not {scores.shape} and {np.shape(label)}."
            )
        classes = scores.shape[1]
        if len(target) and not (target.min() >= 0 and target.max() < classes):
            raise DataError(
                f"A label is {int(target.min() if target.min() < 0 else target.max())}, but the network has "
                f"{classes} outputs; labels go from 0 to {classes - 1}."
            )
        rows = np.arange(len(target))
        own = scores[rows, target][:, None]
        before = (scores > own) | ((scores == own) & (np.arange(classes) < target[:, None]))
        rank = before.sum(axis=1)
        finite = np.isfinite(own[:, 0])
        for k in self.topk:
            self._right[k] += int(((rank < k) & finite).sum())
        self.samples += len(target)

    def result(self) -> Dict[str, Union[float, int]]:
        """Returns ``{"top1": 0.91, "top5": 0.99, "samples": 2000}``; accuracies are 0 without samples."""
        values: Dict[str, Union[float, int]] = {f"top{k}": self._right[k] / max(1, self.samples) for k in self.topk}
        values["samples"] = self.samples
        return values
