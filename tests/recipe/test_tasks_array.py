"""Arrays as data: shapes, types, several inputs, folders, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from task_signatures import IMAGENET, signature

from slimkit.errors import ConfigError, DataError
from slimkit.recipe.tasks import guess_task, open_samples

SMALL = signature([("x", (-1, 3, 8, 8))], [("y", (-1, 6))])
TWO = signature([("ids", (-1, 4), "int64"), ("mask", (-1, 4))], [("y", (-1, 4, 9))])


def _save(path: Path, *arrays: np.ndarray, **named: np.ndarray) -> str:
    np.savez(path, **named) if named else np.save(path, arrays[0])
    return str(path)


def _images(count: int = 10, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3, 8, 8)).astype(np.float32)


def test_rows_come_in_order_and_again(tmp_path: Path) -> None:
    data = _images()
    task, samples = open_samples(SMALL, _save(tmp_path / "a.npy", data))
    assert (task.name, len(samples), samples.labelled) == ("array", 10, False)
    for _ in range(2):
        batches = list(samples.batches(4))
        assert [len(feed["x"]) for feed, _ in batches] == [4, 4, 2]
        np.testing.assert_array_equal(np.concatenate([feed["x"] for feed, _ in batches]), data)
    assert [labels for _, labels in batches] == [None] * 3
    assert sum(len(feed["x"]) for feed in samples.feeds(4, limit=6)) == 6


def test_labels_make_a_metric(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.npz", x=_images(5), label=np.arange(5))
    task, samples = open_samples(SMALL, path)
    metric = task.metric()
    assert samples.labelled and metric is not None and task.headline == "top1"
    for feed, labels in samples.stream(2):
        metric.update([np.eye(6)[np.array(labels) * (len(feed["x"]) > 1)]], labels)
    assert metric.result()["top1"] == pytest.approx(4 / 5)  # the last batch, of one, says 0


def test_several_inputs_and_casts(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.npz", ids=np.ones((3, 4), np.int32), mask=np.ones((3, 4), np.float64))
    task, samples = open_samples(TWO, path)
    ((feed, _),) = samples.batches()
    assert {name: array.dtype.name for name, array in feed.items()} == {"ids": "int64", "mask": "float32"}
    assert samples.report()["notes"] == [
        "ids: converted from int32 to int64",
        "mask: converted from float64 to float32",
    ]
    assert task.metric() is None and task.headline == ""


def test_a_folder_of_arrays_and_of_single_samples(tmp_path: Path) -> None:
    for index in range(3):
        _save(tmp_path / f"{index}.npy", _images(index + 1, seed=index))
    _save(tmp_path / "3.npy", _images(1, seed=3)[0])
    _, samples = open_samples(SMALL, str(tmp_path))
    assert len(samples) == 7
    assert [len(feed["x"]) for feed in samples.feeds(2)] == [1, 2, 2, 1, 1]
    assert [len(feed["x"]) for feed in samples.feeds(2, limit=4)] == [1, 2, 1]


def test_a_model_of_a_fixed_batch_gets_whole_batches(tmp_path: Path) -> None:
    fixed = signature([("x", (4, 3, 8, 8))], [("y", (4, 6))])
    _, samples = open_samples(fixed, _save(tmp_path / "a.npy", _images()))
    assert [len(feed["x"]) for feed in samples.feeds(3)] == [4, 4]
    note = "the model takes 4 samples at a time: a last batch of fewer is left out"
    assert samples.report()["notes"] == [note]


def test_one_input_of_a_fixed_batch_fixes_it_for_all(tmp_path: Path) -> None:
    """A detector's: images in any number, their scale for one."""
    detector = signature([("image", (-1, 3, 8, 8)), ("scale", (1, 2))], [("boxes", (-1, 6))])
    assert detector.samples == 1
    _, samples = open_samples(detector, _save(tmp_path / "a.npz", image=_images(3), scale=np.ones((3, 2), np.float32)))
    assert [len(feed["image"]) for feed, _ in samples.batches(4)] == [1, 1, 1]


def test_only_what_a_batch_needs_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, samples = open_samples(SMALL, _save(tmp_path / "a.npy", _images()))
    opened = []
    load = np.load
    monkeypatch.setattr(np, "load", lambda *a, **k: opened.append(k) or load(*a, **k))
    assert len(list(samples.batches(1))) == 10
    assert opened == [{"mmap_mode": "r", "allow_pickle": False}]


