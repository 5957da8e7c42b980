"""From uint8 pixels to a network's float input."""

from __future__ import annotations

from typing import Sequence, Tuple, Union

import cv2
import numpy as np

from slimkit.errors import ConfigError

__all__ = ["GREY_MEAN", "GREY_STD", "Normaliser", "sides"]

# Of grey images: the mean over ImageNet's channels.
GREY_MEAN, GREY_STD = (0.449,), (0.226,)


class Normaliser:
    """(x / 255 - mean) / std of each channel, by a table of 256 values a channel."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], *, channels: int = 3, order: str = "bgr") -> None:
        """
        Args:
            mean: of x/255, for each channel of the result.
            std: of x/255.
            channels: 3, or 1 for grey.
            order: ``rgb`` or ``bgr``, of the result.

        Raises:
            ConfigError: mean and std are not one number a channel, or the order is unknown.
        """
        if len(mean) != channels or len(std) != channels or not all(std):
            raise ConfigError(
                f"mean is {list(mean)} and std {list(std)}, but the model's input has {channels} channels; give "
                f"{channels} numbers each, std not 0."
            )
        if order not in ("rgb", "bgr"):
            raise ConfigError(f"channel_order is {order!r}; it must be rgb or bgr.")
        scaled = np.arange(256, dtype=np.float32)[:, None] * np.float32(1 / 255)
        self._table = ((scaled - np.array(mean, np.float32)) / np.array(std, np.float32))[None]
        self._grey, self._swap = channels == 1, order == "rgb"

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Normalises an image.

        Args:
            image: uint8 (H, W, 3), blue-green-red.

        Returns:
            float32 (channels, H, W), contiguous.
        """
        if self._grey:
            return cv2.LUT(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), self._table)[None]
        if self._swap:
            image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
        return np.ascontiguousarray(cv2.LUT(image, self._table).transpose(2, 0, 1))


def sides(value: Union[int, Sequence[int]]) -> Tuple[int, int]:
    """Returns (height, width) of an option ``size``.

    Raises:
        ConfigError: it is neither a positive number nor two.
    """
    both = [value, value] if isinstance(value, int) else list(value)
    if len(both) != 2 or any(not isinstance(side, int) or side < 1 for side in both):
        raise ConfigError(f"size is {value!r}; it must be a number of pixels, or [height, width].")
    return both[0], both[1]
