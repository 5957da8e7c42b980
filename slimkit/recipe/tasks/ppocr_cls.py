"""PP-OCR's text direction classifier: lines 48 high, at most 192 wide, padded with 0."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple, Union

import numpy as np

from slimkit.recipe.data.text_lines import INPUT_SIZE, fit_line
from slimkit.recipe.tasks.class_metric import ClassMetric
from slimkit.recipe.tasks.image_samples import ImageSamples, Preparation
from slimkit.recipe.tasks.labels import find_entries, tab_line
from slimkit.recipe.tasks.pixels import Normaliser, sides
from slimkit.recipe.tasks.samples import Samples
from slimkit.recipe.tasks.signature import Signature
from slimkit.recipe.tasks.task import Metric, Task

__all__ = ["LINE_FILES", "PpocrClsTask"]

#: Label files of lines, by name, best first.
LINE_FILES = ("label.txt", "labels.txt", "cls_gt_test.txt", "cls_gt*.txt", "rec_gt_test.txt", "rec_gt*.txt",
              "*test*.txt", "*val*.txt")  # fmt: skip


class PpocrClsTask(Task):
    """Text lines to 0 or 180 degrees."""

    name = "ppocr_cls"
    headline = "top1"

    def __init__(
        self,
        signature: Signature,
        *,
        size: Union[int, Sequence[int], None] = None,
        label_list: Sequence[str] = ("0", "180"),
        labels: Optional[str] = None,
        batch_size: int = 32,
    ) -> None:
        """
        Args:
            signature: the model's.
            size: [height, width] of the model's input; None: the model's own, else [48, 192].
            label_list: the labels as they are in the label file, in the order of the model's outputs.
            labels: file of `path<TAB>label` lines; None: looked for; "none": no labels.
            batch_size: lines a batch, where the caller names none.
        """
        super().__init__(signature)
        self._spec = signature.image(self.name)
        own = tuple(side if side > 0 else usual for side, usual in zip(self._spec.shape[2:], INPUT_SIZE))
        self._size = sides(size if size is not None else own)
        self._numbers = {str(label): index for index, label in enumerate(label_list)}
        self._labels, self._batch_size = labels, batch_size

    def open(self, path: str) -> Samples:
        form = f"path<TAB>{' or '.join(self._numbers)}"
        entries, notes = find_entries(path, self._labels, LINE_FILES, self._line, form)
        half = (0.5,) * 3
        normalise, (height, width) = Normaliser(half, half), self._size

        def prepare(images: List[np.ndarray]) -> List[np.ndarray]:
            ready = np.zeros((len(images), 3, height, width), np.float32)
            for row, image in zip(ready, images):
                line = fit_line(image, self._size)
                row[:, :, : line.shape[1]] = normalise(line)
            return list(ready)

        return ImageSamples(entries, path, self._spec, Preparation(prepare), batch_size=self._batch_size, notes=notes)

    def _line(self, line: str) -> Optional[Tuple[str, int]]:
        pair = tab_line(line)
        number = None if pair is None else self._numbers.get(pair[1].strip())
        return None if pair is None or number is None else (pair[0], number)

    def metric(self) -> Optional[Metric]:
        return ClassMetric()
