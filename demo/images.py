"""Fashion-MNIST as the demos use it: arrays, and batches of them as feeds by name."""

from __future__ import annotations

from typing import Dict, Iterator, Optional

import numpy as np

from slimkit.recipe.data.fashion_mnist import ASSET

Feed = Dict[str, np.ndarray]


def feeds(part: str, batch_size: int, limit: Optional[int] = None) -> Iterator[Feed]:
    """Batches of ``image`` (float32, N x 1 x 28 x 28, -1 to 1) and ``label`` (int64, N x 1).

    Args:
        part: train or test.
        batch_size: of every batch; the incomplete last one is left out.
        limit: use only so many images.
    """
    with np.load(ASSET) as archive:
        images, labels = archive[f"{part}_images"][:limit], archive[f"{part}_labels"][:limit]
    images = (images.reshape(-1, 1, 28, 28) / 127.5 - 1).astype("float32")
    labels = labels.astype("int64").reshape(-1, 1)
    for start in range(0, len(images) - batch_size + 1, batch_size):
        chosen = slice(start, start + batch_size)
        yield {"image": images[chosen], "label": labels[chosen]}
