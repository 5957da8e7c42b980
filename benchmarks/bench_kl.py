"""The KL threshold of a histogram of 2048 bins, by slimkit and by Paddle's own ``cal_kl_threshold``.

python benchmarks/bench_kl.py [--peer PYTHON]

Both sides get the same counts, written once by the parent's draw of fixed seed. The peer's column is its function in
its own PaddlePaddle; Paddle's function of slimkit's interpreter is measured as well.
"""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, Sequence

import harness
import numpy as np

BINS = 2048
LEVELS = 127


def tensors() -> Dict[str, np.ndarray]:
    """Values of the usual kinds."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(1_000_000).astype(np.float32)
    hard_swish = normal * np.clip(normal + 3, 0, 6) / 6
    kinds = {"relu": np.maximum(normal, 0), "hard_swish": hard_swish, "uniform": rng.random(1_000_000)}
    return {name: np.asarray(values, np.float32) for name, values in kinds.items()}


def counts_of(values: np.ndarray) -> np.ndarray:
    """As PaddleSlim's calibration counts them: up to the largest magnitude."""
    magnitudes = np.abs(values)
    return np.histogram(magnitudes, BINS, (0, float(magnitudes.max())))[0]


def ready(function: Callable[[np.ndarray], Any], values: np.ndarray) -> Callable[[], Any]:
    counts = counts_of(values)
    return lambda: function(counts)


def slimkit_cases() -> Sequence[harness.Case]:
    from slimkit.numerics.histogram import AbsHistogram
    from slimkit.numerics.observers import kl

    levels = np.full(BINS, LEVELS)

    def update(values: np.ndarray) -> Callable[[], Any]:
        return lambda: AbsHistogram(BINS).update(values)

    cases = []
    for name, values in tensors().items():
        prepare = functools.partial(ready, lambda counts: kl.best_bin(counts, levels), values)
        cases.append(harness.Case(f"KL, {name}", prepare))
        cases.append(harness.Case(f"counting 1,000,000 values, {name}", functools.partial(update, values)))
    return cases + list(peer_cases("Paddle's function here, "))


def peer_cases(prefix: str = "") -> Sequence[harness.Case]:
    from paddle.static.quantization.cal_kl_threshold import cal_kl_threshold

    def threshold(counts: np.ndarray) -> float:
        return cal_kl_threshold(counts, 1.0 / BINS, 8)

    return [
        harness.Case(f"{prefix}KL, {name}", functools.partial(ready, threshold, values), repeats=3, warmups=0)
        for name, values in tensors().items()
    ]


if __name__ == "__main__":
    harness.run(
        __file__,
        "KL threshold of a histogram of 2048 bins",
        harness.arguments(__doc__, repeats=9).parse_args(),
        {"slimkit": slimkit_cases, "peer": peer_cases},
    )
