"""Inputs and outputs of models, for tests of tasks without a model."""

from __future__ import annotations

from typing import Sequence

import numpy as np

from slimkit.recipe.tasks import Signature, TensorSpec

__all__ = ["CLS", "DET", "IMAGENET", "REC", "signature"]


def signature(inputs: Sequence[tuple], outputs: Sequence[tuple]) -> Signature:
    """Makes one of (name, shape[, dtype]) tuples."""
    make = lambda name, shape, dtype="float32": TensorSpec(name, tuple(shape), np.dtype(dtype))  # noqa: E731
    return Signature([make(*row) for row in inputs], [make(*row) for row in outputs])


CLS = signature([("x", (-1, 3, -1, -1))], [("y", (-1, 2))])
DET = signature([("x", (-1, 3, -1, -1))], [("y", (-1, 1, -1, -1))])
REC = signature([("x", (-1, 3, 48, -1))], [("y", (-1, -1, 6625))])
IMAGENET = signature([("x", (-1, 3, 224, 224))], [("y", (-1, 1000))])
