"""Image transforms: pure functions of an image and, where they are random, of a generator.

Images are uint8, (H, W, 3) or (H, W), until :func:`normalise` makes them float32 (3, H, W).
"""

from __future__ import annotations

import math
from typing import Optional, Sequence, Tuple

import cv2
import numpy as np

__all__ = [
    "center_crop",
    "erase",
    "normalise",
    "random_flip",
    "random_resized_crop",
    "random_shift",
    "resize",
    "resize_short",
]


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes: averaging when both sides shrink (no aliasing), else bilinear."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height < image.shape[0] and width < image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)


def resize_short(image: np.ndarray, side: int) -> np.ndarray:
    """Resizes so that the short side is ``side`` pixels, keeping the aspect ratio."""
    height, width = image.shape[:2]
    factor = side / min(height, width)
    return resize(image, max(side, round(height * factor)), max(side, round(width * factor)))


def center_crop(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cuts the middle out; sides shorter than asked for are enlarged first, keeping the aspect ratio."""
    factor = max(height / image.shape[0], width / image.shape[1])
    if factor > 1:
        image = resize(image, max(height, round(image.shape[0] * factor)), max(width, round(image.shape[1] * factor)))
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def random_resized_crop(
    image: np.ndarray,
    height: int,
    width: int,
    generator: np.random.Generator,
    scale: Tuple[float, float] = (0.08, 1.0),
    ratio: Tuple[float, float] = (3 / 4, 4 / 3),
) -> np.ndarray:
    """Cuts a random rectangle and resizes it: Inception's augmentation (Szegedy et al., arXiv:1409.4842).

    Args:
        scale: least and greatest area of the rectangle, as a part of the image's.
        ratio: least and greatest aspect ratio (width over height), log-uniform.
    """
    rows, columns = image.shape[:2]
    for _ in range(10):
        area = rows * columns * generator.uniform(*scale)
        aspect = math.exp(generator.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= columns and 0 < h <= rows:
            top = int(generator.integers(rows - h + 1))
            left = int(generator.integers(columns - w + 1))
            return resize(image[top : top + h, left : left + w], height, width)
    return resize(center_crop(image, min(rows, columns), min(rows, columns)), height, width)


def random_flip(image: np.ndarray, probability: float, generator: np.random.Generator) -> np.ndarray:
    """Mirrors the image left to right with a probability."""
    return image[:, ::-1] if generator.random() < probability else image


def random_shift(image: np.ndarray, pixels: int, generator: np.random.Generator) -> np.ndarray:
    """Moves the image by up to ``pixels`` each way; zeros come in at the border."""
    if pixels == 0:
        return image
    top, left = generator.integers(0, 2 * pixels + 1, 2)
    border = [(pixels, pixels)] * 2 + [(0, 0)] * (image.ndim - 2)
    height, width = image.shape[:2]
    return np.pad(image, border)[top : top + height, left : left + width]


def erase(image: np.ndarray, probability: float, generator: np.random.Generator) -> np.ndarray:
    """Sets a random rectangle of a normalised image to 0, its mean (arXiv:1708.04896, with a constant).

    Args:
        image: float32 (3, H, W); changed in place.
        probability: of erasing at all. The rectangle covers 2 to 20 % of the image, aspect 0.3 to 3.3.
    """
    if generator.random() >= probability:
        return image
    height, width = image.shape[1:]
    area = height * width * generator.uniform(0.02, 0.2)
    aspect = math.exp(generator.uniform(math.log(0.3), math.log(1 / 0.3)))
    h = min(height, max(1, round(math.sqrt(area * aspect))))
    w = min(width, max(1, round(math.sqrt(area / aspect))))
    top, left = int(generator.integers(height - h + 1)), int(generator.integers(width - w + 1))
    image[:, top : top + h, left : left + w] = 0.0
    return image


def normalise(
    image: np.ndarray, mean: Sequence[float], std: Sequence[float], order: Optional[str] = None
) -> np.ndarray:
    """Makes (x / 255 - mean) / std of an image.

    Args:
        image: uint8 (H, W), replicated to three channels, or (H, W, 3) in OpenCV's blue-green-red order.
        mean: of each channel, in the order of the result.
        std: of each channel, in the order of the result.
        order: ``rgb`` swaps the channels of a colour image; ``bgr`` or None leaves them.

    Returns:
        float32 (3, H, W), contiguous.
    """
    if image.ndim == 2:
        image = np.repeat(image[:, :, None], 3, axis=2)
    elif order == "rgb":
        image = image[:, :, ::-1]
    scaled = image.transpose(2, 0, 1).astype(np.float32) * np.float32(1 / 255)
    middle = np.array(mean, np.float32).reshape(3, 1, 1)
    spread = np.array(std, np.float32).reshape(3, 1, 1)
    return np.ascontiguousarray((scaled - middle) / spread)
