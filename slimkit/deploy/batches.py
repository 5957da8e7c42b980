"""Batches of samples in any accepted form: a stream that is read again, checked, cut to a size."""

from __future__ import annotations

from itertools import zip_longest
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from slimkit.deploy.session import Feed, named_feed
from slimkit.errors import DataError

__all__ = ["Batch", "Samples", "check_shapes", "one_batch", "rows_of"]

#: A feed, or a tuple of a feed and its labels.
Batch = Union[Feed, Tuple[Feed, Any]]
_END = object()


class Samples:
    """Batches as ``(feed, labels)``, one at a time; iterating again starts anew.

    Args:
        samples: batches, re-iterable: a list, or an object whose ``__iter__`` reads the data anew. Each is a tuple
            ``(feed, labels)`` or a feed alone; a feed is a dict by input name, a list in input order, or one array.
            Shapes may differ between batches.
        labels: each batch's labels, where the batches do not bring them.

    Raises:
        DataError: ``samples`` can be read only once; while reading: there are none, they hold NaN, or the labels do
            not fit them.
    """

    def __init__(self, samples: Iterable[Batch], labels: Optional[Iterable[Any]] = None) -> None:
        if iter(samples) is samples:
            raise DataError(
                "The samples can be read only once and are read several times; give a list, or an object whose "
                "__iter__ starts anew."
            )
        self._samples, self._labels = samples, labels

    def __iter__(self) -> Iterator[Tuple[Feed, Optional[Sequence[Any]]]]:
        if self._labels is None:
            pairs: Iterable[Tuple[Feed, Any]] = (_pair(batch) for batch in self._samples)
        else:
            pairs = self._zipped(self._labels)
        index = -1
        for index, (feed, labels) in enumerate(pairs):
            _refuse_nan(feed, index)
            if labels is not None and len(labels) != rows_of(feed):
                raise DataError(f"Batch {index} has {rows_of(feed)} samples and {len(labels)} labels.")
            yield feed, labels
        if index < 0:
            raise DataError("There are no samples to verify with; give at least one batch.")

    def _zipped(self, labels: Iterable[Any]) -> Iterator[Tuple[Feed, Any]]:
        for index, (batch, label) in enumerate(zip_longest(self._samples, labels, fillvalue=_END)):
            if batch is _END or label is _END:
                what = "labels but no samples" if batch is _END else "samples but no labels"
                raise DataError(f"Batch {index} has {what}; give labels for each batch, and no more.")
            yield batch, label  # type: ignore[misc]


def _refuse_nan(feed: Feed, index: int) -> None:
    arrays = feed if isinstance(feed, Mapping) else dict(enumerate([feed] if isinstance(feed, np.ndarray) else feed))
    for name, array in arrays.items():
        if np.asarray(array).dtype.kind == "f" and np.isnan(array).any():
            raise DataError(f"Batch {index} of the data holds NaN in input '{name}'; check how it was prepared.")


def _pair(batch: Batch) -> Tuple[Feed, Any]:
    return batch if isinstance(batch, tuple) and len(batch) == 2 else (batch, None)


def one_batch(samples: Iterable[Tuple[Feed, Any]], size: int) -> Feed:
    """The first ``size`` samples as one batch, of one shape: that of the first batch.

    Reads on while the batches have that shape; repeats what there is when it is fewer.
    """
    gathered: Dict[str, List[np.ndarray]] = {}
    first: Optional[Feed] = None
    have, names = 0, []  # type: Tuple[int, List[str]]
    for feed, _ in samples:
        if first is None:
            first = feed
            names = list(feed) if isinstance(feed, Mapping) else [str(i) for i in range(_inputs_of(feed))]
        arrays = named_feed(feed, names)
        if gathered and any(arrays[name].shape[1:] != gathered[name][0].shape[1:] for name in names):
            break
        for name, array in arrays.items():
            gathered.setdefault(name, []).append(array)
        have += rows_of(feed)
        if have >= size:
            break
    joined = {name: np.concatenate(arrays) for name, arrays in gathered.items()}
    full = {name: array[np.arange(size) % have] for name, array in joined.items()}
    return full if isinstance(first, Mapping) else list(full.values())


def _inputs_of(feed: Feed) -> int:
    return 1 if isinstance(feed, np.ndarray) else len(feed)


def rows_of(feed: Feed) -> int:
    """How many samples a feed has."""
    arrays = list(feed.values()) if isinstance(feed, Mapping) else [feed]
    return len(arrays[0] if isinstance(feed, (np.ndarray, Mapping)) else feed[0])  # type: ignore[index]


def check_shapes(feed: Feed, inputs: Mapping[str, Sequence[int]], model: str) -> None:
    """Refuses data that a model cannot take.

    Args:
        feed: the first batch.
        inputs: the model's input -> shape, with -1 where a side is open; the batch's own side is not checked.
        model: the model, for the message.

    Raises:
        DataError: an input is missing, empty, or has another rank or another side than the model's.
    """
    for name, array in named_feed(feed, list(inputs)).items():
        shape = list(inputs[name])
        same = array.ndim == len(shape) and all(b in (-1, a) for a, b in zip(array.shape[1:], shape[1:]))
        if not array.size or not same:
            wanted = ", ".join("any" if side < 0 else str(side) for side in shape)
            raise DataError(
                f"The data's input '{name}' has shape {array.shape}, but {model} takes ({wanted}); "
                "give data that was prepared for this model."
            )
