"""Batches of samples in any accepted form: counted, checked, cut to a size."""

from __future__ import annotations

from typing import Dict, List, Mapping, Optional, Sequence

import numpy as np

from slimkit.deploy.session import Feed, named_feed
from slimkit.errors import DataError

__all__ = ["check_batches", "one_batch", "rows_of"]


def one_batch(batches: Sequence[Feed], size: int) -> Dict[str, np.ndarray]:
    """The first ``size`` samples as one batch; repeats them when there are fewer."""
    first = batches[0]
    names = list(first) if isinstance(first, Mapping) else [str(i) for i in range(_inputs_of(first))]
    gathered: Dict[str, List[np.ndarray]] = {name: [] for name in names}
    have = 0
    for batch in batches:
        for name, array in named_feed(batch, names).items():
            gathered[name].append(array)
        have += rows_of(batch)
        if have >= size:
            break
    joined = {name: np.concatenate(arrays) for name, arrays in gathered.items()}
    take = np.arange(size) % have
    full = {name: array[take] for name, array in joined.items()}
    return full if isinstance(first, Mapping) else list(full.values())  # type: ignore[return-value]


def _inputs_of(batch: Feed) -> int:
    return 1 if isinstance(batch, np.ndarray) else len(batch)


def rows_of(batch: Feed) -> int:
    """How many samples a batch has."""
    arrays = list(batch.values()) if isinstance(batch, Mapping) else [batch]
    return len(arrays[0] if isinstance(batch, (np.ndarray, Mapping)) else batch[0])  # type: ignore[index]


def check_batches(batches: Sequence[Feed], labels: Optional[Sequence[np.ndarray]]) -> None:
    """Raises DataError when there are no samples, or labels do not fit them."""
    if not batches:
        raise DataError("There are no samples to verify with; give at least one batch.")
    if labels is None:
        return
    if len(labels) != len(batches):
        raise DataError(f"There are {len(batches)} batches of samples and {len(labels)} of labels; give one for each.")
    for index, (batch, label) in enumerate(zip(batches, labels)):
        if len(label) != rows_of(batch):
            raise DataError(f"Batch {index} has {rows_of(batch)} samples and {len(label)} labels.")
