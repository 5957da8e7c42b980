"""The base of every dataset: order, batches, prefetch, and what happens to a sample that cannot be read.

Everything random is a pure function of (seed, epoch, index), so a run that resumes at a step sees the
same batches, bit for bit, as one that was never interrupted, whatever the number of workers.
"""

from __future__ import annotations

import threading
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import numpy as np

from slimkit.errors import DataError
from slimkit.recipe.data.prefetch import ordered_map

__all__ = ["Batch", "CorruptSample", "Dataset", "random_generator"]

Batch = Dict[str, np.ndarray]

# Streams of random numbers that must not repeat each other: first entropy word after the seed.
_ORDER, _AUGMENT, _SUBSET = 1, 2, 3


class CorruptSample(DataError):
    """One sample cannot be read; ``data.on_corrupt`` says whether that ends the run."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file} {reason}; repair or remove it, or set data.on_corrupt=skip to leave such images out.")
        self.file, self.reason = file, reason


def random_generator(seed: int, stream: int, *words: int) -> np.random.Generator:
    """Returns a generator that depends on its arguments alone, never on global state."""
    return np.random.default_rng([seed, stream, *words])


class Dataset:
    """Labelled images, dealt in batches.

    A subclass implements :meth:`sample`; the rest is here.

    Attributes:
        steps: batches in an epoch.
        class_names: one name a class.
    """

    kind = ""

    def __init__(
        self,
        count: int,
        class_names: Sequence[str],
        *,
        train: bool,
        batch_size: int,
        seed: int = 0,
        drop_last: bool = False,
        limit: Optional[int] = None,
        workers: int = 0,
        prefetch: int = 4,
        on_corrupt: str = "refuse",
    ) -> None:
        """
        Args:
            count: samples that :meth:`sample` has.
            class_names: one name a class.
            train: shuffle each epoch and augment.
            batch_size: samples a batch.
            seed: of the order, the augmentation and the choice made by ``limit``.
            drop_last: leave out a last batch that is not full.
            limit: use only so many samples, a fixed random choice.
            workers: threads that prepare batches; 0 prepares them in the caller's thread.
            prefetch: batches prepared ahead.
            on_corrupt: ``refuse`` raises on an unreadable sample, ``skip`` leaves it out and counts it.

        Raises:
            DataError: no samples, or fewer than a batch with ``drop_last``.
        """
        if count == 0:
            raise DataError(f"The {self._part(train)} set of {self.kind} is empty; it needs at least one image.")
        self.train, self.batch_size, self.seed = train, batch_size, seed
        self.class_names = list(class_names)
        self._indices = self._choose(count, limit, seed)
        self._workers, self._prefetch, self._on_corrupt = workers, prefetch, on_corrupt
        self._skipped: Dict[str, str] = {}
        self._lock = threading.Lock()
        full, rest = divmod(len(self._indices), batch_size)
        self.steps = full if drop_last else full + bool(rest)
        if self.steps == 0:
            raise DataError(
                f"The {self._part(train)} set has {len(self._indices)} images, fewer than data.batch_size = "
                f"{batch_size}; set a smaller batch size, or data.drop_last=false."
            )

    @staticmethod
    def _part(train: bool) -> str:
        return "training" if train else "test"

    @staticmethod
    def _choose(count: int, limit: Optional[int], seed: int) -> np.ndarray:
        if limit is None or limit >= count:
            return np.arange(count)
        return np.sort(random_generator(seed, _SUBSET).permutation(count)[:limit])

    def __len__(self) -> int:
        return len(self._indices)

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    def sample(self, index: int, generator: Optional[np.random.Generator]) -> Tuple[np.ndarray, int]:
        """Returns image ``index`` and its label.

        Args:
            index: from 0 to the ``count`` given to the constructor.
            generator: of the augmentation; None for none.

        Returns:
            The image, float32 of shape (3, H, W), normalised; and the label.

        Raises:
            CorruptSample: it cannot be read.
        """
        raise NotImplementedError

    def order(self, epoch: int) -> np.ndarray:
        """Returns the samples' indices in the order of an epoch (shuffled when training)."""
        if not self.train:
            return self._indices
        return random_generator(self.seed, _ORDER, epoch).permutation(self._indices)

    def batches(self, epoch: int = 0, start_step: int = 0) -> Iterator[Batch]:
        """Deals an epoch's batches.

        Args:
            epoch: decides order and augmentation, together with the seed.
            start_step: batches to leave out at the beginning, without reading them.

        Yields:
            ``{"image": float32 (N, 3, H, W), "label": int64 (N, 1)}``. With ``on_corrupt="skip"`` a batch
            may be smaller than ``batch_size``, and one with no readable image is left out.

        Raises:
            DataError: a sample cannot be read and ``on_corrupt`` is ``refuse``.
        """
        order = self.order(epoch)
        size = self.batch_size
        parts = [order[step * size : (step + 1) * size] for step in range(start_step, self.steps)]
        for batch in ordered_map(lambda part: self._batch(part, epoch), parts, self._workers, self._prefetch):
            if batch is not None:
                yield batch

    def _batch(self, indices: np.ndarray, epoch: int) -> Optional[Batch]:
        images: List[np.ndarray] = []
        labels: List[int] = []
        for index in map(int, indices):
            generator = random_generator(self.seed, _AUGMENT, epoch, index) if self.train else None
            try:
                image, label = self.sample(index, generator)
            except CorruptSample as error:
                if self._on_corrupt != "skip":
                    raise
                with self._lock:
                    self._skipped[error.file] = error.reason
                continue
            images.append(image)
            labels.append(label)
        if not images:
            return None
        return {"image": np.stack(images), "label": np.array(labels, np.int64).reshape(-1, 1)}

    def report(self) -> Dict[str, Any]:
        """Returns what the run's report says of this dataset; complete once an epoch has been read."""
        with self._lock:
            skipped = [{"file": file, "reason": reason} for file, reason in sorted(self._skipped.items())]
        return {"kind": self.kind, "samples": len(self), "classes": self.num_classes, "skipped": skipped}
