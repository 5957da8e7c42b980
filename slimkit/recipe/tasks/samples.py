"""``Samples``: data in batches as a model takes them; read as a stream, any number of times."""

from __future__ import annotations

import threading
from typing import Any, Callable, Dict, Generic, Iterator, List, Optional, Sequence, Tuple, TypeVar

import numpy as np

from slimkit.errors import DataError
from slimkit.recipe.data.dataset import CorruptSample, random_generator
from slimkit.recipe.data.prefetch import ordered_map

__all__ = ["Batch", "Samples", "Stream", "choose", "deal"]

Feed = Dict[str, np.ndarray]
#: A feed, and a label for each of its samples or None.
Batch = Tuple[Feed, Optional[List[Any]]]
T = TypeVar("T")

_SUBSET = 3  # stream of random numbers, see dataset.random_generator
_LISTED = 20  # unreadable files that a report names


class Stream(Generic[T]):
    """An iterable that starts anew each time."""

    def __init__(self, make: Callable[[], Iterator[T]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[T]:
        return self._make()


class Samples:
    """Base: what cannot be read is left out and counted; a thread prepares the next batch.

    A subclass gives :meth:`parts`, the batches to read, and :meth:`load`, which reads one of them.

    Attributes:
        labelled: whether batches come with labels.
        batch_size: what suits the task, where the caller names none.
        fixed: the number of samples the model takes; -1 when it takes any.
    """

    def __init__(
        self, where: str, count: int, *, labelled: bool, batch_size: int, fixed: int = -1, workers: int = 1
    ) -> None:
        """
        Args:
            where: the data, for messages and the report.
            count: samples.
            labelled: whether they have labels.
            batch_size: the default one.
            fixed: the number of samples the model takes; -1 when it takes any.
            workers: threads that prepare batches; 0: none.
        """
        self.fixed = fixed if fixed > 0 else -1
        self.where, self._count, self.labelled, self.batch_size = where, count, labelled, batch_size
        self.notes: List[str] = []
        self._workers = workers
        self._skipped: Dict[str, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._count

    def calibration(self) -> Samples:
        """The samples to calibrate on: those for training, where the data has such a part, else these."""
        return self

    def parts(self, batch_size: int, limit: Optional[int]) -> List[Any]:
        """Deals the samples: what :meth:`load` is called with, a batch each."""
        raise NotImplementedError

    def load(self, part: Any) -> List[Batch]:
        """Reads one part; more than one batch where its samples differ in shape, none where all are unreadable."""
        raise NotImplementedError

    def batches(self, batch_size: Optional[int] = None, limit: Optional[int] = None) -> Iterator[Batch]:
        """Reads the data once, in a fixed order.

        Args:
            batch_size: samples a batch; None: :attr:`batch_size`.
            limit: at most so many samples.

        Yields:
            ``({input name: array}, labels or None)``; shapes may differ between batches.

        Raises:
            DataError: nothing of the data can be read.
        """
        found = False
        size = self.batch_size if batch_size is None else batch_size
        for loaded in ordered_map(self.load, self.parts(max(1, size), limit), self._workers, 1):
            for batch in loaded:
                found = True
                yield batch
        if not found:
            raise DataError(self._nothing())

    def _nothing(self) -> str:
        if not self._skipped:
            return f"{self.where} has no sample; give at least one."
        file, reason = next(iter(self._skipped.items()))
        return (
            f"None of the {len(self._skipped)} images of {self.where} that were tried can be read; the first, {file}, "
            f"{reason}; give images that OpenCV can decode."
        )

    def stream(self, batch_size: Optional[int] = None, limit: Optional[int] = None) -> Stream[Batch]:
        """:meth:`batches` as an iterable that starts anew each time."""
        return Stream(lambda: self.batches(batch_size, limit))

    def feeds(self, batch_size: Optional[int] = None, limit: Optional[int] = None) -> Stream[Feed]:
        """The same without labels, for calibration."""
        return Stream(lambda: (feed for feed, _ in self.batches(batch_size, limit)))

    def skip(self, error: CorruptSample) -> None:
        """Counts a sample that cannot be read; called from any thread."""
        with self._lock:
            self._skipped[error.file] = error.reason

    def report(self) -> Dict[str, Any]:
        """What a run's report says of the data; complete once it has been read."""
        with self._lock:
            skipped = [{"file": file, "reason": reason} for file, reason in sorted(self._skipped.items())]
        notes = list(self.notes)
        if self.fixed > 1:
            notes.append(f"the model takes {self.fixed} samples at a time: a last batch of fewer is left out")
        return {
            "data": self.where,
            "samples": len(self),
            "labelled": self.labelled,
            "skipped": len(skipped),
            "skipped_files": skipped[:_LISTED],
            "notes": notes,
        }


def choose(count: int, limit: Optional[int]) -> List[int]:
    """Returns the indices of at most ``limit`` of ``count`` samples: a fixed random choice, in order."""
    if limit is None or limit >= count:
        return list(range(count))
    return sorted(int(index) for index in random_generator(0, _SUBSET).permutation(count)[: max(1, limit)])


def deal(indices: Sequence[int], batch_size: int, fixed: int) -> List[List[int]]:
    """Cuts indices into batches.

    Args:
        indices: what to cut.
        batch_size: samples a batch, for a model that takes any number.
        fixed: the number of samples the model takes; -1 when it takes any. A last batch of fewer is left out then,
            unless it is the only one.
    """
    step = fixed if fixed > 0 else batch_size
    parts = [list(indices[start : start + step]) for start in range(0, len(indices), step)]
    whole = [part for part in parts if len(part) == step]
    return whole if fixed > 0 and whole else parts
