from __future__ import annotations

import json

import numpy as np
import pytest

from slimkit.deploy.compare import OutputsCounter, compare
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


def test_sequences_agree_step_by_step():
    scores = np.random.RandomState(0).randn(2, 5, 12)
    other = scores.copy()
    other[1, 3] = -other[1, 3]
    assert compare([other], [scores]).top1 == 9 / 10
    assert compare([other[:, :, :4]], [scores[:, :, :4]]).top1 is None  # boxes


def test_infinities():
    masked = np.array([[1.0, -np.inf, 2.0]])
    assert compare([masked], [masked]).relative == 0
    broken = compare([masked], [np.ones((1, 3))])
    assert broken.max_abs == np.inf and broken.to_dict()["max_abs"] is None


def test_several_outputs():
    rng = np.random.RandomState(1)
    a, b = [rng.randn(4, 2, 3, 3), rng.randn(4, 6)], [rng.randn(4, 2, 3, 3), rng.randn(4, 6)]
    counter = OutputsCounter()
    counter.add([x[:1] for x in a], [x[:1] for x in b])
    counter.add([x[1:] for x in a], [x[1:] for x in b])
    flat = [np.concatenate([x.ravel() for x in values]) for values in (a, b)]
    found = counter.result()
    assert found.relative == pytest.approx(np.linalg.norm(flat[0] - flat[1]) / np.linalg.norm(flat[1]))
    assert found.top1 == np.mean(a[1].argmax(1) == b[1].argmax(1)) and found.samples == 4
    each = [compare([x], [y]) for x, y in zip(a, b)]
    assert [e.cosine for e in counter.each()] == [pytest.approx(e.cosine) for e in each]


def test_detections_of_different_number_are_a_problem_not_an_error():
    counter = OutputsCounter()
    counter.add([np.zeros((3, 6))], [np.zeros((2, 6))])
    assert counter.result() is None and "(3, 6)" in counter.problem
