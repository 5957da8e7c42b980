"""Every algorithm: against the data itself, on symmetric and affine grids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from slimkit.errors import ConfigError, NumericsError
from slimkit.numerics.affine import affine_grid, fake_quantize_affine
from slimkit.numerics.fidelity import sqnr_db
from slimkit.numerics.histogram import AbsHistogram
from slimkit.numerics.observers import OBSERVERS, affine_range, observer
from slimkit.numerics.symmetric import fake_quantize
from slimkit.numerics.thresholds import affine_clipping_error

NAMES = sorted(OBSERVERS)
values = hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(-1e3, 1e3, width=32))


def data(kind, size=200_000):
    rng = np.random.default_rng(3)
    normal = rng.standard_normal(size) * 2
    return {
        "gauss": normal,
        "relu": np.maximum(normal, 0),
        "hard_swish": normal * np.clip(normal + 3, 0, 6) / 6,
        "skewed": np.where(normal > 0, normal, normal / 8),
        "heavy": np.exp(normal / 2),
        "below": -np.exp(normal / 2),
    }[kind].astype(np.float32)


def filled(*parts, bins=2048):
    histogram = AbsHistogram(bins)
    for part in parts:
        histogram.update(part)
    return histogram


def affine_sqnr(x, low, high, bits=8):
    return float(sqnr_db(x, fake_quantize_affine(x, affine_grid(low, high, bits))))


@pytest.mark.parametrize(
    "written, name",
    [("KL", "KL"), ("kl", "KL"), ("Hist", "hist"), ("percentile", "hist"), ("MSE", "mse"), ("Abs_Max", "abs_max")],
)
def test_names_of_paddleslim_in_any_case(written, name):
    assert observer(written).name == name


def test_paddleslims_names_are_all_there():
    assert set(OBSERVERS) == {"KL", "hist", "mse", "emd", "avg", "abs_max", "min_max"}
    assert all(row.name == key and row.source for key, row in OBSERVERS.items())


def test_unknown_name():
    with pytest.raises(ConfigError, match=r"no algorithm 'hits'; allowed are .*KL.* did you mean 'hist'"):
        observer("hits")


def test_options_of_others_are_not_used_and_unknown_ones_refused():
    histogram = filled(data("gauss"))
    assert observer("mse").threshold(histogram, 8, hist_percent=0.9) == observer("mse").threshold(histogram, 8)
    with pytest.raises(ConfigError, match=r"'percent' is no option .*hist_percent"):
        observer("hist").threshold(histogram, 8, percent=0.9)
    with pytest.raises(NumericsError, match="percentile of 0"):
        observer("hist").threshold(histogram, 8, hist_percent=0.0)


@pytest.mark.parametrize("name", NAMES)
def test_no_values_or_zeros_alone(name):
    for histogram in (AbsHistogram(), filled(np.zeros(5, np.float32))):
        assert observer(name).threshold(histogram, 8) == 0.0
        assert affine_range(histogram, name, 8) == (0.0, 0.0)


@pytest.mark.parametrize("name", NAMES)
@given(parts=st.lists(values, min_size=1, max_size=3), bits=st.sampled_from([2, 4, 8, 16]))
def test_thresholds_and_ranges_stay_within_the_values_and_hold_zero(name, parts, bits):
    histogram = filled(*parts, bins=256)
    assert 0.0 <= observer(name).threshold(histogram, bits) <= histogram.abs_max
    low, high = affine_range(histogram, name, bits)
    assert min(histogram.low, 0.0) <= low <= 0.0 <= high <= max(histogram.high, 0.0)


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"mse", "emd"}))  # these move one end before the other
@given(part=values)
def test_the_mirrored_tensor_has_the_mirrored_range(name, part):
    low, high = affine_range(filled(part, bins=256), name, 8)
    assert affine_range(filled(-part, bins=256), name, 8) == pytest.approx((-high, -low))


def test_min_max_abs_max_and_avg():
    histogram = filled(np.array([-1.0, 4.0], np.float32), np.array([-3.0, 2.0], np.float32))
    assert observer("abs_max").threshold(histogram, 8) == observer("min_max").threshold(histogram, 8) == 4.0
    assert observer("avg").threshold(histogram, 8) == 3.5
    assert affine_range(histogram, "min_max", 8) == affine_range(histogram, "abs_max", 8) == (-3.0, 4.0)
    assert affine_range(histogram, "avg", 8) == (-2.0, 3.0)
    assert affine_range(filled(np.array([3.0, 5.0])), "min_max", 8) == (0.0, 5.0)


def test_hist_clips_as_many_values_as_it_says():
    x = data("skewed")
    low, high = affine_range(filled(x), "hist", 8, hist_percent=0.999)
    assert np.mean((x < low) | (x > high)) == pytest.approx(0.001, rel=0.1)
    assert high == pytest.approx(observer("hist").threshold(filled(x), 8, hist_percent=0.999))


@pytest.mark.parametrize("kind", ["gauss", "relu", "hard_swish", "skewed", "heavy", "below"])
@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("bits", [4, 8])
def test_error_of_an_affine_range_is_that_of_the_data(kind, power, bits):
    x = data(kind)
    for part in (0.4, 1.0):
        low, high = min(float(x.min()), 0.0) * part, max(float(x.max()), 0.0) * part
        quantized = fake_quantize_affine(x, affine_grid(low, high, bits))
        expected = float(np.mean(np.abs(x.astype(np.float64) - quantized) ** power))
        got = float(affine_clipping_error(filled(x), np.array([low]), np.array([high]), bits, power)[0])
        assert got == pytest.approx(expected, rel=0.03)


@pytest.mark.parametrize("kind", ["gauss", "relu", "hard_swish", "skewed", "heavy", "below"])
@pytest.mark.parametrize("bits", [4, 8])
def test_mse_ranges_are_as_good_as_exhaustive_search(kind, bits):
    x = data(kind, 20_000)
    lows = np.unique(min(float(x.min()), 0.0) * np.linspace(0.05, 1, 24))
    highs = np.unique(max(float(x.max()), 0.0) * np.linspace(0.05, 1, 24))
    best = max(affine_sqnr(x, low, high, bits) for low in lows for high in highs if high > low)
    assert affine_sqnr(x, *affine_range(filled(x), "mse", bits), bits) > best - 0.15


def test_emd_is_the_earth_movers_distance():
    # In one dimension the distance of two samples of one size is the mean distance of the sorted values.
    x = data("hard_swish", 20_000)
    histogram = filled(x)

    def distance(threshold):
        return np.abs(np.sort(x) - np.sort(fake_quantize(x, float(threshold), 4))).mean(dtype=np.float64)

    found = distance(observer("emd").threshold(histogram, 4))
    assert found <= 1.01 * min(distance(t) for t in np.linspace(0.05, 1, 60) * histogram.abs_max)


@pytest.mark.parametrize("kind", ["relu", "hard_swish", "heavy"])
@pytest.mark.parametrize("name", ["KL", "hist", "mse", "min_max"])
def test_a_zero_point_gains_on_one_sided_tensors(kind, name):
    x = data(kind)
    histogram = filled(x)
    one = float(sqnr_db(x, fake_quantize(x, observer(name).threshold(histogram, 8), 8)))
    assert affine_sqnr(x, *affine_range(histogram, name, 8)) > one + 2


@pytest.mark.parametrize("kind", ["gauss", "relu"])
def test_kl_is_no_worse_than_the_maximum(kind):
    x = data(kind)
    histogram = filled(x)
    reached = [float(sqnr_db(x, fake_quantize(x, observer(n).threshold(histogram, 8), 8))) for n in ("KL", "abs_max")]
    assert reached[0] >= reached[1]
