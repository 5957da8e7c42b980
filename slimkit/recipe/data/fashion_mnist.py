"""Fashion-MNIST, a 10,000 + 2,000 image subset embedded in the package (arXiv:1708.07747; MIT)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional, Sequence, Tuple

import numpy as np

from slimkit.errors import DataError
from slimkit.recipe.data import transforms
from slimkit.recipe.data.dataset import Dataset

__all__ = ["CLASS_NAMES", "MEAN", "STD", "FashionMnist"]

ASSET = Path(__file__).resolve().parent.parent / "assets" / "fashion_mnist_10k.npz"
CLASS_NAMES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
# Of the full training set's pixels, divided by 255.
MEAN = (0.2860, 0.2860, 0.2860)
STD = (0.3530, 0.3530, 0.3530)


class FashionMnist(Dataset):
    """Grey 28x28 images, resized and replicated to three channels."""

    kind = "fashion_mnist"

    def __init__(
        self,
        *,
        train: bool,
        size: Tuple[int, int],
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        augment: bool = True,
        flip: float = 0.5,
        shift: int = 2,
        erase: float = 0.0,
        **common: Any,
    ) -> None:
        """
        Args:
            train: the training part, augmented and shuffled; else the test part.
            size: height and width of the network's input.
            mean: of x/255, three channels.
            std: of x/255, three channels.
            augment: whether to augment at all.
            flip: probability of mirroring.
            shift: largest shift, in pixels of the 28x28 original.
            erase: probability of erasing a rectangle.
            **common: see :class:`Dataset`.
        """
        self._images, self._labels = _load("train" if train else "test")
        self._size, self._mean, self._std = size, mean, std
        self._augment, self._flip, self._shift, self._erase = augment, flip, shift, erase
        super().__init__(len(self._images), CLASS_NAMES, train=train, **common)

    def sample(self, index: int, generator: Optional[np.random.Generator]) -> Tuple[np.ndarray, int]:
        image = self._images[index]
        if generator is None or not self._augment:
            resized = transforms.resize(image, *self._size)
            return transforms.normalise(resized, self._mean, self._std), int(self._labels[index])
        image = transforms.random_shift(image, self._shift, generator)
        image = np.ascontiguousarray(transforms.random_flip(image, self._flip, generator))
        ready = transforms.normalise(transforms.resize(image, *self._size), self._mean, self._std)
        return transforms.erase(ready, self._erase, generator), int(self._labels[index])


def _load(part: str) -> Tuple[np.ndarray, np.ndarray]:
    try:
        with np.load(ASSET) as archive:
            return archive[f"{part}_images"], archive[f"{part}_labels"]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"The embedded Fashion-MNIST ({ASSET}) cannot be read ({error}); reinstall slimkit.") from None
