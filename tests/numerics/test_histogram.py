"""The streaming histogram: against numpy's, and blind to the order of its data."""

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slimkit.errors import NumericsError
from slimkit.numerics.histogram import BLOCK, MIN_EXPONENT, AbsHistogram

#: Whole numbers on many scales: edges and powers of two are hit often.
numbers = st.one_of(st.floats(-1e4, 1e4, width=32), st.integers(-20, 20).map(lambda e: float(2.0**e)), st.just(0.0))
arrays = hnp.arrays(np.float32, st.integers(1, 20), elements=numbers)
batches = st.lists(arrays, min_size=1, max_size=6)


TINY = [np.array([1.1754944e-38], np.float32)]


def filled(parts, bins=16):
    histogram = AbsHistogram(bins)
    for part in parts:
        histogram.update(part)
    return histogram


def same(a, b):
    assert a.limit == b.limit and (a.low, a.high) == (b.low, b.high)
    assert a.zeros == b.zeros and a.batches == b.batches
    assert a.abs_max_sum == pytest.approx(b.abs_max_sum)
    assert a.mean_ends == pytest.approx(b.mean_ends)
    assert a.counts.tolist() == b.counts.tolist() and a.negative.tolist() == b.negative.tolist()


@given(batches)
@example(TINY)
def test_counts_are_numpys(parts):
    histogram = filled(parts)
    values = np.abs(np.concatenate(parts)).astype(np.float64)
    if values.max() == 0:
        assert histogram.counts[0] == values.size and histogram.limit == 0
        return
    smallest = 2.0**MIN_EXPONENT  # of a range: the values may be smaller still
    assert values.max() < histogram.limit
    assert histogram.limit / 2 <= values.max() or histogram.limit == smallest
    expected = np.histogram(values, 16, (0, histogram.limit))[0]
    assert histogram.counts.tolist() == expected.tolist()
    assert histogram.total == values.size and histogram.abs_max == values.max()
    assert histogram.zeros == int((values == 0).sum())


@given(batches)
def test_negative_values_are_counted_apart_but_for_the_first_bin(parts):
    histogram = filled(parts)
    values = np.concatenate(parts).astype(np.float64)
    limit = histogram.limit or 1.0
    expected = np.histogram(-values[values < 0], 16, (0, limit))[0]
    assert histogram.negative[1:].tolist() == expected[1:].tolist() and histogram.negative[0] == 0


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8, np.int64])
@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 17])
def test_blocks_lose_no_value(size, dtype):
    x = (np.random.default_rng(size).standard_normal(size) * 20).clip(-120, 120).astype(dtype)
    x[::3] = 0
    histogram = filled([x], 2048)
    magnitudes = np.abs(x.astype(np.float64))
    limit = histogram.limit or 1.0
    assert histogram.counts.tolist() == np.histogram(magnitudes, 2048, (0, limit))[0].tolist()
    below = np.histogram(-x[x < 0].astype(np.float64), 2048, (0, limit))[0]
    assert histogram.negative[1:].tolist() == below[1:].tolist()
    assert histogram.zeros == int((x == 0).sum())
    assert (histogram.low, histogram.high) == (float(x.min()), float(x.max()))


def test_values_on_edges_and_just_beside_them():
    edges = (np.arange(1, 2048) / 1024).astype(np.float32)
    x = np.concatenate([edges, np.nextafter(edges, np.float32(0)), np.nextafter(edges, np.float32(9)), [1.9]])
    x = np.concatenate([x, -x]).astype(np.float32)
    histogram = filled([x], 2048)
    assert histogram.limit == 2.0
    assert histogram.counts.tolist() == np.histogram(np.abs(x).astype(np.float64), 2048, (0, 2.0))[0].tolist()


def test_views_that_are_not_contiguous():
    x = np.random.default_rng(0).standard_normal((3, 40, 50)).astype(np.float32)
    same(filled([x.transpose(2, 0, 1)[::2]]), filled([np.ascontiguousarray(x.transpose(2, 0, 1)[::2])]))


def test_threads_do_not_disturb_each_other():
    parts = [np.random.default_rng(i).standard_normal(2 * BLOCK + i).astype(np.float32) for i in range(8)]
    alone = [filled([part]) for part in parts]
    with ThreadPoolExecutor(4) as pool:
        for one, other in zip(alone, pool.map(lambda part: filled([part]), parts)):
            same(one, other)


def test_mean_ends_are_over_batches():
    assert filled([np.array([1.0, -5.0]), np.array([2.0])]).mean_ends == (-1.5, 1.5)


@given(batches, st.randoms())
def test_order_does_not_matter(parts, random):
    shuffled = list(parts)
    random.shuffle(shuffled)
    same(filled(parts), filled(shuffled))


@given(batches, batches)
def test_merging_is_seeing_both(first, second):
    both = filled(first + second)
    left, right = filled(first), filled(second)
    kept = copy.deepcopy(right)
    left.merge(right)
    same(left, both)
    same(right, kept)
    right.merge(filled(first))
    same(right, both)


@given(batches)
def test_splitting_batches_changes_no_count(parts):
    whole = filled(parts)
    pieces = filled([part[i : i + 1] for part in parts for i in range(part.size)])
    assert whole.counts.tolist() == pieces.counts.tolist() and whole.limit == pieces.limit


def test_an_empty_histogram():
    histogram = AbsHistogram()
    histogram.update(np.zeros((0, 3)))
    assert histogram.total == 0 and histogram.abs_max == 0.0 and histogram.mean_abs_max == 0.0
    assert [a.size for a in histogram.used()] == [0, 0]


def test_used_bins_end_with_the_largest_value():
    edges, counts = filled([np.array([0.0, -3.0, 1.0], np.float32)]).used()
    assert edges.tolist() == [i * 0.25 for i in range(13)]
    assert counts.sum() == 3 and counts[0] == 1 and counts[4] == 1 and counts[12] == 1


def test_mean_abs_max_is_over_batches():
    assert filled([np.array([1.0, -5.0]), np.array([2.0])]).mean_abs_max == 3.5


def test_extremely_small_and_large_values():
    histogram = filled([np.array([1e-45], np.float32), np.array([3e38], np.float32), np.array([1e-310])])
    assert histogram.total == 3 and histogram.counts[0] == 2


@pytest.mark.parametrize("bad", [[np.nan], [1.0, np.inf], [-np.inf], [0.0] * (BLOCK + 5) + [np.nan, 2.0]])
def test_nan_and_infinity_are_refused_and_change_nothing(bad):
    histogram, twin = filled([np.ones(3)]), filled([np.ones(3)])
    with pytest.raises(NumericsError, match="NaN or infinity"):
        histogram.update(np.array(bad))
    same(histogram, twin)


def test_wrong_arguments():
    for bins in (0, 1, 100):
        with pytest.raises(NumericsError, match="power of two"):
            AbsHistogram(bins)
    with pytest.raises(NumericsError, match="16 and 32 bins cannot be merged"):
        AbsHistogram(16).merge(AbsHistogram(32))
