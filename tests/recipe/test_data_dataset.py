"""Order, batches, resume, workers and unreadable samples of every dataset."""

from __future__ import annotations

import random
import threading
import time
from typing import Any, Optional, Tuple

import numpy as np
import pytest
from data_config import section

from slimkit.errors import DataError
from slimkit.recipe.data import CorruptSample, Dataset, build_datasets
from slimkit.recipe.data.prefetch import ordered_map


class Numbers(Dataset):
    """Image i is filled with i, plus noise from the generator."""

    kind = "numbers"
    bad: Tuple[int, ...] = ()

    def sample(self, index: int, generator: Optional[np.random.Generator]) -> Tuple[np.ndarray, int]:
        if index in self.bad:
            raise CorruptSample(f"{index}.jpg", "is truncated")
        noise = generator.random() if generator is not None else 0.0
        return np.full((3, 2, 2), index + noise, np.float32), index % 3


def _numbers(count: int = 23, **given: Any) -> Numbers:
    return Numbers(count, ["a", "b", "c"], **{"train": True, "batch_size": 4, "seed": 7, **given})


def _bytes(batches: Any) -> list:
    return [(b["image"].tobytes(), b["label"].tobytes()) for b in batches]


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("start", [0, 2, 5])
def test_resuming_at_a_step_gives_the_same_batches(workers: int, start: int) -> None:
    whole = _bytes(_numbers().batches(3))
    np.random.seed(start)
    random.seed(start)  # global state must not matter
    assert _bytes(_numbers(workers=workers, prefetch=2).batches(3, start_step=start)) == whole[start:]


def test_epochs_and_seeds_differ_and_each_visits_all() -> None:
    data = _numbers()
    first, second = ([int(v) for b in data.batches(e) for v in np.floor(b["image"][:, 0, 0, 0])] for e in (0, 1))
    assert sorted(first) == sorted(second) == list(range(23))
    assert first != second
    assert _bytes(data.batches(0)) != _bytes(_numbers(seed=8).batches(0))
    fraction = lambda e: sorted(float(v) % 1 for b in data.batches(e) for v in b["image"][:, 0, 0, 0])  # noqa: E731
    assert fraction(0) != fraction(1)


def test_test_set_keeps_its_order() -> None:
    batches = list(_numbers(train=False).batches())
    assert [len(b["image"]) for b in batches] == [4] * 5 + [3]
    assert np.concatenate([b["image"][:, 0, 0, 0] for b in batches]).tolist() == list(range(23))
    assert batches[0]["label"].shape == (4, 1) and batches[0]["label"].dtype == np.int64
    assert batches[0]["image"].dtype == np.float32


def test_drop_last_and_limit() -> None:
    data = _numbers(drop_last=True, limit=10)
    assert (len(data), data.steps, len(list(data.batches()))) == (10, 2, 2)
    assert sorted(data.order(0)) == sorted(data.order(1)) == sorted(_numbers(limit=10).order(5))
    assert len(set(_numbers(limit=10, seed=9).order(0)) ^ set(data.order(0))) > 0


def test_too_few_images_are_refused() -> None:
    with pytest.raises(DataError, match=r"3 images, fewer than data.batch_size = 4.*drop_last"):
        _numbers(3, drop_last=True)
    with pytest.raises(DataError, match="empty"):
        _numbers(0)


@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_sample(workers: int) -> None:
    data = _numbers(train=False, workers=workers)
    data.bad = (5,)
    with pytest.raises(DataError, match=r"5.jpg is truncated; .* data.on_corrupt=skip"):
        list(data.batches())
    data = _numbers(train=False, workers=workers, on_corrupt="skip")
    data.bad = (0, 1, 2, 3, 5)
    batches = list(data.batches())
    assert [len(b["image"]) for b in batches] == [3, 4, 4, 4, 3]
    assert [s["file"] for s in data.report()["skipped"]] == ["0.jpg", "1.jpg", "2.jpg", "3.jpg", "5.jpg"]
    assert data.report()["skipped"][0]["reason"] == "is truncated"


def test_prefetch_keeps_order_and_does_not_run_away() -> None:
    started = []
    lock = threading.Lock()

    def work(item: int) -> int:
        with lock:
            started.append(item)
        time.sleep(0.002 * (item % 3))
        return item * item

    results = ordered_map(work, list(range(50)), workers=3, ahead=4)
    assert [next(results) for _ in range(3)] == [0, 1, 4]
    assert len(started) <= 3 + 4 + 1
    before = threading.active_count()
    results.close()
    assert threading.active_count() < before
    assert list(ordered_map(work, list(range(20)), 3, 4)) == [i * i for i in range(20)]


def test_fashion_mnist() -> None:
    train, test = build_datasets(section(kind="fashion_mnist", image_size=32), num_classes=10, seed=1)
    assert (len(train), len(test), train.steps, train.num_classes) == (10000, 2000, 156, 10)
    batch = next(test.batches())
    assert batch["image"].shape == (128, 3, 32, 32)
    np.testing.assert_array_equal(batch["image"][:, 0], batch["image"][:, 2])
    labels = np.concatenate([b["label"][:, 0] for b in test.batches()])
    assert np.bincount(labels).tolist() == [200] * 10
    assert abs(float(batch["image"].mean())) < 0.1 and 0.8 < float(batch["image"].std()) < 1.1


def test_fashion_mnist_augmentation_is_a_shift_and_a_flip() -> None:
    keys = {"kind": "fashion_mnist", "image_size": 28, "mean": [0.0] * 3, "std": [1 / 255] * 3, "workers": 0}
    train, _ = build_datasets(section(**keys), num_classes=10)
    plain, _ = build_datasets(section(**keys, augment=False), num_classes=10)
    for epoch in range(2):
        seen, original = next(train.batches(epoch)), next(plain.batches(epoch))
        np.testing.assert_array_equal(seen["label"], original["label"])
        flips = 0
        for got, base in zip(np.rint(seen["image"][:, 0]), np.rint(original["image"][:, 0])):
            padded = [np.pad(base, 2), np.pad(base, 2)[:, ::-1]]
            places = [
                (side, y, x)
                for side in (0, 1)
                for y in range(5)
                for x in range(5)
                if np.array_equal(padded[side][y : y + 28, x : x + 28], got)
            ]
            assert places
            flips += places[0][0]
        assert 10 < flips < 54


def test_wrong_class_count() -> None:
    with pytest.raises(DataError, match=r"fashion_mnist has 10 classes.*5 outputs; set network.num_classes=10"):
        build_datasets(section(kind="fashion_mnist"), num_classes=5)
