"""PP-OCR's tasks: its preprocessing step by step, its label files, batches of one shape, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import List

import cv2
import numpy as np
import pytest
from task_signatures import CLS, DET, REC, signature

from slimkit.errors import ConfigError, DataError
from slimkit.recipe.tasks import open_samples

SMALL_REC = signature([("x", (-1, 3, 48, -1))], [("y", (-1, -1, 5))])


def _image(path: Path, height: int, width: int, seed: int = 0) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return pixels


def _line_reference(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """What PP-OCR does to a line that goes into an input of ``width``."""
    resized = cv2.resize(image, (min(width, math.ceil(height * image.shape[1] / image.shape[0])), height))
    padded = np.zeros((3, height, width), np.float32)
    padded[:, :, : resized.shape[1]] = (resized.transpose(2, 0, 1).astype(np.float32) / 255 - 0.5) / 0.5
    return padded


def test_lines_of_a_batch_are_as_wide_as_the_widest_and_sorted(tmp_path: Path) -> None:
    sizes = [(30, 500), (48, 100), (20, 150), (40, 40), (32, 640)]
    images = [_image(tmp_path / f"{i}.png", *size, seed=i) for i, size in enumerate(sizes)]
    (tmp_path / "rec_gt.txt").write_text("".join(f"{i}.png\tt{i}\n" for i in range(5)), encoding="utf-8")
    dictionary = tmp_path / "characters"
    dictionary.write_text("a\nb\nc\n", encoding="utf-8")
    task, samples = open_samples(SMALL_REC, str(tmp_path), dictionary=str(dictionary))
    assert task.name == "ppocr_rec" and task.headline == "exact_match" and samples.labelled
    batches = list(samples.batches(2))
    assert [labels for _, labels in batches] == [["t3", "t1"], ["t2", "t0"], ["t4"]]
    assert [feed["x"].shape[3] for feed, _ in batches] == [320, 800, 960]
    for feed, labels in batches:
        for row, label in zip(feed["x"], labels or []):
            expected = _line_reference(images[int(label[1])], 48, feed["x"].shape[3])
            np.testing.assert_allclose(row, expected, atol=1e-6)
    _, narrow = open_samples(SMALL_REC, str(tmp_path), dictionary=str(dictionary), max_width=400)
    assert [feed["x"].shape[3] for feed in narrow.feeds(2)] == [320, 400, 400]


def test_a_recognizer_of_one_width_squeezes(tmp_path: Path) -> None:
    image = _image(tmp_path / "a.png", 20, 400)
    fixed = signature([("x", (1, 3, 32, 320))], [("y", (1, 80, 97))])
    _, samples = open_samples(fixed, str(tmp_path))
    ((feed, labels),) = samples.batches()
    assert labels is None
    np.testing.assert_allclose(feed["x"][0], _line_reference(image, 32, 320), atol=1e-6)
    with pytest.raises(ConfigError, match=r"height is 48, but the model's input takes \(1, 3, 32, 320\)"):
        open_samples(fixed, str(tmp_path), height=48)


def test_the_dictionary_must_be_the_models(tmp_path: Path) -> None:
    _image(tmp_path / "a.png", 48, 100)
    (tmp_path / "label.txt").write_text("a.png\tabc\n", encoding="utf-8")
    (tmp_path / "own.dic").write_text("a\nb\n", encoding="utf-8")
    message = r"makes 4 classes \(the blank and 3 characters, a space among them\), but the model has 5"
    with pytest.raises(DataError, match=message):
        open_samples(SMALL_REC, str(tmp_path), dictionary=str(tmp_path / "own.dic"))
    with pytest.raises(DataError, match=r"The dictionary .* cannot be read \(No such file"):
        open_samples(SMALL_REC, str(tmp_path), dictionary=str(tmp_path / "away"))
    (tmp_path / "own.dic").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match="is not UTF-8 text; save it as UTF-8, a character a line"):
        open_samples(SMALL_REC, str(tmp_path), dictionary=str(tmp_path / "own.dic"))
    _, samples = open_samples(SMALL_REC, str(tmp_path), labels="none")  # to calibrate, no dictionary is needed
    assert not samples.labelled and len(list(samples.feeds())) == 1


@pytest.mark.parametrize("size", [(30, 60), (30, 500), (100, 100)])
def test_lines_for_the_direction(size: tuple, tmp_path: Path) -> None:
    image = _image(tmp_path / "a.png", *size)
    (tmp_path / "label.txt").write_text("a.png\t180\n", encoding="utf-8")
    task, samples = open_samples(CLS, str(tmp_path))
    ((feed, labels),) = samples.batches()
    assert (task.name, labels) == ("ppocr_cls", [1])
    np.testing.assert_allclose(feed["x"][0], _line_reference(image, 48, 192), atol=1e-6)
    (tmp_path / "label.txt").write_text("a.png\t90\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"'a.png.t90' is not `path<TAB>0 or 180`; correct the line"):
        open_samples(CLS, str(tmp_path), labels="label.txt")


def _page_labels(*names: str) -> str:
    boxes = [
        {"transcription": "a", "points": [[10, 10], [60, 10], [60, 30], [10, 30]]},
        {"transcription": "###", "points": [[10, 50], [60, 50], [60, 70], [10, 70]], "difficult": False},
    ]
    return "".join(f"{name}\t{json.dumps(boxes)}\n" for name in names)


def _page_reference(image: np.ndarray, height: int, width: int) -> np.ndarray:
    resized = cv2.resize(image, (width, height)).astype(np.float32) / 255
    return ((resized - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]).transpose(2, 0, 1)


def test_pages_are_batched_by_size(tmp_path: Path) -> None:
    sizes = [(100, 140), (1200, 600), (100, 140), (90, 150)]
    images = [_image(tmp_path / f"{i}.png", *size, seed=i) for i, size in enumerate(sizes)]
    (tmp_path / "Label.txt").write_text(_page_labels(*(f"{tmp_path.name}/{i}.png" for i in range(4))), encoding="utf-8")
    task, samples = open_samples(DET, str(tmp_path))
    batches = list(samples.batches(4))
    assert task.name == "ppocr_det" and task.headline == "hmean"
    assert [feed["x"].shape for feed, _ in batches] == [(2, 3, 96, 128), (1, 3, 960, 480), (1, 3, 96, 160)]
    labels = [page for _, pages in batches for page in pages or []]
    assert [page.size for page in labels] == [sizes[0], sizes[2], sizes[1], sizes[3]]
    assert labels[0].ignored == [False, True] and labels[0].boxes[0].tolist()[2] == [60, 30]
    for feed, number in ((batches[0][0]["x"][1], 2), (batches[1][0]["x"][0], 1)):
        np.testing.assert_allclose(feed, _page_reference(images[number], *feed.shape[1:]), atol=1e-5)
    task.metric().update([np.zeros((2, 1, 96, 128), np.float32)], labels[:2])


SIDES = [
    ({"limit_type": "min", "limit_side_len": 736}, (736, 1472)),
    ({"limit_side_len": 64}, (32, 64)),
    ({"size": [64, 96]}, (64, 96)),
    ({}, (96, 192)),
]


@pytest.mark.parametrize(("options", "expected"), SIDES)
def test_sides_of_a_page(options: dict, expected: tuple, tmp_path: Path) -> None:
    _image(tmp_path / "a.png", 100, 200)
    _, samples = open_samples(DET, str(tmp_path), **options)
    ((feed, labels),) = samples.batches()
    assert labels is None and feed["x"].shape[2:] == expected


def test_options_that_no_detector_has(tmp_path: Path) -> None:
    for options in ({"limit_type": "mean"}, {"limit_side_len": 8}):
        with pytest.raises(ConfigError, match="the type must be max or min, the length at least 32"):
            open_samples(DET, str(tmp_path), **options)
    with pytest.raises(
        ConfigError, match="The option size of the task ppocr_det is 'big'; it should be a valid integer"
    ):
        open_samples(DET, str(tmp_path), size="big")
    with pytest.raises(ConfigError, match=r"size is \[1, 2, 3\]; it must be a number of pixels, or \[height, width\]"):
        open_samples(DET, str(tmp_path), size=[1, 2, 3])


def test_a_page_label_is_no_text(tmp_path: Path) -> None:
    """A folder of PPOCRLabel: Label.txt has the boxes, rec_gt.txt the lines that were cut out."""
    _image(tmp_path / "crop_img" / "a.png", 48, 100)
    _image(tmp_path / "page.png", 100, 100)
    (tmp_path / "Label.txt").write_text(_page_labels("page.png"), encoding="utf-8")
    (tmp_path / "rec_gt.txt").write_text("crop_img/a.png\tabc\n", encoding="utf-8")
    pages, lines = (open_samples(model, str(tmp_path), labels=None)[1] for model in (DET, REC))
    assert len(pages) == len(lines) == 1
    assert next(pages.batches())[1][0].size == (100, 100)
    assert next(lines.batches())[1] == ["abc"]


def test_a_label_file_of_any_name_is_found(tmp_path: Path) -> None:
    _image(tmp_path / "a.png", 48, 100)
    (tmp_path / "characters.txt").write_text("a\nb\n", encoding="utf-8")
    (tmp_path / "mine.txt").write_text("\ufeffa.png\t0\r\n", encoding="utf-8")
    _, samples = open_samples(CLS, str(tmp_path))
    labels: List[int] = [label for _, labels in samples.batches() for label in labels or []]
    assert labels == [0] and samples.report()["notes"] == [f"labels from {tmp_path / 'mine.txt'}"]


def test_a_label_file_by_name_that_does_not_fit(tmp_path: Path) -> None:
    _image(tmp_path / "a.png", 48, 100)
    file = tmp_path / "label.txt"
    file.write_text(_page_labels("a.png"), encoding="utf-8")
    _, samples = open_samples(REC, str(tmp_path))
    assert samples.report()["notes"] == [f"{file} was not read: its lines are not `path<TAB>text`"]
    file.write_text("a.png\tabc\na.png abc\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"label.txt:2: 'a.png abc' is not `path<TAB>text`; correct the line"):
        open_samples(REC, str(tmp_path))


def test_a_model_of_another_kind() -> None:
    two = signature([("a", (-1, 3, 8, 8)), ("b", (-1, 2))], [("y", (-1, 2))])
    with pytest.raises(DataError, match=r"feeds images to one input, but the model has 2: a, b; give a FILE.npz"):
        open_samples(two, "folder", "ppocr_cls")
    flat = signature([("a", (-1, 100))], [("y", (-1, 2))])
    with pytest.raises(DataError, match=r"input 'a' takes \(any, 100\) in float32; give a FILE.npy"):
        open_samples(flat, "folder", "ppocr_det")
