"""Helpers around data: a loader whose batches are dicts, a reader that keeps what it read, a file lock."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Sequence, Union

import numpy as np

from slimkit.errors import DataError

__all__ = ["cached_reader", "lock", "unlock", "wrap_dataloader"]


def wrap_dataloader(dataloader: Any, names: Sequence[str]) -> Any:
    """A loader whose batches are dicts by input name.

    Args:
        dataloader: called, it gives an iterator of batches (``paddle.io.DataLoader``, or a function). None stays None;
            one whose batches are dicts already is returned as it is.
        names: of the inputs, in the order of a batch's arrays.

    Returns:
        A function that returns an iterator of ``{name: array}``.

    Raises:
        DataError: a batch has another number of arrays, or there is none.
    """
    if dataloader is None:
        return None
    first = next(iter(dataloader()), None)
    if first is None:
        raise DataError("The data loader gives no batch; give it at least one.")
    if isinstance(first, dict) or (isinstance(first, list) and len(first) == 1 and isinstance(first[0], dict)):
        return dataloader

    def batches() -> Iterator[Dict[str, np.ndarray]]:
        for batch in dataloader():
            arrays = list(batch) if isinstance(batch, (list, tuple)) or len(names) != 1 else [batch]
            if len(arrays) != len(names):
                raise DataError(f"A batch has {len(arrays)} arrays, the model {len(names)} inputs: {', '.join(names)}.")
            yield {name: np.array(array) for name, array in zip(names, arrays)}

    return batches


def cached_reader(
    reader: Callable[[], Any], sampled_rate: Optional[float], cache_path: Union[str, Path], cached_id: int = 0
) -> Callable[[], Iterator[Any]]:
    """A reader that keeps a sample of another one's batches in files and gives the same ones from then on.

    Args:
        reader: returns an iterator of batches.
        sampled_rate: fraction of the batches that is kept, the first always; None: all.
        cache_path: folder of the files.
        cached_id: of the sample; also its seed.
    """
    folder = Path(cache_path) / str(cached_id)
    index = folder / "list"

    def batches() -> Iterator[Any]:
        if index.is_file():
            for name in index.read_text(encoding="utf-8").split():
                yield np.load(folder / name, allow_pickle=True)
            return
        folder.mkdir(parents=True, exist_ok=True)
        draws, names = np.random.RandomState(cached_id), []
        for place, batch in enumerate(reader()):
            if place and sampled_rate is not None and draws.uniform() >= sampled_rate:
                continue
            names.append(f"batch{place}.npy")
            np.save(folder / names[-1], batch)
            yield batch
        index.write_text("\n".join(names) + "\n", encoding="utf-8")

    return batches


def lock(file: Any) -> None:
    """Locks an open file for this process, waiting for it."""
    from fcntl import LOCK_EX, flock

    flock(file.fileno(), LOCK_EX)


def unlock(file: Any) -> None:
    """Gives up :func:`lock`."""
    from fcntl import LOCK_UN, flock

    flock(file.fileno(), LOCK_UN)
