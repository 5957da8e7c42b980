"""Errors summed batch by batch against the formulas."""

from __future__ import annotations

import numpy as np
import pytest

from slimkit.numerics.error_sums import ErrorSums


def test_error_sums_match_the_formulas():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(7, 5))
    b = a + 0.1 * rng.normal(size=(7, 5))
    sums = ErrorSums()
    for rows in (slice(0, 3), slice(3, 7)):
        sums.add(a[rows], b[rows])
    assert sums.sqnr_db == pytest.approx(10 * np.log10((a**2).sum() / ((a - b) ** 2).sum()))
    assert sums.cosine == pytest.approx((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


def test_error_of_nothing_and_of_no_noise():
    empty, equal = ErrorSums(), ErrorSums()
    empty.add(np.zeros(3), np.zeros(3))
    equal.add(np.ones(3), np.ones(3))
    assert empty.sqnr_db is None and empty.cosine is None
    assert equal.sqnr_db == 200.0 and equal.cosine == pytest.approx(1.0)


def test_more_values_than_a_block_holds():
    rng = np.random.default_rng(1)
    a = rng.normal(size=(3, 70_001)).astype(np.float32)
    b = np.round(a * 8) / 8
    sums = ErrorSums()
    sums.add(a, b)
    wide = a.astype(np.float64)
    assert sums.noise == pytest.approx(((wide - b) ** 2).sum(), rel=1e-12)
    assert sums.signal == pytest.approx((wide**2).sum(), rel=1e-12)
