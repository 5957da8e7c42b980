"""Images for any other network that takes one: detectors, segmenters; to calibrate and to compare outputs."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple, Union

import cv2
import numpy as np

from slimkit.errors import DataError
from slimkit.recipe.data.image_folder import MEAN, STD
from slimkit.recipe.tasks.image_samples import Entry, ImageSamples, Preparation, images_below
from slimkit.recipe.tasks.pixels import GREY_MEAN, GREY_STD, Normaliser, sides
from slimkit.recipe.tasks.samples import Samples
from slimkit.recipe.tasks.signature import Signature, TensorSpec
from slimkit.recipe.tasks.task import Task

__all__ = ["ImageTask", "takes_images"]

#: Further inputs of PaddleDetection's models, (N, 2) each: the size as fed, and that over the size as decoded.
SHAPE, FACTOR = "im_shape", "scale_factor"
USUAL = (512, 512)  # of networks that take any size


class ImageTask(Task):
    """Images stretched to the model's size and normalised; no labels, no metric.

    ``im_shape`` and ``scale_factor``, which PaddleDetection's models ask for, are fed too.
    """

    name = "image"

    def __init__(
        self,
        signature: Signature,
        *,
        size: Union[int, Sequence[int], None] = None,
        mean: Optional[Sequence[float]] = None,
        std: Optional[Sequence[float]] = None,
        channel_order: str = "rgb",
        labels: Optional[str] = None,
        batch_size: int = 1,
    ) -> None:
        """
        Args:
            signature: the model's.
            size: of the model's input, a number or [height, width]; None: the model's own, else 512.
            mean: of x/255 by channel; None: ImageNet's.
            std: of x/255 by channel; None: likewise.
            channel_order: ``rgb`` or ``bgr``.
            labels: nothing but "none".
            batch_size: images a batch, where the caller names none.

        Raises:
            DataError: the model takes no image, or something else besides.
        """
        super().__init__(signature)
        self._spec, self._others = _inputs(signature)
        grey = self._spec.shape[1] == 1
        own = self._spec.shape[2:]
        self._open = size is None and min(own) < 0
        usual = [side if side > 0 else other for side, other in zip(own, USUAL)]
        self._size = sides(usual if size is None else size)
        if not self._spec.takes((1, self._spec.shape[1], *self._size)):
            raise DataError(
                f"size is {list(self._size)}, but the model's input '{self._spec.name}' takes {self._spec.text}; leave "
                "size out."
            )
        mean, std = mean or (GREY_MEAN if grey else MEAN), std or (GREY_STD if grey else STD)
        self._normalise = Normaliser(mean, std, channels=1 if grey else 3, order=channel_order)
        if labels not in (None, "none"):
            raise DataError("The task image knows no labels; leave labels out, or name a task that has them.")
        self._batch_size = batch_size

    def open(self, path: str) -> Samples:
        height, width = self._size
        notes = [f"images stretched to {height}x{width}; option size sets another"] if self._open else []

        def prepare(images: List[np.ndarray]) -> List[np.ndarray]:
            return [self._normalise(cv2.resize(image, (width, height))) for image in images]

        entries = [Entry(image) for image in images_below(Path(path).expanduser())]
        rule = Preparation(prepare, extra=self._extra)
        return ImageSamples(entries, path, self._spec, rule, batch_size=self._batch_size, notes=notes)

    def _extra(self, decoded: List[Tuple[int, int]], fed: List[Tuple[int, int]]) -> Dict[str, np.ndarray]:
        values: Dict[str, np.ndarray] = {
            SHAPE: np.array(fed, np.float32),
            FACTOR: np.array(fed, np.float32) / np.array(decoded, np.float32),
        }
        return {name: values[name] for name in self._others}


def _inputs(signature: Signature) -> Tuple[TensorSpec, List[str]]:
    """The image input and the names of the others.

    Raises:
        DataError: there is no image input, or another that is unknown.
    """
    others = [spec.name for spec in signature.inputs if spec.name in (SHAPE, FACTOR)]
    rest = [spec for spec in signature.inputs if spec.name not in others]
    return Signature(rest, signature.outputs).image(ImageTask.name), others


def takes_images(signature: Signature) -> bool:
    """Whether a model's inputs are an image and, perhaps, what PaddleDetection feeds besides."""
    try:
        _inputs(signature)
    except DataError:
        return False
    return True
