"""Folders of images: classification's preparation, labels by folder or file, unreadable files, Fashion-MNIST."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Iterator, List

import cv2
import numpy as np
import pytest
from task_signatures import IMAGENET, signature

from slimkit.errors import ConfigError, DataError
from slimkit.recipe.data.fashion_mnist import FashionMnist
from slimkit.recipe.data.image_folder import ImageFolder
from slimkit.recipe.tasks import image_samples, open_samples
from slimkit.recipe.tasks.image_samples import header_size

TINY = signature([("image", (-1, 3, 32, 32))], [("y", (-1, 3))])


def _image(path: Path, seed: int = 0, size: tuple = (40, 50)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    return path


@pytest.fixture
def classes(tmp_path: Path) -> Path:
    for index, name in enumerate(["cat", "cat", "dog", "owl", "owl"]):
        _image(tmp_path / "data" / name / f"{index}.png", index)
    return tmp_path / "data"


def _labels(samples: Iterator) -> List[int]:
    return [label for _, labels in samples for label in labels]


def test_preparation_is_that_of_the_recipes_evaluation(classes: Path) -> None:
    _, samples = open_samples(TINY, str(classes))
    files = sorted(classes.rglob("*.png"))
    data = ImageFolder([(f, 0) for f in files], ["a"], train=False, batch_size=9, size=(32, 32))
    expected = np.stack([data.sample(index, None)[0] for index in range(5)])
    got = np.concatenate([feed["image"] for feed in samples.feeds(2)])
    np.testing.assert_array_equal(got, expected)


def test_labels_are_the_sorted_folders(classes: Path) -> None:
    task, samples = open_samples(TINY, str(classes))
    assert task.name == "classification" and samples.labelled
    assert _labels(samples.batches(2)) == [0, 0, 1, 2, 2]
    assert samples.report()["notes"] == [f"labels from the 3 folders of {classes}"]
    assert not open_samples(TINY, str(classes), labels="none")[1].labelled


def test_folders_that_are_not_the_classes_give_no_labels(classes: Path) -> None:
    _, samples = open_samples(IMAGENET, str(classes))
    assert len(samples) == 5 and not samples.labelled
    assert "has 3 folders and the model 1000 classes: images are taken without labels" in samples.report()["notes"][0]


def test_validation_images_to_verify_training_images_to_calibrate(tmp_path: Path) -> None:
    for part, count in (("train", 4), ("val", 2)):
        for name in "abc":
            for index in range(count):
                _image(tmp_path / part / name / f"{index}.png")
    _, samples = open_samples(TINY, str(tmp_path))
    assert (len(samples), len(samples.calibration())) == (6, 12)
    assert _labels(samples.batches()) == [0, 0, 1, 1, 2, 2]


def test_list_files_of_paddleclas(classes: Path) -> None:
    (classes / "val_list.txt").write_text("owl/3.png 2\n\ncat/0.png 0\nowl/away.png 2\n", encoding="utf-8")
    _, samples = open_samples(TINY, str(classes))
    assert _labels(samples.batches()) == [2, 0]
    notes = samples.report()["notes"]
    assert "1 of 3 images of" in notes[1] and "do not exist: owl/away.png" in notes[1]
    own = classes.parent / "mine.txt"
    own.write_text("data/dog/2.png 1\n", encoding="utf-8")
    assert _labels(open_samples(TINY, str(classes), labels=str(own))[1].batches()) == [1]
    assert _labels(open_samples(TINY, str(own))[1].batches()) == [1]


def test_label_files_that_cannot_be_used(classes: Path) -> None:
    file = classes / "val_list.txt"
    cases = [
        ("owl/9.png 2\nx.png 1\n", "names 2 images and none of them exists .the first is owl/9.png"),
        ("owl/3.png 3\n", "has the label 3, but the model has 3 classes"),
        ("", "has no line; write one `path label` line an image, or pass labels=none"),
        ("owl/3.png owl\n", r"val_list.txt:1: 'owl/3.png owl' is not `path label`"),
    ]
    for text, message in cases:
        file.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=message):
            open_samples(TINY, str(classes), labels="val_list.txt")
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        open_samples(TINY, str(classes), labels="val_list.txt")
    with pytest.raises(DataError, match=r"The label file no.txt does not exist"):
        open_samples(TINY, str(classes), labels="no.txt")


def test_unreadable_images_are_counted(classes: Path) -> None:
    (classes / "dog" / "bad.jpg").write_bytes(b"\xff\xd8 no image")
    (classes / "cat" / "empty.png").write_bytes(b"")
    _, samples = open_samples(TINY, str(classes))
    assert _labels(samples.batches(1)) == [0, 0, 1, 2, 2]
    report = samples.report()
    assert (report["samples"], report["skipped"]) == (7, 2)
    assert [row["reason"] for row in report["skipped_files"]] == ["is empty", "is truncated"]


def test_folders_without_images(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"The folder .* is empty; the formats read are .jpg"):
        open_samples(TINY, str(tmp_path))
    (tmp_path / "readme.md").write_text("no image")
    with pytest.raises(DataError, match="holds no image"):
        open_samples(TINY, str(tmp_path))
    (tmp_path / "a.jpg").write_bytes(b"no image")
    _, samples = open_samples(TINY, str(tmp_path))
    with pytest.raises(DataError, match=r"None of the 1 images of .* can be read; the first, .*a.jpg, is not an image"):
        list(samples.batches())
    with pytest.raises(DataError, match="away does not exist; give a folder of images"):
        open_samples(TINY, str(tmp_path / "away"))


def test_limit_is_a_fixed_choice_all_over_the_folder(tmp_path: Path) -> None:
    for index in range(30):
        _image(tmp_path / "abc"[index // 10] / f"{index:02d}.png", index)
    _, samples = open_samples(TINY, str(tmp_path))
    chosen = _labels(samples.batches(4, limit=12))
    assert len(chosen) == 12 and set(chosen) == {0, 1, 2} and chosen == _labels(samples.batches(5, limit=12))


def test_images_are_read_as_they_are_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for index in range(20):
        _image(tmp_path / f"{index:02d}.png", index)
    read = []
    decode = image_samples.decode
    monkeypatch.setattr(image_samples, "decode", lambda path: read.append(path) or decode(path))
    _, samples = open_samples(TINY, str(tmp_path), labels="none")
    batches = samples.batches(2)
    assert not read
    next(batches)
    batches.close()  # waits for what is under way
    assert 2 <= len(read) <= 6
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("slimkit-data")]


def test_grey_models_and_own_options(tmp_path: Path) -> None:
    path = _image(tmp_path / "a.png", size=(32, 32))
    grey = signature([("x", (-1, 1, 32, 32))], [("y", (-1, 3))])
    _, samples = open_samples(grey, str(tmp_path), mean=[0.5], std=[0.25], resize_short=32)
    ((feed, _),) = samples.batches()
    expected = (cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) / 255 - 0.5) / 0.25
    np.testing.assert_allclose(feed["x"][0, 0], expected, atol=0.02)  # OpenCV's own rounding of grey
    with pytest.raises(ConfigError, match="the model's input has 1 channels; give 1 numbers each"):
        open_samples(grey, str(tmp_path), mean=[0.5, 0.5, 0.5])
    with pytest.raises(ConfigError, match="channel_order is 'gbr'"):
        open_samples(TINY, str(tmp_path), channel_order="gbr")
    with pytest.raises(DataError, match=r"size is \[64, 64\], but the model's input 'image' takes"):
        open_samples(TINY, str(tmp_path), size=64)


def test_fashion_mnist_is_prepared_as_in_the_recipes() -> None:
    ten = signature([("x", (-1, 3, 48, 48))], [("y", (-1, 10))])
    task, samples = open_samples(ten, "fashion_mnist")
    data = FashionMnist(train=False, size=(48, 48), batch_size=4)
    feed, labels = next(samples.batches(4, limit=4))
    assert task.name == "classification" and len(samples) == 2000 and len(labels) == 4
    first, _ = next(samples.batches(4))
    np.testing.assert_array_equal(first["x"], next(data.batches())["image"])
    assert len(samples.calibration()) == 10000 and feed["x"].shape == (4, 3, 48, 48)
    with pytest.raises(DataError, match="fashion_mnist has 10 classes, but the model has 3"):
        open_samples(TINY, "fashion_mnist")


def test_images_for_any_other_network(tmp_path: Path) -> None:
    path = _image(tmp_path / "a.png", size=(40, 80))
    _image(tmp_path / "b" / "b.png", 1, size=(60, 60))
    inputs = [("image", (-1, 3, 32, 64)), ("scale_factor", (-1, 2)), ("im_shape", (-1, 2))]
    detector = signature(inputs, [("boxes", (-1, 6)), ("count", (-1,), "int32")])
    task, samples = open_samples(detector, str(tmp_path), mean=[0, 0, 0], std=[1, 1, 1])
    ((feed, labels),) = samples.batches(2)
    assert (task.name, task.headline, task.metric(), labels) == ("image", "", None, None)
    assert feed["im_shape"].tolist() == [[32, 64], [32, 64]]
    np.testing.assert_allclose(feed["scale_factor"], [[32 / 40, 64 / 80], [32 / 60, 64 / 60]])
    expected = cv2.resize(cv2.imread(str(path)), (64, 32))[:, :, ::-1].transpose(2, 0, 1) / 255
    np.testing.assert_allclose(feed["image"][0], expected, atol=1e-6)
    anywhere = signature([("x", (-1, 3, -1, -1))], [("y", (-1, 19, -1, -1))])
    _, samples = open_samples(anywhere, str(tmp_path))
    assert next(iter(samples.feeds()))["x"].shape == (1, 3, 512, 512)
    assert samples.report()["notes"] == ["images stretched to 512x512; option size sets another"]
    with pytest.raises(DataError, match="The task image knows no labels"):
        open_samples(anywhere, str(tmp_path), labels="label.txt")


def test_a_header_tells_the_decoded_size(tmp_path: Path) -> None:
    from PIL import Image

    image = Image.new("RGB", (30, 20))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(tmp_path / "a.jpg", exif=exif)
    assert header_size(tmp_path / "a.jpg") == cv2.imread(str(tmp_path / "a.jpg")).shape[:2] == (30, 20)
    assert header_size(tmp_path / "no.jpg") == (0, 0)
