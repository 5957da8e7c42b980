"""Starts a demo of PaddleSlim's repository with small random data in place of the sets it would download.

python slim_demo.py SCRIPT ARGS
"""

import os
import runpy
import sys

import numpy as np
import paddle


class _Images(paddle.io.Dataset):
    """Pictures whose brightness is their class, 64 to train with and 32 to test with."""

    shape = (32, 32, 3)

    def __init__(self, mode="train", backend="cv2", transform=None, image_path=None, label_path=None):
        self._count, self._transform = (64 if mode == "train" else 32), transform

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        image = np.random.RandomState(index).rand(*self.shape).astype("float32") * 100 + 15 * (index % 10)
        if self._transform is not None:
            image = self._transform(image)
        return np.asarray(image, "float32"), np.array(index % 10, "int64")


class _Digits(_Images):
    """As Paddle's MNIST: one channel, in front when there is no transform; a label of shape [1]."""

    shape = (28, 28, 1)

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image if self._transform is not None else image.transpose(2, 0, 1), label.reshape(1)


_mobilenet_v1 = paddle.vision.models.mobilenet_v1
paddle.vision.datasets.Cifar10, paddle.vision.datasets.MNIST = _Images, _Digits
paddle.vision.models.mobilenet_v1 = lambda pretrained=False, **more: _mobilenet_v1(**more)  # nothing to download

script = os.path.abspath(sys.argv[1])
sys.argv = [script, *sys.argv[2:]]
os.chdir(os.path.dirname(script))
sys.path[0] = os.path.dirname(script)
runpy.run_path(script, run_name="__main__")
