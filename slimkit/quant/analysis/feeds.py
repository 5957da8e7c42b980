"""Batches cut into small ones, so that the activations of one fit into memory."""

from __future__ import annotations

from typing import Dict, Iterable, List, Mapping, Optional

import numpy as np

from slimkit.errors import DataError
from slimkit.ir.model import Model

__all__ = ["BATCH_VALUES", "Feed", "cut", "sample_count"]

Feed = Dict[str, np.ndarray]

#: Input values in one batch of the measurement: 16 images of 3x48x48, or 2 of 3x224x224.
BATCH_VALUES = 2 * 3 * 224 * 224
_MOST_SAMPLES = 16


def cut(model: Model, feeds: Iterable[Mapping[str, np.ndarray]], limit: Optional[int] = None) -> List[Feed]:
    """Cuts batches into small feeds, a bounded number of values each.

    Args:
        model: whose feeds they are; where its batch size is fixed they stay whole.
        feeds: batches by feed name; read until ``limit`` samples are there.
        limit: samples to take; None: all.

    Raises:
        DataError: there is no sample.
    """
    found: List[Feed] = []
    left = limit
    for feed in feeds:
        if left is not None and left <= 0:
            break
        arrays = {name: np.asarray(value) for name, value in feed.items()}
        if not _batched(model, arrays):
            found.append(arrays)
            left = None if left is None else left - sample_count(arrays)
            continue
        count = sample_count(arrays) if left is None else min(left, sample_count(arrays))
        values = max(1, sum(value[0].size for value in arrays.values())) if count else 1
        size = max(1, min(_MOST_SAMPLES, BATCH_VALUES // values))
        for start in range(0, count, size):
            stop = min(start + size, count)
            found.append({name: value[start:stop] for name, value in arrays.items()})
        left = None if left is None else left - count
    if not found:
        raise DataError("There is no sample to analyze the model on; give at least one.")
    return found


def sample_count(feed: Mapping[str, np.ndarray]) -> int:
    """How many samples a feed holds: the most rows of its arrays."""
    return max((len(value) if value.ndim else 1 for value in feed.values()), default=0)


def _batched(model: Model, arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether every array has a row a sample and the program takes any number of them."""
    block = model.program.global_block()
    shapes = [list(block.var(name).shape) if block.has_var(name) else [] for name in arrays]
    rows = {len(value) if value.ndim else -1 for value in arrays.values()}
    return len(rows) == 1 and all(shape and shape[0] < 0 for shape in shapes)
