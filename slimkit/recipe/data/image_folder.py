"""Images on disk: decoded with OpenCV, cropped, augmented as PaddleClas trains ImageNet."""

from __future__ import annotations

import collections
from typing import Any, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from slimkit.recipe.data import transforms
from slimkit.recipe.data.dataset import CorruptSample, Dataset
from slimkit.recipe.data.image_index import Entry

__all__ = ["MEAN", "STD", "ImageFolder", "decode"]

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class ImageFolder(Dataset):
    """Labelled image files.

    Training: random resized crop, mirroring, erasing. Evaluation: resize the short side, centre crop.
    """

    kind = "imagenet"

    def __init__(
        self,
        entries: Sequence[Entry],
        class_names: Sequence[str],
        *,
        train: bool,
        size: Tuple[int, int],
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        channel_order: str = "rgb",
        resize_short: Optional[int] = None,
        augment: bool = True,
        flip: float = 0.5,
        erase: float = 0.0,
        **common: Any,
    ) -> None:
        """
        Args:
            entries: (path, label) of each image.
            class_names: one name a class.
            train: shuffled and augmented.
            size: height and width of the network's input.
            mean: of x/255, in the order of ``channel_order``.
            std: of x/255, in the order of ``channel_order``.
            channel_order: ``rgb`` or ``bgr``.
            resize_short: short side before the centre crop; None: 256/224 of the longer side of ``size``.
            augment: whether to augment training images; without, they are treated as in evaluation.
            flip: probability of mirroring.
            erase: probability of erasing a rectangle.
            **common: see :class:`Dataset`.
        """
        self._entries: List[Entry] = list(entries)
        self._size, self._mean, self._std, self._order = size, mean, std, channel_order
        self._short = resize_short or round(max(size) * 256 / 224)
        self._augment, self._flip, self._erase = augment, flip, erase
        super().__init__(len(self._entries), class_names, train=train, **common)

    def sample(self, index: int, generator: Optional[np.random.Generator]) -> Tuple[np.ndarray, int]:
        path, label = self._entries[index]
        image = decode(str(path))
        if generator is None or not self._augment:
            image = transforms.center_crop(transforms.resize_short(image, self._short), *self._size)
            return transforms.normalise(image, self._mean, self._std, self._order), label
        image = transforms.random_resized_crop(image, *self._size, generator)
        image = transforms.random_flip(image, self._flip, generator)
        ready = transforms.normalise(image, self._mean, self._std, self._order)
        return transforms.erase(ready, self._erase, generator), label

    def report(self) -> dict:
        counts = collections.Counter(self._entries[index][1] for index in self._indices)
        return dict(super().report(), classes_seen=len(counts), smallest_class=min(counts.values()))


def decode(path: str) -> np.ndarray:
    """Reads an image file.

    Args:
        path: any format OpenCV reads, any characters in its name.

    Returns:
        uint8 (H, W, 3), blue-green-red.

    Raises:
        CorruptSample: the file is missing, empty, truncated or no image.
    """
    try:
        data = np.fromfile(path, np.uint8)
    except OSError as error:
        raise CorruptSample(path, f"cannot be read ({error.strerror})") from None
    if not len(data):
        raise CorruptSample(path, "is empty")
    if _is_truncated(data.tobytes()):
        raise CorruptSample(path, "is truncated")
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error:
        image = None
    if image is None:
        raise CorruptSample(path, "is not an image OpenCV can decode")
    return image


def _is_truncated(data: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end, which OpenCV would fill with grey without a word.

    A JPEG's end marker is looked for after its scan header: the thumbnail before that has one of its own,
    and inside the scan the two bytes cannot occur.
    """
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data
    if not data.startswith(b"\xff\xd8"):
        return False
    place = 2
    while place + 4 <= len(data) and data[place] == 0xFF and data[place + 1] != 0xDA:
        fill = data[place + 1] == 0xFF
        place += 1 if fill else 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return b"\xff\xd9" not in data[place:]
