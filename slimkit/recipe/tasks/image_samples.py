"""Images on disk as samples: found, decoded, prepared, stacked where they have one shape."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Hashable, List, Optional, Sequence, Tuple

import numpy as np

from slimkit.errors import DataError
from slimkit.recipe.data.dataset import CorruptSample
from slimkit.recipe.data.image_folder import decode
from slimkit.recipe.data.image_index import EXTENSIONS
from slimkit.recipe.tasks.samples import Batch, Samples, choose, deal
from slimkit.recipe.tasks.signature import TensorSpec

__all__ = ["Entry", "ImageSamples", "Preparation", "images_below"]

_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap the sides
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Entry:
    """An image and its label, None where it has none."""

    path: Path
    label: Any = None


@dataclass(frozen=True)
class Preparation:
    """How a task makes feeds of images.

    Attributes:
        prepare: decoded images (uint8, H, W, 3, blue-green-red) of a batch -> arrays (C, H', W').
        group: (height, width) of an image file -> a key; images of one batch have one key. None: all may mix.
        order: (height, width) -> what images are sorted by before they are dealt. None: by name.
        extra: sizes as decoded, sizes as fed -> what further inputs get: name -> an array for each image.
        label: an image's label and its (height, width) -> the label that the metric takes.
    """

    prepare: Callable[[List[np.ndarray]], List[np.ndarray]]
    group: Optional[Callable[[Tuple[int, int]], Hashable]] = None
    order: Optional[Callable[[Tuple[int, int]], float]] = None
    extra: Optional[Callable[[List[Tuple[int, int]], List[Tuple[int, int]]], Dict[str, np.ndarray]]] = None
    label: Callable[[Any, Tuple[int, int]], Any] = lambda label, _: label


class ImageSamples(Samples):
    """Image files, read when a batch is asked for."""

    def __init__(
        self,
        entries: Sequence[Entry],
        where: str,
        spec: TensorSpec,
        preparation: Preparation,
        *,
        batch_size: int,
        notes: Sequence[str] = (),
        workers: int = 1,
    ) -> None:
        """
        Args:
            entries: images with their labels; all have one or none has.
            where: the data, for messages.
            spec: the model's input.
            preparation: the task's.
            batch_size: the default one.
            notes: what the report shall say of the choice of images.
            workers: threads that prepare batches.
        """
        labelled = bool(entries) and all(entry.label is not None for entry in entries)
        super().__init__(
            where, len(entries), labelled=labelled, batch_size=batch_size, fixed=spec.shape[0], workers=workers
        )
        self._entries, self._spec, self._preparation = list(entries), spec, preparation
        self.training: Optional[ImageSamples] = None
        self.notes += notes

    def calibration(self) -> Samples:
        return self.training or self

    def parts(self, batch_size: int, limit: Optional[int]) -> List[List[int]]:
        """Deals the images: sorted and grouped as the task wants, which reads the files' headers."""
        rule = self._preparation
        chosen = choose(len(self), limit)
        if rule.order is None and rule.group is None:
            groups: Dict[Hashable, List[int]] = {None: chosen}
        else:
            sizes = {index: header_size(self._entries[index].path) for index in chosen}
            if rule.order is not None:
                order = rule.order
                chosen.sort(key=lambda index: order(sizes[index]))
            groups = {}
            for index in chosen:
                groups.setdefault(rule.group(sizes[index]) if rule.group else None, []).append(index)
        return [part for group in groups.values() for part in deal(group, batch_size, self.fixed)]

    def load(self, part: List[int]) -> List[Batch]:
        images, labels = [], []
        for index in part:
            entry = self._entries[index]
            try:
                image = decode(str(entry.path))
            except CorruptSample as error:
                self.skip(error)
                continue
            images.append(image)
            labels.append(self._preparation.label(entry.label, image.shape[:2]) if self.labelled else None)
        if not images:
            return []
        arrays, extra = self._preparation.prepare(images), self._preparation.extra
        sizes = [(image.shape[0], image.shape[1]) for image in images]
        more = extra(sizes, [(array.shape[1], array.shape[2]) for array in arrays]) if extra else {}
        return self._stacked(arrays, more, labels)

    def _stacked(self, arrays: List[np.ndarray], more: Dict[str, np.ndarray], labels: List[Any]) -> List[Batch]:
        """One batch for each shape that there is."""
        by_shape: Dict[Tuple[int, ...], List[int]] = {}
        for index, array in enumerate(arrays):
            by_shape.setdefault(array.shape, []).append(index)
        return [
            (
                {
                    self._spec.name: np.stack([arrays[index] for index in indices]),
                    **{name: array[indices] for name, array in more.items()},
                },
                [labels[index] for index in indices] if self.labelled else None,
            )
            for indices in by_shape.values()
        ]


def header_size(path: Path) -> Tuple[int, int]:
    """Reads an image's (height, width) from its header, as it is decoded (turned by EXIF); (0, 0) if unreadable."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            width, height = image.size
            told = image.format != "PNG" or "exif" in image.info  # a PNG's is looked for by decoding it whole
            turned = told and image.getexif().get(_ORIENTATION) in _TURNED
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return 0, 0
    return (width, height) if turned else (height, width)


def images_below(folder: Path) -> List[Path]:
    """Lists a folder's images, and those of the folders in it, in sorted order.

    Raises:
        DataError: it does not exist or holds no image.
    """
    if not folder.exists():
        raise DataError(f"{folder} does not exist; give a folder of images, a FILE.npy or a FILE.npz.")
    if folder.is_file():
        return [folder]
    found = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in EXTENSIONS and p.name[0] != "."]
    if not found:
        empty = "is empty" if not any(folder.iterdir()) else "holds no image"
        raise DataError(f"The folder {folder} {empty}; the formats read are {', '.join(EXTENSIONS)}.")
    return found
