"""Accuracy against a sort, over random scores with ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimkit.errors import DataError
from slimkit.recipe.metrics import Accuracy


def _by_sorting(logits: np.ndarray, labels: np.ndarray, k: int) -> float:
    """Top-k by a stable sort, lower class first among equals."""
    right = 0
    for row, label in zip(logits, labels):
        ranked = sorted(range(len(row)), key=lambda c: (-row[c], c))
        right += int(label) in ranked[:k]
    return right / len(labels)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 2**31))
def test_equals_sorting(samples: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.integers(-2, 3, (samples, classes)).astype(np.float32)
    labels = rng.integers(0, classes, samples)
    accuracy = Accuracy((1, 2, 5))
    cut = samples // 2
    accuracy.update(logits[:cut], labels[:cut].reshape(-1, 1))
    accuracy.update(logits[cut:], labels[cut:])
    result = accuracy.result()
    for k in (1, 2, 5):
        assert result[f"top{k}"] == pytest.approx(_by_sorting(logits, labels, k))
    assert result["samples"] == samples
    assert result["top1"] == pytest.approx(float(np.mean(logits.argmax(1) == labels)))


def test_constant_and_nan_outputs_are_not_right() -> None:
    accuracy = Accuracy((1,))
    accuracy.update(np.zeros((10, 10)), np.arange(10))
    assert accuracy.result()["top1"] == pytest.approx(0.1)
    accuracy = Accuracy((1,))
    accuracy.update(np.full((4, 3), np.nan), np.zeros(4, int))
    assert accuracy.result()["top1"] == 0.0


def test_no_samples() -> None:
    assert Accuracy().result() == {"top1": 0.0, "top5": 0.0, "samples": 0}


@pytest.mark.parametrize(
    ("logits", "label", "words"),
    [
        (np.zeros((2, 3)), np.array([0, 3]), "A label is 3"),
        (np.zeros((2, 3)), np.array([-1, 0]), "A label is -1"),
        (np.zeros((2, 3)), np.array([0]), "(2, 3)"),
        (np.zeros(3), np.array([0, 1, 2]), "(3,)"),
    ],
)
def test_errors(logits: np.ndarray, label: np.ndarray, words: str) -> None:
    with pytest.raises(DataError) as caught:
        Accuracy().update(logits, label)
    assert words in str(caught.value)


def test_topk_must_be_positive() -> None:
    with pytest.raises(DataError, match="at least 1"):
        Accuracy((0,))
