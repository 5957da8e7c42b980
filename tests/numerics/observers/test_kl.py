"""The vectorised divergences against the definition, written out bin by bin."""

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slimkit.numerics.histogram import AbsHistogram
from slimkit.numerics.observers import kl, observer


def divergence(counts, kept, levels):
    """Of P and Q as Migacz defines them, no sum taken twice."""
    p = [float(c) for c in counts[:kept]]
    p[-1] += float(sum(counts[kept:]))
    q = [0.0] * kept
    for level in range(levels):
        bins = range(level * kept // levels, (level + 1) * kept // levels)
        filled = [b for b in bins if counts[b] > 0]
        for b in filled:
            q[b] = sum(float(counts[x]) for x in bins) / len(filled)
    total_p, total_q = sum(p), sum(q)
    return math.fsum(x / total_p * math.log((x / total_p) / (y / total_q)) for x, y in zip(p, q) if x > 0)


def brute_force(counts, levels):
    """The number of bins to keep, and all divergences."""
    counts = [int(c) for c in counts]
    size = max((i + 1 for i, c in enumerate(counts) if c), default=0)
    found = {}
    for kept in range(1, size + 1):
        wanted = levels[kept - 1]
        if counts[kept - 1] and kept >= wanted and kept >= min(kl.BINS_PER_LEVEL * wanted, size // 2):
            found[kept] = divergence(counts, kept, wanted)
    if not found:
        return size, found
    least = min(found.values())
    return max(kept for kept, value in found.items() if value <= least + kl.EQUAL), found


def check(counts, levels):
    levels = np.full(len(counts), levels) if np.isscalar(levels) else levels
    expected, found = brute_force(counts, levels)
    assert kl.best_bin(np.asarray(counts, np.int64), levels) == expected
    if found:
        kept = np.array(sorted(found))
        got = kl.divergences(np.asarray(counts, np.int64), kept, levels[kept - 1])
        assert got == pytest.approx([found[k] for k in kept], abs=1e-11)


def histogram_of(kind, bins=2048, size=300_000):
    rng = np.random.default_rng(7)
    normal = rng.standard_normal(size)
    x = {
        "gauss": normal,
        "relu": np.maximum(normal, 0),
        "laplace": rng.laplace(size=size),
        "heavy": np.exp(normal),
        "sparse": np.where(rng.random(size) < 0.001, rng.integers(0, 40, size), 0),
        "uniform": rng.random(size),
    }[kind]
    histogram = AbsHistogram(bins)
    histogram.update(x.astype(np.float32))
    return histogram


@pytest.mark.parametrize("kind", ["gauss", "relu", "heavy", "sparse"])
def test_2048_bins_choose_the_bin_of_the_definition(kind):
    histogram = histogram_of(kind, size=5000)
    check(histogram.counts, 127)


@pytest.mark.parametrize("kind", ["gauss", "relu", "laplace", "heavy", "sparse", "uniform"])
@pytest.mark.parametrize("levels", [7, 15, 31])
def test_256_bins_choose_the_bin_of_the_definition(kind, levels):
    check(histogram_of(kind, 256).counts, levels)


@given(hnp.arrays(np.int64, 64, elements=st.one_of(st.just(0), st.integers(0, 10**6))), st.integers(1, 70))
def test_any_counts(counts, levels):
    check(counts, levels)


@given(
    hnp.arrays(np.int64, 48, elements=st.one_of(st.just(0), st.integers(0, 99))),
    hnp.arrays(np.int64, 48, elements=st.integers(1, 20)),
)
def test_levels_may_differ_from_candidate_to_candidate(counts, levels):
    check(counts, levels)


@pytest.mark.parametrize("place", [0, 1, 5, 126, 1000, 2047])
def test_a_single_spike_is_not_clipped(place):
    counts = np.zeros(2048, np.int64)
    counts[place] = 12345
    assert kl.best_bin(counts, np.full(2048, 127)) == place + 1
    check(counts[:256], 15)


def test_nothing_counted():
    assert kl.best_bin(np.zeros(2048, np.int64), np.full(2048, 127)) == 0
    histogram = AbsHistogram()
    assert kl.threshold(histogram, 8) == 0.0 and kl.affine_range(histogram, 8) == (0.0, 0.0)
    histogram.update(np.zeros(9, np.float32))
    assert kl.threshold(histogram, 8) == 0.0 and kl.affine_range(histogram, 8) == (0.0, 0.0)


def test_few_values_are_not_clipped():
    values = np.random.default_rng(0).laplace(size=kl.VALUES_PER_BIN * 256).astype(np.float32)
    histogram = AbsHistogram(256)
    histogram.update(values[:-1])
    assert kl.threshold(histogram, 5) == histogram.abs_max
    assert kl.affine_range(histogram, 5) == (histogram.low, histogram.high)
    histogram.update(np.zeros(10_000, np.float32))
    assert kl.threshold(histogram, 5) == histogram.abs_max
    histogram.update(values[-1:])
    assert kl.threshold(histogram, 5) < histogram.abs_max


def test_grids_as_fine_as_the_histogram_clip_nothing():
    histogram = histogram_of("laplace")
    assert kl.threshold(histogram, 12) == histogram.abs_max


def test_one_histogram_takes_ten_milliseconds_at_most():
    histogram = histogram_of("uniform")
    assert histogram.counts.all()

    def seconds():
        start = time.process_time()
        kl.threshold(histogram, 8)
        return time.process_time() - start

    assert min(seconds() for _ in range(20)) < 0.010


def test_zeros_behind_a_relu_change_nothing():
    with_zeros, without = histogram_of("relu"), AbsHistogram()
    values = np.random.default_rng(7).standard_normal(300_000).astype(np.float32)
    without.update(values[values > 0])
    assert with_zeros.zeros > 100_000
    assert observer("KL").threshold(with_zeros, 8) == observer("KL").threshold(without, 8)
