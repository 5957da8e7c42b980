"""Grids of activations: the algorithm's own range where there is a zero point."""

import numpy as np
import pytest

from slimkit.numerics.histogram import AbsHistogram
from slimkit.numerics.observers import OBSERVERS, observer
from slimkit.quant.ptq_config import PtqConfig
from slimkit.quant.ptq_table import activation_grid


def histogram_of(x):
    histogram = AbsHistogram()
    histogram.update(np.asarray(x, np.float32))
    return histogram


@pytest.mark.parametrize("algo", sorted(OBSERVERS))
def test_an_affine_grid_spans_the_algorithms_range(algo):
    normal = np.random.default_rng(0).standard_normal(50_000) * 2
    histogram = histogram_of(normal * np.clip(normal + 3, 0, 6) / 6)
    low, high = observer(algo).affine_range(histogram, 8)
    grid = activation_grid("x", histogram, 8, PtqConfig(algo=algo), affine=True)
    assert grid.scale[0] == pytest.approx(high - low, rel=1e-5)
    assert grid.zero_point[0] == round(-low / (high - low) * 255)
    symmetric = activation_grid("x", histogram, 8, PtqConfig(algo=algo))
    assert symmetric.scale[0] == pytest.approx(observer(algo).threshold(histogram, 8), rel=1e-6)


def test_a_tensor_that_is_always_zero_has_a_grid():
    for affine in (False, True):
        grid = activation_grid("x", histogram_of(np.zeros(9)), 8, PtqConfig(), affine)
        assert grid.scale[0] > 0 and grid.zero_point[0] == 0
