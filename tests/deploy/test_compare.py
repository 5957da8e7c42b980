from __future__ import annotations

import json

import numpy as np
import pytest

from slimkit.deploy.compare import compare, top1
from slimkit.errors import DataError


def test_against_brute_force():
    rng = np.random.RandomState(0)
    a, b = rng.randn(7, 5), rng.randn(7, 5)
    found = compare([a[:4], a[4:]], [b[:4], b[4:]])
    assert found.max_abs == pytest.approx(max(abs(x - y) for x, y in zip(a.ravel(), b.ravel())))
    assert found.relative == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(b))
    assert found.cosine == pytest.approx(np.dot(a.ravel(), b.ravel()) / np.linalg.norm(a) / np.linalg.norm(b))
    assert found.sqnr_db == pytest.approx(10 * np.log10((b**2).sum() / ((a - b) ** 2).sum()))
    assert found.top1 == sum(int(np.argmax(x) == np.argmax(y)) for x, y in zip(a, b)) / 7
    assert found.samples == 7


def test_equal_outputs_are_json():
    x = np.ones((2, 3), "float32")
    found = compare([x], [x])
    assert (found.relative, found.cosine, found.top1) == (0, pytest.approx(1), 1)
    assert json.loads(json.dumps(found.to_dict()))["sqnr_db"] is None


def test_zeros_and_maps():
    zero = np.zeros((1, 1, 4, 4))
    assert compare([zero], [zero]).relative == 0
    assert compare([zero + 1], [zero]).relative == 1
    assert compare([zero], [zero]).top1 is None


def test_shapes_must_match():
    with pytest.raises(DataError, match=r"\(2, 3\).*\(2, 4\)"):
        compare([np.zeros((2, 3))], [np.zeros((2, 4))])


def test_top1_takes_both_label_shapes():
    scores = [np.array([[0.1, 0.9], [0.8, 0.2]]), np.array([[0.3, 0.7]])]
    assert top1(scores, [np.array([[1], [1]]), np.array([1])]) == pytest.approx(2 / 3)
