"""PP-OCR's text detector: pages resized to sides that are multiples of 32, boxes out of probability maps."""

from __future__ import annotations

import json
from typing import Hashable, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from slimkit.errors import ConfigError
from slimkit.recipe.data.image_folder import MEAN, STD
from slimkit.recipe.tasks.box_metric import BoxMetric, PageBoxes
from slimkit.recipe.tasks.db_boxes import DBBoxes
from slimkit.recipe.tasks.image_samples import ImageSamples, Preparation
from slimkit.recipe.tasks.labels import find_entries, tab_line
from slimkit.recipe.tasks.pixels import Normaliser, sides
from slimkit.recipe.tasks.samples import Samples
from slimkit.recipe.tasks.signature import Signature
from slimkit.recipe.tasks.task import Metric, Task

__all__ = ["PpocrDetTask"]

LABEL_FILES = ("label.txt", "Label.txt", "labels.txt", "test_icdar*_label.txt", "*test*.txt", "*val*.txt")
FORM = 'path<TAB>[{"transcription": "...", "points": [[x, y], ...]}, ...]'
IGNORED = ("*", "###")


class PpocrDetTask(Task):
    """Pages to boxes of text lines."""

    name = "ppocr_det"
    headline = "hmean"

    def __init__(
        self,
        signature: Signature,
        *,
        limit_side_len: int = 960,
        limit_type: str = "max",
        size: Union[int, Sequence[int], None] = None,
        thresh: float = 0.3,
        box_thresh: float = 0.6,
        unclip_ratio: float = 1.5,
        max_candidates: int = 1000,
        use_dilation: bool = False,
        labels: Optional[str] = None,
        batch_size: int = 1,
    ) -> None:
        """
        Args:
            signature: the model's.
            limit_side_len: the limit of a side, before rounding to multiples of 32.
            limit_type: ``max``: the longer side is at most so long; ``min``: the shorter at least.
            size: [height, width] that every page is stretched to; None: by the limit, or the model's own.
            thresh: what of the map is text.
            box_thresh: least mean of the map in a box.
            unclip_ratio: by how much boxes grow.
            max_candidates: contours of a page that are looked at.
            use_dilation: widen the thresholded map by a pixel.
            labels: file of label lines; None: looked for; "none": no labels.
            batch_size: pages a batch, where the caller names none; only pages of one size are batched.

        Raises:
            ConfigError: an option has no such value.
        """
        super().__init__(signature)
        self._spec = signature.image(self.name)
        height, width = self._spec.shape[2:]
        own = (height, width) if height > 0 and width > 0 else None
        self._size = sides(size) if size is not None else own
        if limit_type not in ("max", "min") or limit_side_len < 32:
            raise ConfigError(
                f"limit_type is {limit_type!r} and limit_side_len {limit_side_len}; the type must be max or min, the "
                "length at least 32."
            )
        self._limit, self._type = limit_side_len, limit_type
        self._labels, self._batch_size = labels, batch_size
        self._boxes = DBBoxes(thresh, box_thresh, unclip_ratio, max_candidates, use_dilation)

    def open(self, path: str) -> Samples:
        entries, notes = find_entries(path, self._labels, LABEL_FILES, self._line, FORM)
        normalise = Normaliser(MEAN, STD)

        def prepare(images: List[np.ndarray]) -> List[np.ndarray]:
            return [normalise(_fit(image, self.target(image.shape[:2]))) for image in images]

        def group(size: Tuple[int, int]) -> Hashable:
            return self.target(size)

        rule = Preparation(prepare, group=group, label=lambda boxes, size: PageBoxes.of(boxes, size))
        return ImageSamples(entries, path, self._spec, rule, batch_size=self._batch_size, notes=notes)

    def target(self, size: Tuple[int, int]) -> Tuple[int, int]:
        """Returns the (height, width) that a page of ``size`` is resized to."""
        if self._size is not None:
            return self._size
        side = max(size) if self._type == "max" else min(size)
        beyond = side > self._limit if self._type == "max" else 0 < side < self._limit
        ratio = self._limit / side if beyond else 1.0
        height, width = (max(32, round(int(length * ratio) / 32) * 32) for length in size)
        return height, width

    @staticmethod
    def _line(line: str) -> Optional[Tuple[str, List[Tuple[np.ndarray, bool]]]]:
        pair = tab_line(line)
        if pair is None:
            return None
        try:
            boxes = json.loads(pair[1])
            return pair[0], [
                (np.array(box["points"], np.float32).reshape(-1, 2), box.get("transcription") in IGNORED)
                for box in boxes
            ]
        except (ValueError, TypeError, KeyError, AttributeError):
            return None

    def metric(self) -> Optional[Metric]:
        return BoxMetric(self._boxes)


def _fit(image: np.ndarray, size: Tuple[int, int]) -> np.ndarray:
    height, width = size
    return image if image.shape[:2] == size else cv2.resize(image, (width, height))
