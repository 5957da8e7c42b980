"""Stands for the tutorials' MNIST, which is a download: slimkit's embedded Fashion-MNIST, in the same two forms.

SLIMKIT_TUTORIAL_IMAGES: how many images for training, a fifth as many for testing; default 10,000.
SLIMKIT_TUTORIAL_BATCH: images in a batch; default what the tutorial has.
"""

import os

import numpy as np
import paddle

from slimkit.recipe.data.fashion_mnist import ASSET

__all__ = ["FashionMNIST", "batch", "reader", "test", "train"]


def batch(documented):
    return int(os.environ.get("SLIMKIT_TUTORIAL_BATCH", documented))


def _split(mode):
    count = int(os.environ.get("SLIMKIT_TUTORIAL_IMAGES", "10000"))
    count = count if mode == "train" else max(count // 5, batch(1))
    with np.load(ASSET) as arrays:
        return arrays[f"{mode}_images"][:count], arrays[f"{mode}_labels"][:count]


class FashionMNIST(paddle.io.Dataset):
    """As ``paddle.vision.datasets.MNIST(backend="cv2")``: an image of shape 28, 28, 1 and a label of shape 1."""

    def __init__(self, mode="train", backend="cv2", transform=None):
        self.images, self.labels = _split(mode)
        self.transform = transform

    def __getitem__(self, index):
        image = self.images[index].reshape(28, 28, 1).astype("float32")
        return self.transform(image) if self.transform else image, self.labels[index : index + 1].astype("int64")

    def __len__(self):
        return len(self.images)


def reader(mode):
    """As ``paddle.dataset.mnist``: a function that yields 784 numbers within -1 and 1, and a label."""

    def samples():
        for image, label in zip(*_split(mode)):
            yield image.reshape(-1).astype("float32") / 127.5 - 1.0, int(label)

    return samples


def train():
    return reader("train")


def test():
    return reader("test")