WRONG = [
    (
        np.zeros((4, 8, 8, 3), np.float32),
        r"has shape \(4, 8, 8, 3\), but the model takes \(any, 3, 8, 8\); its channels",
    ),
    (np.zeros((8, 8, 3), np.float32), "its channels come last: transpose it"),
    (
        np.zeros((4, 3, 9, 8), np.float32),
        r"has shape \(4, 3, 9, 8\), but the model takes \(any, 3, 8, 8\); give arrays",
    ),
    (np.zeros((4, 3), np.float32), "give arrays of that shape, the first side counting the samples"),
    (np.zeros((4, 3, 8, 8), np.uint8), "is uint8, but the model takes float32; convert it, prepared as in training"),
    (np.zeros((0, 3, 8, 8), np.float32), "has no sample"),
]


@pytest.mark.parametrize(("array", "message"), WRONG)
def test_arrays_that_do_not_fit(array: np.ndarray, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        open_samples(SMALL, _save(tmp_path / "a.npy", array))


NAMED: Any = [
    ({"ids": np.ones((3, 4), int)}, "has no array named mask; it has ids, and the model's inputs are ids, mask"),
    ({"ids": np.ones((3, 4), int), "mask": np.ones((2, 4))}, r"differ in their number of samples, \[2, 3\]"),
    ({"ids": np.ones((3, 4)), "mask": np.ones((3, 4))}, "'ids' is float64, but the model takes int64"),
]


@pytest.mark.parametrize(("arrays", "message"), NAMED)
def test_named_arrays_that_do_not_fit(arrays: dict, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        open_samples(TWO, _save(tmp_path / "a.npz", **arrays))


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"b.npy does not exist; give a FILE.npy"):
        open_samples(SMALL, str(tmp_path / "b.npy"))
    (tmp_path / "b.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match="is no array file that numpy can read"):
        open_samples(SMALL, str(tmp_path / "b.npy"))
    np.save(tmp_path / "c.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match="is no array file that numpy can read"):
        open_samples(SMALL, str(tmp_path / "c.npy"))
    with pytest.raises(DataError, match="holds one array, but the model has the inputs ids, mask"):
        open_samples(TWO, _save(tmp_path / "d.npy", _images()))


def test_no_advice_to_load_unsafely(tmp_path: Path) -> None:
    """numpy's own message says how to load a file unsafely."""
    np.save(tmp_path / "objects.npy", np.array([1, "a", None], dtype=object))
    (tmp_path / "text.npy").write_text("hello")
    for name in ("objects.npy", "text.npy"):
        with pytest.raises(DataError, match="holds Python objects or is of another kind") as told:
            open_samples(IMAGENET, str(tmp_path / name))
        assert "pickle" not in str(told.value)


def test_unknown_task_and_option(tmp_path: Path) -> None:
    path = _save(tmp_path / "a.npy", _images())
    with pytest.raises(ConfigError, match="There is no task clasification; did you mean classification"):
        open_samples(SMALL, path, "clasification")
    with pytest.raises(ConfigError, match="The task classification has no option sise; did you mean size"):
        open_samples(IMAGENET, path, "classification", sise=224)
    for option, value in (("mean", "abc"), ("mean", [0.5, "x"]), ("batch_size", "many"), ("labels", 3)):
        with pytest.raises(ConfigError, match=rf"The option {option} of the task .* is .*; (it should be|text is not)"):
            open_samples(IMAGENET, path, "classification", **{option: value})


def test_guesses() -> None:
    cases = {
        "ppocr_det": ((-1, 3, -1, -1), (-1, 1, -1, -1)),
        "ppocr_rec": ((-1, 3, 48, -1), (-1, -1, 97)),
        "ppocr_cls": ((-1, 3, 48, 192), (-1, 2)),
        "classification": ((-1, 1, 28, 28), (-1, 10)),
    }
    for name, (taken, given) in cases.items():
        assert guess_task(signature([("x", taken)], [("y", given)]), "folder") == name
    assert guess_task(signature([("x", (1, 3, 224, 224))], [("y", (1, 2))]), "folder") == "classification"
    assert guess_task(TWO, "a.npz") == "array"
    with pytest.raises(DataError, match=r"No task fits a model with the inputs ids \(any, 4\)"):
        guess_task(TWO, "folder")
