"""Arrays, fed as they are: ``FILE.npy``, ``FILE.npz`` with an array for each input, or a folder of them."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from slimkit.errors import DataError
from slimkit.recipe.tasks.class_metric import ClassMetric
from slimkit.recipe.tasks.guess import ARRAYS
from slimkit.recipe.tasks.samples import Batch, Samples
from slimkit.recipe.tasks.signature import Signature, TensorSpec
from slimkit.recipe.tasks.task import Metric, Task

__all__ = ["ArraySamples", "ArrayTask"]

LABEL = "label"


class ArrayTask(Task):
    """Arrays as the model takes them, the first side counting the samples."""

    name = "array"

    def __init__(self, signature: Signature, *, batch_size: int = 8) -> None:
        """
        Args:
            signature: the model's.
            batch_size: samples a batch, where the caller names none.
        """
        super().__init__(signature)
        self._batch_size = batch_size
        self.headline = "top1" if signature.scores_classes else ""

    def open(self, path: str) -> Samples:
        return ArraySamples(_files(Path(path).expanduser()), path, self.signature, self._batch_size)

    def metric(self) -> Optional[Metric]:
        return ClassMetric() if self.signature.scores_classes else None


def _files(path: Path) -> List[Path]:
    if not path.exists():
        raise DataError(f"{path} does not exist; give a FILE.npy, a FILE.npz or a folder of them.")
    if not path.is_dir():
        return [path]
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in ARRAYS and p.name[0] != ".")
    if not files:
        raise DataError(f"{path} holds no .npy or .npz file; give arrays as the model takes them.")
    return files


@dataclass(frozen=True)
class _Part:
    """Rows of one file; ``single``: the file is one sample without the side that counts samples."""

    file: int
    start: int
    stop: int
    single: bool


class ArraySamples(Samples):
    """Rows of array files; of a ``.npy`` only what a batch needs is read, of ``.npz`` one file at a time."""

    def __init__(self, files: List[Path], where: str, signature: Signature, batch_size: int) -> None:
        """Reads the files' headers.

        Raises:
            DataError: a file is damaged, lacks an input, or has another shape or type than the model's input.
        """
        self._files, self._inputs = files, signature.inputs
        self._rows: List[Tuple[int, bool]] = []
        labels = []
        self._casts: Dict[str, str] = {}
        self._last: Tuple[Optional[Path], Mapping[str, np.ndarray]] = (None, {})
        for file in files:
            arrays = self._open(file)
            self._rows.append(self._check(arrays, file))
            labels.append(LABEL in arrays)
        count = sum(rows for rows, _ in self._rows)
        super().__init__(where, count, labelled=all(labels), batch_size=batch_size, fixed=signature.samples)
        self.notes += [f"{name}: converted from {cast}" for name, cast in self._casts.items()]
        if not len(self):
            raise DataError(f"{where} has no sample: its first side is 0.")

    def _open(self, file: Path) -> Mapping[str, np.ndarray]:
        """The file's arrays by input name, and ``label``; mapped, not read, where the format allows it."""
        try:
            found = np.load(file, mmap_mode="r", allow_pickle=False)
            arrays = found if isinstance(found, np.ndarray) else {name: found[name] for name in found.files}
        except FileNotFoundError:
            raise DataError(f"{file} does not exist; give a FILE.npy or FILE.npz.") from None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            told = str(error)
            python = "pickle" in told or "Python objects" in told
            why = "it holds Python objects or is of another kind" if python else told
            raise DataError(f"{file} is no array file that numpy can read ({why}); write it with np.save.") from None
        names = [spec.name for spec in self._inputs]
        if isinstance(arrays, np.ndarray):
            if len(names) != 1:
                raise DataError(
                    f"{file} holds one array, but the model has the inputs {', '.join(names)}; give a FILE.npz with an "
                    "array of each name."
                )
            return {names[0]: arrays}
        others = [name for name in arrays if name != LABEL]
        if len(names) == 1 and names[0] not in arrays and len(others) == 1:
            return {names[0] if name == others[0] else name: array for name, array in arrays.items()}
        missing = [name for name in names if name not in arrays]
        if missing:
            raise DataError(
                f"{file} has no array named {missing[0]}; it has {', '.join(arrays) or 'none'}, and the model's inputs "
                f"are {', '.join(names)}."
            )
        return arrays

    def _check(self, arrays: Mapping[str, np.ndarray], file: Path) -> Tuple[int, bool]:
        """Returns how many samples the file has, and whether it is one without the side that counts them."""
        first = arrays[self._inputs[0].name]
        single = first.ndim + 1 == len(self._inputs[0].shape) and self._inputs[0].takes((1, *first.shape))
        counts = set()
        for spec in self._inputs:
            array = arrays[spec.name]
            shape = (1, *array.shape) if single else array.shape
            if not spec.takes(shape):
                raise DataError(_misfit(spec, array.shape, file))
            if not _castable(array.dtype, spec.dtype):
                raise DataError(
                    f"{file}: the array for '{spec.name}' is {array.dtype}, but the model takes {spec.dtype}; convert "
                    "it, prepared as in training."
                )
            if array.dtype != spec.dtype:
                self._casts[spec.name] = f"{array.dtype} to {spec.dtype}"
            counts.add(shape[0] if shape else 1)
        if LABEL in arrays:
            counts.add(1 if single else len(np.atleast_1d(arrays[LABEL])))
        if len(counts) > 1:
            raise DataError(f"{file}: its arrays differ in their number of samples, {sorted(counts)}; make them equal.")
        return counts.pop(), single

    def parts(self, batch_size: int, limit: Optional[int]) -> List[_Part]:
        step = self.fixed if self.fixed > 0 else batch_size
        left = len(self) if limit is None else limit
        parts: List[_Part] = []
        for index, (rows, single) in enumerate(self._rows):
            rows = min(rows, left)
            left -= rows
            parts += [_Part(index, start, min(start + step, rows), single) for start in range(0, rows, step)]
        whole = [part for part in parts if part.stop - part.start == step]
        return whole if self.fixed > 0 and whole else parts

    def load(self, part: _Part) -> List[Batch]:
        file, arrays = self._last
        if file != self._files[part.file]:
            file = self._files[part.file]
            arrays = self._open(file)
            self._last = (file, arrays)
        rows = slice(part.start, part.stop)
        feed = {}
        for spec in self._inputs:
            array = arrays[spec.name][None] if part.single else arrays[spec.name][rows]
            feed[spec.name] = np.ascontiguousarray(array, spec.dtype)
        labels: Optional[List[Any]] = None
        if self.labelled:
            labels = list(np.asarray(arrays[LABEL]).reshape(-1)) if part.single else list(arrays[LABEL][rows])
        return [(feed, labels)]


def _castable(given: np.dtype, wanted: np.dtype) -> bool:
    """Whether a type may be converted without a question: one float to another, one integer to another."""
    integers = given.kind in "iu" and wanted.kind in "iu"
    return given == wanted or (given.kind == wanted.kind == "f") or integers


def _misfit(spec: TensorSpec, shape: Tuple[int, ...], file: Path) -> str:
    text = f"{file}: the array for '{spec.name}' has shape {shape}, but the model takes {spec.text}"
    for rank in (3, 4):
        moved = (*shape[: rank - 3], shape[-1], *shape[-3:-1]) if len(shape) == rank else ()
        if moved and spec.takes(moved if rank == 4 else (1, *moved)):
            return f"{text}; its channels come last: transpose it, in numpy with np.moveaxis(array, -1, -3)."
    return f"{text}; give arrays of that shape, the first side counting the samples."
