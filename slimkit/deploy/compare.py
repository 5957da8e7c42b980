"""How far apart two runs of a model are."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np

from slimkit.errors import DataError

__all__ = ["Agreement", "AgreementCounter", "OutputsCounter", "compare"]

#: A (N, steps, n) output has classes from this n on; below, it holds coordinates.
SEQUENCE_CLASSES = 10


@dataclass(frozen=True)
class Agreement:
    """Outputs of one run against a reference, over all samples.

    Attributes:
        max_abs: largest absolute difference.
        relative: ||a - b|| / ||b|| over all values (b the reference); 0 where both are zero.
        cosine: cosine of the angle between the two, all values as one vector.
        sqnr_db: 20 log10 of 1/relative; inf when equal.
        top1: fraction with the same arg max over the last axis: of samples for (N, classes), of steps for
            (N, steps, classes); None when the output has no classes.
        samples: rows compared.
    """

    max_abs: float
    relative: float
    cosine: float
    sqnr_db: float
    top1: Optional[float]
    samples: int

    def to_dict(self) -> Dict[str, Any]:
        """JSON-ready values; None for what is not finite."""
        return {
            name: None if isinstance(value, float) and not math.isfinite(value) else value
            for name, value in self.__dict__.items()
        }


class AgreementCounter:
    """Collects batch by batch, so that the outputs of a whole data set need not be held."""

    def __init__(self) -> None:
        self._max = 0.0
        self._error = self._reference = self._other = self._dot = 0.0
        self._same = self._choices = self._samples = 0

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
        self._sum(output.astype(np.float64).ravel(), reference.astype(np.float64).ravel())
        if _has_classes(output.shape):
            same = output.argmax(-1) == reference.argmax(-1)
            self._same += int(same.sum())
            self._choices += same.size
        self._samples += output.shape[0] if output.ndim else 1

    def _sum(self, a: np.ndarray, b: np.ndarray) -> None:
        if not (np.isfinite(a).all() and np.isfinite(b).all()):
            kept = ~((a == b) & np.isinf(a))  # the same infinity in both, such as a masked score, is no error
            a, b = a[kept], b[kept]
            if not (np.isfinite(a).all() and np.isfinite(b).all()):
                self._error = math.inf
                return
        difference = a - b
        self._max = max(self._max, float(np.abs(difference).max(initial=0.0)))
        self._error += float(difference @ difference)
        self._reference += float(b @ b)
        self._other += float(a @ a)
        self._dot += float(a @ b)

    def result(self) -> Agreement:
        """Returns the agreement so far; infinite errors where one of the two was not finite."""
        if not math.isfinite(self._error):
            return Agreement(math.inf, math.inf, math.nan, -math.inf, None, self._samples)
        relative = math.sqrt(self._error / self._reference) if self._reference > 0 else float(self._error > 0)
        norm = math.sqrt(self._reference * self._other)
        cosine = self._dot / norm if norm > 0 else 1.0
        sqnr = math.inf if relative == 0 else -20 * math.log10(relative)
        same = self._same / self._choices if self._choices else None
        return Agreement(self._max, relative, cosine, sqnr, same, self._samples)


def _has_classes(shape: Tuple[int, ...]) -> bool:
    if len(shape) == 2:
        return shape[1] > 1
    return len(shape) == 3 and shape[2] >= SEQUENCE_CLASSES


class OutputsCounter:
    """Agreement over all outputs of a model: of each one, and of all values together."""

    def __init__(self) -> None:
        self._each: List[AgreementCounter] = []
        self._together = AgreementCounter()
        self.problem: Optional[str] = None

    def add(self, outputs: Sequence[np.ndarray], references: Sequence[np.ndarray]) -> None:
        """Adds one batch; where shapes differ, ``problem`` says so and nothing is counted from there on."""
        if self.problem:
            return
        try:
            for index, (output, reference) in enumerate(zip(outputs, references)):
                if index == len(self._each):
                    self._each.append(AgreementCounter())
                self._each[index].add(output, reference)
                self._together.add(output, reference)
        except DataError as error:
            self.problem = str(error)

    def result(self) -> Optional[Agreement]:
        """All outputs together, arg max of the first that has classes; None without a comparison."""
        each = self.each()
        if not each or self.problem:
            return None
        if len(each) == 1:
            return each[0]
        classes = next((found.top1 for found in each if found.top1 is not None), None)
        return replace(self._together.result(), top1=classes, samples=each[0].samples)

    def each(self) -> List[Agreement]:
        """One agreement for each output."""
        return [counter.result() for counter in self._each]


def compare(outputs: Iterable[np.ndarray], reference: Iterable[np.ndarray]) -> Agreement:
    """Compares two runs' batches of one output.

    Raises:
        DataError: shapes differ.
    """
    counter = AgreementCounter()
    for output, wanted in zip(outputs, reference):
        counter.add(np.asarray(output), np.asarray(wanted))
    return counter.result()
