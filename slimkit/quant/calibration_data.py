"""PaddleSlim's three kinds of calibration data as one iterable of feeds.

``sample_generator`` yields samples, ``batch_generator`` batches, both are functions that return an iterator; samples
that have a batch dimension already (PaddleOCR's and PaddleClas's scripts yield such) are put together along it.
``data_loader`` is a ``paddle.io.DataLoader`` or anything that can be iterated over. An item is one array, a list or
tuple in the order of the model's inputs (what follows them, such as labels, is left out), or a dict by input name.
"""

from __future__ import annotations

import warnings
from itertools import islice
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from slimkit.errors import ConfigError, DataError
from slimkit.ir.model import Model

__all__ = ["CalibrationFeeds"]


class CalibrationFeeds:
    """Feeds ``{input name: array}`` out of one source; iterating again starts anew where the source can.

    Args:
        model: whose inputs are fed; arrays get their dtypes.
        sample_generator, batch_generator, data_loader: one of them; beside a ``data_loader`` the others are not read.
        batch_size: samples put together in one batch of a ``sample_generator``.
        batch_nums: how many batches to take; None: all.

    Raises:
        ConfigError: none or several sources, or a number below one.
    """

    def __init__(
        self,
        model: Model,
        sample_generator: Any = None,
        batch_generator: Any = None,
        data_loader: Any = None,
        batch_size: int = 1,
        batch_nums: Optional[int] = None,
    ) -> None:
        sources = {
            "sample_generator": sample_generator,
            "batch_generator": batch_generator,
            "data_loader": data_loader,
        }
        given = [name for name, source in sources.items() if source is not None]
        if len(given) > 1 and data_loader is not None:  # as PaddleSlim 2.6, whose own scripts give two
            warnings.warn(f"{given[0]} is not read: the calibration data comes from data_loader.", stacklevel=3)
            given = ["data_loader"]
        if len(given) != 1:
            raise ConfigError(
                f"Calibration data came from {' and '.join(given) or 'nowhere'}; give exactly one of "
                f"{', '.join(sources)}."
            )
        if batch_size < 1 or (batch_nums is not None and batch_nums < 1):
            raise ConfigError(f"batch_size = {batch_size}, batch_nums = {batch_nums}: both are at least 1.")
        self.kind = given[0]
        self.source = sources[self.kind]
        self.batch_size, self.batch_nums = batch_size, batch_nums
        self.names = list(model.feeds)
        block = model.program.global_block()
        self.dtypes = {name: _numpy_dtype(block.var(name).dtype) for name in self.names}
        self.shapes = {name: tuple(block.var(name).shape) for name in self.names}
        if not callable(self.source) and hasattr(self.source, "__next__"):
            self.source = _Remembered(self.source)

    def __iter__(self) -> Iterator[Dict[str, np.ndarray]]:
        source = self.source() if callable(self.source) and not hasattr(self.source, "__iter__") else self.source
        if not hasattr(source, "__iter__") and hasattr(source, "__getitem__") and hasattr(source, "__len__"):
            source = map(source.__getitem__, range(len(source)))  # a paddle.io.Dataset
        if not hasattr(source, "__iter__"):
            raise DataError(
                f"{self.kind} gives {type(source).__name__}, which cannot be iterated over; give a function that "
                "yields items, a paddle.io.DataLoader or a list."
            )
        items = (self._named(item) for item in source)
        batches = _batched(items, self.batch_size, self.shapes) if self.kind == "sample_generator" else items
        return islice(batches, self.batch_nums)

    def _named(self, item: Any) -> Dict[str, np.ndarray]:
        if isinstance(item, (list, tuple)) and len(item) == 1 and isinstance(item[0], Mapping):
            item = item[0]  # a static DataLoader gives one dict for each device
        if isinstance(item, Mapping):
            missing = [name for name in self.names if name not in item]
            if missing:
                raise DataError(
                    f"An item of {self.kind} lacks the input {missing[0]}; it has {', '.join(map(str, item))} and the "
                    f"model's inputs are {', '.join(self.names)}."
                )
            return {name: self._array(name, item[name]) for name in self.names}
        values: Sequence[Any] = item if isinstance(item, (list, tuple)) else [item]
        if len(values) < len(self.names):
            raise DataError(
                f"An item of {self.kind} has {len(values)} arrays and the model {len(self.names)} inputs "
                f"({', '.join(self.names)}); yield one array for each, or a dict."
            )
        return {name: self._array(name, value) for name, value in zip(self.names, values)}

    def _array(self, name: str, value: Any) -> np.ndarray:
        try:
            found = np.asarray(np.array(value), self.dtypes[name])
        except (TypeError, ValueError) as error:
            raise DataError(
                f"An item of {self.kind} for the input {name} is no array of {self.dtypes[name]}: {error}; yield numpy "
                "arrays or Paddle tensors."
            ) from None
        if not found.size:
            raise DataError(
                f"An item of {self.kind} for the input {name} is empty, its shape is {found.shape}; yield batches of "
                "one sample or more."
            )
        return found


class _Remembered:
    """A generator object that can be iterated over again: what it gave is kept."""

    def __init__(self, source: Iterator[Any]) -> None:
        self.source = source
        self.held: List[Any] = []

    def __iter__(self) -> Iterator[Any]:
        yield from list(self.held)
        for item in self.source:
            self.held.append(item)
            yield item


def _batched(
    samples: Iterator[Dict[str, np.ndarray]], size: int, shapes: Mapping[str, Tuple[int, ...]]
) -> Iterator[Dict[str, np.ndarray]]:
    while True:
        taken = list(islice(samples, size))
        if not taken:
            return
        yield {name: _stacked(name, [sample[name] for sample in taken], shapes[name]) for name in taken[0]}


def _stacked(name: str, values: List[np.ndarray], declared: Tuple[int, ...]) -> np.ndarray:
    """One batch of an input.

    Samples may have the batch dimension already, with any size; those of another rank than a sample of the input
    take its shape if they have its size, as in Paddle's ``DataFeeder`` (784 pixels for 1, 28, 28; a label for 1).
    """
    whole = all(value.ndim == len(declared) for value in values)
    shapes = {value.shape[1:] if whole else value.shape for value in values}
    if len(shapes) > 1:
        raise DataError(
            f"Samples of the input {name} have the shapes {', '.join(map(str, sorted(shapes)))} in one batch; use "
            "batch_size=1 or make them of one size."
        )
    batch = np.concatenate(values) if whole else np.stack(values)
    sample = declared[1:]
    if batch.ndim != len(declared) and min(sample, default=1) > 0 and values[0].size == np.prod(sample, dtype=int):
        batch = batch.reshape(len(values), *sample)
    return batch


def _numpy_dtype(dtype: Any) -> np.dtype:
    """The numpy dtype of a variable; float32 for those numpy has none for."""
    name = str(dtype).rsplit(".", 1)[-1].lower()
    names = {"fp32": "float32", "fp64": "float64", "fp16": "float16", "bf16": "float32", "bfloat16": "float32"}
    try:
        return np.dtype(names.get(name, name))
    except TypeError:
        return np.dtype("float32")
