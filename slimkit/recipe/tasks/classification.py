"""Classification: folders of images prepared as PaddleClas evaluates ImageNet, and Fashion-MNIST."""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple, Union

import numpy as np

from slimkit.errors import DataError
from slimkit.recipe.data import transforms
from slimkit.recipe.data.image_folder import MEAN, STD
from slimkit.recipe.tasks.class_metric import ClassMetric
from slimkit.recipe.tasks.image_samples import Entry, ImageSamples, Preparation, images_below
from slimkit.recipe.tasks.labels import Found, find_entries
from slimkit.recipe.tasks.pixels import GREY_MEAN, GREY_STD, Normaliser, sides
from slimkit.recipe.tasks.samples import Samples
from slimkit.recipe.tasks.signature import Signature
from slimkit.recipe.tasks.task import Metric, Task

__all__ = ["ClassificationTask"]

LABEL_FILES = ("val_list.txt", "labels.txt", "label.txt", "test_list.txt", "train_list.txt")
FORM = "path label"
PARTS = ("val", "validation", "test", "train")


class ClassificationTask(Task):
    """Images to classes: short side resized, centre cut out, normalised."""

    name = "classification"
    headline = "top1"

    def __init__(
        self,
        signature: Signature,
        *,
        size: Union[int, Sequence[int], None] = None,
        resize_short: Optional[int] = None,
        mean: Optional[Sequence[float]] = None,
        std: Optional[Sequence[float]] = None,
        channel_order: str = "rgb",
        labels: Optional[str] = None,
        batch_size: int = 16,
    ) -> None:
        """
        Args:
            signature: the model's.
            size: of the model's input, a number or [height, width]; None: the model's own, else 224.
            resize_short: short side before the centre crop; None: 256/224 of the longer side of ``size``.
            mean: of x/255 by channel; None: ImageNet's (Fashion-MNIST's for ``fashion_mnist``).
            std: of x/255 by channel; None: likewise.
            channel_order: ``rgb`` or ``bgr``.
            labels: file of `path label` lines; None: looked for; "none": no labels.
            batch_size: images a batch, where the caller names none.
        """
        super().__init__(signature)
        self._spec = signature.image(self.name)
        height, width = self._spec.shape[2:]
        self._static = height > 0 and width > 0
        self._size = sides(size) if size is not None else ((height, width) if self._static else None)
        if self._size and not self._spec.takes((1, self._spec.shape[1], *self._size)):
            raise DataError(f"size is {list(self._size)}, but the model's input '{self._spec.name}' takes "
                            f"{self._spec.text}; leave size out.")  # fmt: skip
        self._short, self._labels, self._batch_size = resize_short, labels, batch_size
        self._mean, self._std, self._order = mean, std, channel_order

    def open(self, path: str) -> Samples:
        if path == "fashion_mnist":
            from slimkit.recipe.tasks.fashion import CLASS_NAMES, FashionSamples

            if self.signature.classes not in (-1, len(CLASS_NAMES)):
                raise DataError(
                    f"fashion_mnist has {len(CLASS_NAMES)} classes, but the model has {self.signature.classes}; give "
                    "data of the model's own kind."
                )
            channels = self._spec.shape[1] if self._spec.shape[1] > 0 else 3
            return FashionSamples(self._spec, self._size or (48, 48), self._mean, self._std, channels, self._batch_size)
        root = Path(path).expanduser()
        samples = self._samples(self._find(path), path)
        train = root / "train"
        if root.is_dir() and any(note.startswith("images of") for note in samples.notes) and train.is_dir():
            samples.training = self._samples(self._find(str(train)), str(train))
        return samples

    def _samples(self, found: Found, where: str) -> ImageSamples:
        entries, notes = found
        height, width = self._size or (224, 224)
        short = self._short or round(max(height, width) * 256 / 224)
        grey = self._spec.shape[1] == 1
        mean, std = self._mean or (GREY_MEAN if grey else MEAN), self._std or (GREY_STD if grey else STD)
        normalise = Normaliser(mean, std, channels=1 if grey else 3, order=self._order)

        def prepare(images: List[np.ndarray]) -> List[np.ndarray]:
            cut = (transforms.center_crop(transforms.resize_short(image, short), height, width) for image in images)
            return [normalise(np.ascontiguousarray(image)) for image in cut]

        return ImageSamples(entries, where, self._spec, Preparation(prepare), batch_size=self._batch_size, notes=notes)

    def metric(self) -> Optional[Metric]:
        return ClassMetric()

    def _find(self, path: str) -> Found:
        entries, notes = find_entries(path, self._labels, LABEL_FILES, self._line, FORM)
        if self._labels is None and not any(entry.label is not None for entry in entries):
            entries, notes = self._by_folder(Path(path).expanduser(), entries, notes)
        self._check_labels(entries, notes)
        return entries, notes

    @staticmethod
    def _line(line: str) -> Optional[Tuple[str, int]]:
        name, _, label = line.strip().replace("\t", " ").rpartition(" ")
        return (name.strip(), int(label)) if name.strip() and label.lstrip("-").isdigit() else None

    def _by_folder(self, root: Path, entries: List[Entry], notes: List[str]) -> Found:
        """Labels images by the folders they are in, where there is one folder a class."""
        if not root.is_dir():
            return entries, notes
        folders = _folders(root)
        part = next((name for name in PARTS if name in folders and _folders(root / name)), None)
        if part is not None:
            root, notes = root / part, [*notes, f"images of {root / part}"]
            folders, entries = _folders(root), [Entry(image) for image in images_below(root)]
        classes, outside = self.signature.classes, [e for e in entries if e.path.parent == root]
        if not folders or outside:
            return entries, notes
        if classes > 0 and len(folders) != classes:
            notes.append(
                f"{root} has {len(folders)} folders and the model {classes} classes: images are taken without labels"
            )
            return entries, notes
        number = {name: label for label, name in enumerate(folders)}
        labelled = [Entry(e.path, number[e.path.relative_to(root).parts[0]]) for e in entries]
        return labelled, [*notes, f"labels from the {len(folders)} folders of {root}"]

    def _check_labels(self, entries: List[Entry], notes: List[str]) -> None:
        classes = self.signature.classes
        wrong: List[Any] = [e for e in entries if e.label is not None and not 0 <= e.label < classes]
        if classes > 0 and wrong:
            raise DataError(
                f"{wrong[0].path} has the label {wrong[0].label}, but the model has {classes} classes ({notes[0]}); "
                "labels go from 0, or pass labels=none."
            )


def _folders(root: Path) -> List[str]:
    return sorted(child.name for child in root.iterdir() if child.is_dir() and child.name[0] != ".")
