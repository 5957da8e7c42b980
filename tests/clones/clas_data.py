"""A small data set in PaddleClas's list format: Fashion-MNIST, upscaled, as PNG files and label lists.

``python tests/clones/clas_data.py FOLDER`` writes ``FOLDER/images/*.png``, ``train_list.txt`` and ``val_list.txt``,
which have a line an image (path, space, class), from the images that slimkit carries.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np

from slimkit.recipe.data.fashion_mnist import ASSET


def write_images(folder: Path, size: int = 64, train: int = 10_000, test: int = 2_000) -> Path:
    """Writes the data set.

    Args:
        folder: where to; made.
        size: height and width of the images, in pixels (28 upscaled).
        train: training images, at most 10,000; classes are mixed.
        test: validation images, at most 2,000.

    Returns:
        ``folder``, to be given as ``image_root``.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    with np.load(ASSET) as arrays:
        for part, name, count in (("train", "train_list.txt", train), ("test", "val_list.txt", test)):
            images, labels = arrays[f"{part}_images"], arrays[f"{part}_labels"]
            lines = []
            for number in generator.permutation(len(images))[:count]:
                path = f"images/{part}_{number:05d}.png"
                big = cv2.resize(images[number], (size, size), interpolation=cv2.INTER_CUBIC)
                cv2.imwrite(str(folder / path), cv2.cvtColor(big, cv2.COLOR_GRAY2BGR))
                lines.append(f"{path} {int(labels[number])}\n")
            (folder / name).write_text("".join(lines), encoding="utf-8")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--train", type=int, default=10_000)
    parser.add_argument("--test", type=int, default=2_000)
    options = parser.parse_args()
    print(write_images(options.folder, options.size, options.train, options.test))


if __name__ == "__main__":
    main()
