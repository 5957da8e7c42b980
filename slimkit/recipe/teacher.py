"""Batches with another network's outputs in the place of labels."""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional, Tuple

import numpy as np

from slimkit.errors import DataError
from slimkit.recipe.data.dataset import random_generator

__all__ = ["TeacherBatches"]

_ORDER, _CHECK = 1, 4  # streams of random numbers, see dataset.random_generator
Feed = Dict[str, np.ndarray]


class TeacherBatches:
    """Random samples, or random squares of them, and what a network gives for them.

    Everything random is a function of (seed, epoch, step), so that a resumed run sees the same batches.

    Args:
        samples: ``slimkit.recipe.tasks`` samples; labels are not looked at.
        teacher: the network, a ``Model`` of one feed; its first result is taken.
        name: of the feed that gets it.
        batch_size: samples a batch.
        steps: batches in an epoch.
        crop: side of the squares, a multiple of what the network strides; None: whole samples, all of one shape.
        seed: of the choice.
    """

    def __init__(
        self, samples: Any, teacher: Any, name: str, *, batch_size: int, steps: int, crop: Optional[int], seed: int
    ) -> None:
        from slimkit.ir import legacy_ir
        from slimkit.ir.onednn import CONVOLUTIONS, prefer_onednn

        self._samples, self._name, self._crop, self._seed = samples, name, crop, seed
        self._size, self.steps = batch_size, steps
        self._teacher = teacher.clone()
        with legacy_ir():
            prefer_onednn(self._teacher.program, "cpu", CONVOLUTIONS)
        self._parts = samples.parts(1, None)
        self._held: Dict[int, np.ndarray] = {}

    def batches(self, epoch: int = 0, start_step: int = 0) -> Iterator[Feed]:
        """Yields an epoch's batches from a step on."""
        for step in range(start_step, self.steps):
            yield self._batch(random_generator(self._seed, _ORDER, epoch, step), self._size)

    def fixed(self, count: Optional[int]) -> List[Tuple[Feed, np.ndarray]]:
        """Batches to measure on, always the same: (feed, the network's output).

        Args:
            count: samples in all; None: as many as there are.
        """
        left = count or len(self._parts)
        found: List[Tuple[Feed, np.ndarray]] = []
        while left > 0:
            feed = self._batch(random_generator(self._seed, _CHECK, len(found)), min(self._size, left))
            labels = feed.pop(self._name)
            found.append((feed, labels))
            left -= self._size
        return found

    def _batch(self, generator: np.random.Generator, size: int) -> Feed:
        chosen = generator.permutation(len(self._parts))[:size]
        if len(chosen) < size:
            chosen = generator.integers(len(self._parts), size=size)
        images = [self._cut(self._sample(int(index)), generator) for index in chosen]
        if any(image.shape != images[0].shape for image in images):
            raise DataError(
                f"{self._samples.where} has samples of shapes {list(images[0].shape)} and others, which make no batch; "
                "set samples.crop, or samples.batch_size=1."
            )
        feed = {self._teacher.feeds[0]: np.stack(images)}
        return {**feed, self._name: self._teacher.run(feed)[0]}

    def _sample(self, index: int) -> np.ndarray:
        """A sample, kept as float16: a few hundred pages fit into memory."""
        if index not in self._held:
            loaded = self._samples.load(self._parts[index])
            if not loaded:
                raise DataError(f"A sample of {self._samples.where} cannot be read; repair or remove it.")
            self._held[index] = next(iter(loaded[0][0].values()))[0].astype(np.float16)
        return self._held[index].astype(np.float32)

    def _cut(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """A random square; what a small image lacks is zero."""
        side = self._crop
        if side is None:
            return image
        top, left = (int(generator.integers(max(1, length - side + 1))) for length in image.shape[1:])
        part = image[:, top : top + side, left : left + side]
        missing = [(0, 0), (0, side - part.shape[1]), (0, side - part.shape[2])]
        return np.pad(part, missing)
