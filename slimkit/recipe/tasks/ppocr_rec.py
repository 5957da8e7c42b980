"""PP-OCR's text recognizer: lines of one height, a batch as wide as its widest, sorted by ratio."""

from __future__ import annotations

import math
from typing import Any, List, Optional, Tuple

import cv2
import numpy as np

from slimkit.errors import ConfigError, DataError
from slimkit.recipe.tasks.dictionary import Dictionary
from slimkit.recipe.tasks.image_samples import ImageSamples, Preparation
from slimkit.recipe.tasks.labels import find_entries, tab_line
from slimkit.recipe.tasks.pixels import Normaliser
from slimkit.recipe.tasks.ppocr_cls import LINE_FILES
from slimkit.recipe.tasks.samples import Samples
from slimkit.recipe.tasks.signature import Signature
from slimkit.recipe.tasks.task import Metric, Task
from slimkit.recipe.tasks.text_metric import TextMetric

__all__ = ["PpocrRecTask"]

FORM = "path<TAB>text"


class PpocrRecTask(Task):
    """Text lines to text."""

    name = "ppocr_rec"
    headline = "exact_match"

    def __init__(
        self,
        signature: Signature,
        *,
        height: Optional[int] = None,
        width: int = 320,
        max_width: int = 3200,
        dictionary: Optional[str] = None,
        use_space_char: bool = True,
        ignore_space: bool = True,
        labels: Optional[str] = None,
        batch_size: int = 8,
    ) -> None:
        """
        Args:
            signature: the model's.
            height: of the model's input; None: the model's own, else 48.
            width: the least width of a batch; longer lines make their batch wider. A model of one width has its own.
            max_width: the greatest width of a batch; longer lines are squeezed.
            dictionary: file with a character a line; None: PP-OCR's ``ppocr_keys_v1.txt``.
            use_space_char: the model has a blank as its last character.
            ignore_space: compare texts without their blanks, as PaddleOCR does.
            labels: file of `path<TAB>text` lines; None: looked for; "none": no labels.
            batch_size: lines a batch, where the caller names none.
        """
        super().__init__(signature)
        self._spec = signature.image(self.name)
        own_height, own_width = self._spec.shape[2:]
        self._height = height or (own_height if own_height > 0 else 48)
        self._width, self._max_width = (own_width, own_width) if own_width > 0 else (width, max(width, max_width))
        self._fixed = own_width > 0
        if own_height > 0 and self._height != own_height:
            raise ConfigError(f"height is {height}, but the model's input takes {self._spec.text}; leave it out.")
        self._dictionary, self._space, self._ignore = dictionary, use_space_char, ignore_space
        self._labels, self._batch_size = labels, batch_size
        self._loaded: Optional[Dictionary] = None

    def open(self, path: str) -> Samples:
        entries, notes = find_entries(path, self._labels, LINE_FILES, self._line, FORM)
        order = None if self._fixed else _ratio
        rule = Preparation(self._prepare, order=order)
        samples = ImageSamples(entries, path, self._spec, rule, batch_size=self._batch_size, notes=notes)
        if samples.labelled:
            self.characters()
        return samples

    @staticmethod
    def _line(line: str) -> Optional[Tuple[str, Any]]:
        pair = tab_line(line)
        return None if pair is None or pair[1].lstrip().startswith('[{"') else pair

    def _prepare(self, images: List[np.ndarray]) -> List[np.ndarray]:
        half = (0.5,) * 3
        normalise, height = Normaliser(half, half), self._height
        widest = max(image.shape[1] / image.shape[0] for image in images)
        width = min(max(self._width, int(height * max(widest, self._width / height))), self._max_width)
        ready = np.zeros((len(images), 3, height, width), np.float32)
        for row, image in zip(ready, images):
            wanted = min(width, math.ceil(height * image.shape[1] / image.shape[0]))
            row[:, :, :wanted] = normalise(cv2.resize(image, (wanted, height)))
        return list(ready)

    def characters(self) -> Dictionary:
        """The model's characters, read once.

        Raises:
            DataError: the dictionary cannot be had, or has not as many characters as the model has outputs.
        """
        if self._loaded is None:
            loaded = Dictionary.load(self._dictionary, space=self._space)
            classes = self.signature.classes
            if classes > 0 and classes != loaded.classes:
                space = ", a space among them" if self._space else ""
                raise DataError(
                    f"The dictionary {loaded.source} makes {loaded.classes} classes (the blank and {len(loaded) - 1} "
                    f"characters{space}), but the model has {classes}; give the dictionary the model was trained with "
                    "(option dictionary), or check use_space_char."
                )
            self._loaded = loaded
        return self._loaded

    def metric(self) -> Optional[Metric]:
        return TextMetric(self.characters(), ignore_space=self._ignore)


def _ratio(size: Tuple[int, int]) -> float:
    return size[1] / size[0] if size[0] else 0.0
