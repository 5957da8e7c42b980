"""What the tests of this folder share: how far two results are from each other."""

from __future__ import annotations

from typing import Any, List

import numpy as np
import paddle


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """Returns the largest difference over the largest expected value; NaN and infinity must be in the same places."""
    if expected.size == 0:
        return 0.0
    a, b = np.asarray(found, "float64"), np.asarray(expected, "float64")
    np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))
    both = np.isfinite(a)
    return float(np.abs(a - b)[both].max(initial=0) / max(np.abs(b)[both].max(initial=0), 1e-6))


def assert_close(found: List[np.ndarray], expected: List[np.ndarray], limit: float = 1e-5) -> None:
    """Asserts that lists of arrays have the same shapes and are within ``limit`` of each other."""
    assert [a.shape for a in found] == [b.shape for b in expected]
    errors = [relative(a, b) for a, b in zip(found, expected)]
    assert max(errors) < limit, errors


def tensors(structure: Any) -> List[np.ndarray]:
    """Returns the tensors of a nest of dygraph outputs as arrays."""
    return [t.numpy() for t in paddle.utils.flatten(structure) if isinstance(t, paddle.Tensor)]
