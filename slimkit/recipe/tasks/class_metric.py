"""Top-1 and top-5 accuracy of class scores."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence

import numpy as np

from slimkit.recipe.metrics import Accuracy

__all__ = ["ClassMetric"]


class ClassMetric:
    """Top-1 and, for more than five classes, top-5 accuracy; see :class:`slimkit.recipe.metrics.Accuracy`."""

    def __init__(self) -> None:
        self._accuracy: Optional[Accuracy] = None

    def update(self, outputs: Sequence[np.ndarray], labels: Sequence[Any]) -> None:
        """Adds a batch.

        Args:
            outputs: the first is class scores (N, classes), perhaps with sides of 1 after them.
            labels: N integers.

        Raises:
            DataError: shapes do not fit each other, or a label is not a class.
        """
        scores = np.asarray(outputs[0])
        if scores.ndim > 2 and scores[0].size == scores.shape[1]:
            scores = scores.reshape(len(scores), -1)
        if self._accuracy is None:
            self._accuracy = Accuracy((1, 5) if scores.shape[-1] > 5 else (1,))
        self._accuracy.update(scores, np.asarray(labels))

    def result(self) -> Dict[str, float]:
        values = {} if self._accuracy is None else self._accuracy.result()
        return {name: float(value) for name, value in values.items() if name != "samples"}
