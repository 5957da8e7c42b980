"""How far apart two runs of a model are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Optional, Sequence

import numpy as np

from slimkit.errors import DataError

__all__ = ["Agreement", "AgreementCounter", "compare", "top1"]


@dataclass(frozen=True)
class Agreement:
    """Outputs of one run against a reference, over all samples.

    Attributes:
        max_abs: largest absolute difference.
        relative: ||a - b|| / ||b|| over all values (b the reference); 0 where both are zero.
        cosine: cosine of the angle between the two, all values as one vector.
        sqnr_db: 20 log10 of 1/relative; inf when equal.
        top1: fraction of samples with the same arg max over the last axis, None when the output has no classes.
        samples: rows compared.
    """

    max_abs: float
    relative: float
    cosine: float
    sqnr_db: float
    top1: Optional[float]
    samples: int

    def to_dict(self) -> Dict[str, Any]:
        values = dict(self.__dict__)
        if math.isinf(self.sqnr_db):
            values["sqnr_db"] = None
        return values


class AgreementCounter:
    """Collects batch by batch, so that the outputs of a whole data set need not be held."""

    def __init__(self) -> None:
        self._max = 0.0
        self._error = self._reference = self._other = self._dot = 0.0
        self._same = self._samples = 0
        self._classes = False

    def add(self, output: np.ndarray, reference: np.ndarray) -> None:
        """Adds one batch of both; any shape, equal in both.

        Raises:
            DataError: the shapes differ.
        """
        if output.shape != reference.shape:
            raise DataError(
                f"Outputs of shape {output.shape} cannot be compared with a reference of shape {reference.shape}; "
                "run both models on the same batches."
            )
        a, b = output.astype(np.float64).ravel(), reference.astype(np.float64).ravel()
        difference = a - b
        self._max = max(self._max, float(np.abs(difference).max(initial=0.0)))
        self._error += float(difference @ difference)
        self._reference += float(b @ b)
        self._other += float(a @ a)
        self._dot += float(a @ b)
        if output.ndim == 2 and output.shape[1] > 1:
            self._classes = True
            self._same += int((output.argmax(1) == reference.argmax(1)).sum())
        self._samples += output.shape[0] if output.ndim else 1

    def result(self) -> Agreement:
        """Returns the agreement so far."""
        relative = math.sqrt(self._error / self._reference) if self._reference > 0 else float(self._error > 0)
        norm = math.sqrt(self._reference * self._other)
        cosine = self._dot / norm if norm > 0 else 1.0
        sqnr = math.inf if relative == 0 else -20 * math.log10(relative)
        same = self._same / self._samples if self._classes and self._samples else None
        return Agreement(self._max, relative, cosine, sqnr, same, self._samples)


def compare(outputs: Iterable[np.ndarray], reference: Iterable[np.ndarray]) -> Agreement:
    """Compares two runs' batches of one output.

    Raises:
        DataError: shapes differ.
    """
    counter = AgreementCounter()
    for output, wanted in zip(outputs, reference):
        counter.add(np.asarray(output), np.asarray(wanted))
    return counter.result()


def top1(outputs: Sequence[np.ndarray], labels: Sequence[np.ndarray]) -> float:
    """Accuracy of class scores (N, classes) per batch against labels (N,) or (N, 1) per batch."""
    right: List[int] = [int((o.argmax(1) == np.asarray(y).reshape(-1)).sum()) for o, y in zip(outputs, labels)]
    count = sum(len(output) for output in outputs)
    return sum(right) / max(count, 1)
