"""What verification asks of a task's metric, and the metric of classifiers."""

from __future__ import annotations

from typing import Callable, Dict, Mapping, Optional, Protocol, Sequence

import numpy as np

__all__ = ["Metric", "MetricFactory", "Top1"]


class Metric(Protocol):
    """Accumulates a figure of merit batch by batch."""

    def update(self, outputs: Sequence[np.ndarray], labels: Sequence) -> None:
        """Adds a batch: the model's outputs, in order, and the labels of its samples."""
        ...

    def result(self) -> Mapping[str, float]:
        """Returns name -> value, accuracies as fractions; the headline first."""
        ...


#: Makes a fresh metric for each model that is run.
MetricFactory = Callable[[], Metric]


class Top1:
    """Accuracy of class scores, the first output (N, classes), against labels (N,) or (N, 1)."""

    def __init__(self) -> None:
        self._right = self._samples = 0

    def update(self, outputs: Sequence[np.ndarray], labels: Sequence) -> None:
        scores = outputs[0]
        if scores.ndim == 2:
            self._right += int((scores.argmax(1) == np.asarray(labels).reshape(-1)).sum())
        self._samples += len(scores)

    def result(self) -> Dict[str, float]:
        return {"top1": self._right / self._samples} if self._samples else {}


def headline_of(metrics: Mapping[str, float], name: Optional[str]) -> Optional[float]:
    """The value of the headline metric: that named, else the first."""
    if name is None:
        return next(iter(metrics.values()), None)
    value = metrics.get(name)
    return None if value is None else float(value)
