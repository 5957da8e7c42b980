"""Running sums from which the error of a quantized tensor comes, batch by batch, so that no batch has to be kept."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Optional

import numpy as np

__all__ = ["ErrorSums"]

#: Values converted to float64 at a time.
_BLOCK = 1 << 16


@dataclass
class ErrorSums:
    """Running sums from which SQNR and cosine come; float64, one pass.

    Attributes:
        signal: sum of the squares of the reference.
        other: sum of the squares of the perturbed values.
        noise: sum of the squares of the differences.
        dot: sum of the products.
    """

    signal: float = 0.0
    other: float = 0.0
    noise: float = 0.0
    dot: float = 0.0

    def add(self, reference: np.ndarray, value: np.ndarray) -> None:
        """Adds a batch of reference and perturbed values of the same shape."""
        first, second = np.asarray(reference).reshape(-1), np.asarray(value).reshape(-1)
        for start in range(0, first.size, _BLOCK):
            a = first[start : start + _BLOCK].astype(np.float64)
            b = second[start : start + _BLOCK].astype(np.float64)
            difference = a - b
            self.signal += float(a @ a)
            self.other += float(b @ b)
            self.noise += float(difference @ difference)
            self.dot += float(a @ b)

    @property
    def sqnr_db(self) -> Optional[float]:
        """10 log10(signal / noise); None without signal, capped at 200 dB for no noise."""
        if self.signal <= 0 or not math.isfinite(self.noise):
            return None
        return 200.0 if self.noise <= 0 else min(200.0, 10.0 * math.log10(self.signal / self.noise))

    @property
    def cosine(self) -> Optional[float]:
        """Cosine of the angle between the two; None when one of them is zero."""
        norm = math.sqrt(self.signal * self.other)
        return self.dot / norm if norm > 0 and math.isfinite(norm) else None
