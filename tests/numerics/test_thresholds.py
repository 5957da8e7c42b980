"""Fitted thresholds against exhaustive search on the data itself."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimkit.errors import NumericsError
from slimkit.numerics.fidelity import mean_squared_error, sqnr_db
from slimkit.numerics.histogram import AbsHistogram
from slimkit.numerics.symmetric import fake_quantize
from slimkit.numerics.thresholds import clipping_error, mse_threshold, percentile_threshold


def data(kind, size=200_000):
    rng = np.random.default_rng(0)
    x = {"gauss": rng.standard_normal, "laplace": lambda s: rng.laplace(size=s)}[kind](size).astype(np.float32)
    return x


def filled(x, bins=2048):
    histogram = AbsHistogram(bins)
    histogram.update(x)
    return histogram


@pytest.mark.parametrize("kind", ["gauss", "laplace"])
@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_error_from_the_histogram_is_that_of_the_data(kind, bits):
    x = data(kind)
    top = float(np.abs(x).max())
    for threshold in (0.2 * top, 0.5 * top, top):
        expected = float(mean_squared_error(x, fake_quantize(x, threshold, bits)))
        got = float(clipping_error(filled(x), np.array([threshold]), bits)[0])
        assert got == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_steps_finer_than_a_bin_still_give_their_error(bits):
    x = data("gauss")
    top = float(np.abs(x).max())
    expected = float(mean_squared_error(x, fake_quantize(x, top, bits)))
    assert float(clipping_error(filled(x), np.array([top]), bits)[0]) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("kind", ["gauss", "laplace"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_mse_threshold_is_as_good_as_exhaustive_search(kind, bits):
    x = data(kind, 50_000)
    found = mse_threshold(filled(x), bits)
    reached = float(sqnr_db(x, fake_quantize(x, found, bits)))
    best = max(float(sqnr_db(x, fake_quantize(x, t, bits))) for t in np.linspace(0.05, 1, 96) * np.abs(x).max())
    assert reached > best - 0.1


def test_gaussian_optimum_of_four_bits_is_the_published_one():
    # Banner et al. 2019, section 3: about 2.55 standard deviations for 16 levels; 15 levels here.
    assert mse_threshold(filled(data("gauss", 1_000_000)), 4) == pytest.approx(2.5, abs=0.08)


def test_more_bits_clip_less():
    histogram = filled(data("laplace"))
    found = [mse_threshold(histogram, bits) for bits in (2, 4, 6, 8)]
    assert found == sorted(found) and found[0] < found[-1]


@given(st.floats(0.001, 1000), st.sampled_from([4, 8]))
def test_thresholds_follow_the_unit(factor, bits):
    x = data("gauss", 5000)
    one, other = filled(x), filled((x * np.float32(factor)).astype(np.float32))
    assert mse_threshold(other, bits) == pytest.approx(factor * mse_threshold(one, bits), rel=0.08)
    assert percentile_threshold(other, 99) == pytest.approx(factor * percentile_threshold(one, 99), rel=0.01)


@pytest.mark.parametrize("percentile", [50, 90, 99, 99.9])
def test_percentiles_are_numpys_to_a_bin(percentile):
    x = data("laplace")
    histogram = filled(x)
    expected = float(np.percentile(np.abs(x), percentile))
    assert percentile_threshold(histogram, percentile) == pytest.approx(expected, abs=histogram.width)


def test_the_hundredth_percentile_is_the_maximum():
    x = data("gauss")
    assert percentile_threshold(filled(x), 100) == pytest.approx(float(np.abs(x).max()))


def test_exact_zeros_do_not_pull_the_threshold():
    x = data("gauss")
    sparse = np.concatenate([x, np.zeros(10 * x.size, np.float32)])
    for bits in (4, 8, 16):
        assert mse_threshold(filled(sparse), bits) == pytest.approx(mse_threshold(filled(x), bits), rel=0.05)


def test_histograms_without_a_threshold():
    assert mse_threshold(AbsHistogram(), 8) == 0.0 and percentile_threshold(AbsHistogram(), 99) == 0.0
    zeros = filled(np.zeros(5, np.float32))
    assert mse_threshold(zeros, 8) == 0.0 and percentile_threshold(zeros, 99) == 0.0


def test_one_value_alone_is_its_own_threshold():
    assert mse_threshold(filled(np.full(7, -3.0, np.float32)), 8) == pytest.approx(3.0, rel=0.01)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda h: percentile_threshold(h, 0), "percentile of 0"),
        (lambda h: percentile_threshold(h, 100.5), "up to 100"),
        (lambda h: mse_threshold(h, 1), "2 to 16"),
        (lambda h: mse_threshold(h, 8, 0), "0 candidates"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(NumericsError, match=message):
        call(AbsHistogram())
