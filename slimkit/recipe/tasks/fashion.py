"""The embedded Fashion-MNIST as samples: its training part to calibrate on, its test part to verify with."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

import numpy as np

from slimkit.recipe.data.fashion_mnist import CLASS_NAMES, MEAN, STD, FashionMnist
from slimkit.recipe.tasks.samples import Batch, Samples, choose, deal
from slimkit.recipe.tasks.signature import TensorSpec

__all__ = ["CLASS_NAMES", "FashionSamples"]


class FashionSamples(Samples):
    """Grey images resized to the model's input and replicated to its channels, as the recipes train on them."""

    def __init__(
        self,
        spec: TensorSpec,
        size: Tuple[int, int],
        mean: Optional[Sequence[float]],
        std: Optional[Sequence[float]],
        channels: int,
        batch_size: int,
        *,
        train: bool = False,
    ) -> None:
        """
        Args:
            spec: the model's input.
            size: height and width of it.
            mean: of x/255 by channel; None: the data's own.
            std: of x/255 by channel; None: the data's own.
            channels: 1 or 3.
            batch_size: the default one.
            train: the training part, unaugmented.
        """
        self._arguments = (spec, size, mean, std, channels, batch_size)
        mean, std = ((*values, *values, *values)[:3] for values in (mean or MEAN, std or STD))
        self._data = FashionMnist(train=train, size=size, mean=mean, std=std, augment=False, batch_size=batch_size)
        self._name, self._channels, self._train = spec.name, channels, train
        super().__init__("fashion_mnist", len(self._data), labelled=True, batch_size=batch_size, fixed=spec.shape[0])
        self.notes.append(f"the {'training' if train else 'test'} part of the embedded Fashion-MNIST")

    def calibration(self) -> Samples:
        return self if self._train else FashionSamples(*self._arguments, train=True)

    def parts(self, batch_size: int, limit: Optional[int]) -> List[List[int]]:
        return deal(choose(len(self), limit), batch_size, self.fixed)

    def load(self, part: List[int]) -> List[Batch]:
        read = [self._data.sample(index, None) for index in part]
        images = np.stack([image[: self._channels] for image, _ in read])
        return [({self._name: images}, [label for _, label in read])]
