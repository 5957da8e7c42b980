"""ImageNet-style folders: list files, class folders, decoding, and one clear sentence for what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import cv2
import numpy as np
import pytest
from data_config import section

from slimkit.errors import DataError
from slimkit.recipe.data import CorruptSample, build_datasets
from slimkit.recipe.data.image_folder import decode


def _write(path: Path, value: int = 128, size: tuple = (40, 50)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.full((*size, 3), value, np.uint8)
    image[:, :, 0] = 255 - value  # blue
    path.write_bytes(cv2.imencode(path.suffix, image)[1].tobytes())
    return path


def _folders(root: Path) -> Path:
    for part, count in (("train", 3), ("val", 2)):
        for label, name in enumerate(("cat", "dog")):
            for i in range(count):
                _write(root / part / name / f"图 {i}.png", 40 + 100 * label)
    return root


def _lists(root: Path) -> Path:
    for i in range(4):
        _write(root / "pics" / f"im {i}.jpg", 60 * i)
    (root / "train_list.txt").write_text("pics/im 0.jpg 0\npics/im 1.jpg\t1\n\npics/im 2.jpg 1\n", encoding="utf-8")
    (root / "val_list.txt").write_text("pics/im 3.jpg 0\n", encoding="utf-8")
    return root


def _build(root: Path, num_classes: int = 2, **keys: Any) -> Any:
    defaults: Dict[str, Any] = {
        "kind": "imagenet",
        "root": str(root),
        "image_size": 24,
        "batch_size": 2,
        "workers": 0,
    }
    return build_datasets(section(**{**defaults, **keys}), num_classes=num_classes)


def test_class_folders(tmp_path: Path) -> None:
    train, val = _build(_folders(tmp_path))
    assert train.class_names == val.class_names == ["cat", "dog"]
    assert (len(train), len(val)) == (6, 4)
    labels = np.concatenate([b["label"][:, 0] for b in train.batches()])
    assert sorted(labels) == [0, 0, 0, 1, 1, 1]
    batch = next(val.batches())
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    for image, label in zip(batch["image"], batch["label"][:, 0]):
        value = 40 + 100 * label
        want = (np.array([value, value, 255 - value]) / 255 - mean) / std  # red first
        np.testing.assert_allclose(image.mean(axis=(1, 2)), want, atol=1e-5)
    report = train.report()
    assert report["classes_seen"] == 2 and report["smallest_class"] == 3 and report["skipped"] == []


def test_list_files_with_blanks_in_names(tmp_path: Path) -> None:
    train, val = _build(_lists(tmp_path))
    assert (len(train), len(val)) == (3, 1)
    assert [int(b["label"][0, 0]) for b in val.batches()] == [0]


def test_fashion_mnist_config_with_root_reads_the_folder(tmp_path: Path) -> None:
    train, _ = _build(_folders(tmp_path), kind="fashion_mnist")
    assert train.kind == "imagenet"
    assert next(train.batches())["image"].shape == (2, 3, 24, 24)


def test_channel_order_and_sizes(tmp_path: Path) -> None:
    keys = {"mean": [0.0] * 3, "std": [1.0] * 3, "image_size": [16, 48]}
    rgb = next(_build(_folders(tmp_path), **keys)[1].batches())["image"]
    bgr = next(_build(tmp_path, channel_order="bgr", **keys)[1].batches())["image"]
    assert rgb.shape[2:] == (16, 48)
    np.testing.assert_array_equal(rgb[:, ::-1], bgr)


def test_training_crops_depend_on_epoch_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "ab":
        for part in ("train", "val"):
            (tmp_path / part / name).mkdir(parents=True)
            noise = rng.integers(0, 255, (60, 60, 3)).astype(np.uint8)
            cv2.imwrite(str(tmp_path / part / name / "n.png"), noise)
    a = [b["image"] for b in _build(tmp_path)[0].batches(0)]
    b = [b["image"] for b in _build(tmp_path, workers=2)[0].batches(0)]
    c = [b["image"] for b in _build(tmp_path)[0].batches(1)]
    np.testing.assert_array_equal(a, b)
    assert not np.array_equal(np.sort(np.ravel(a)), np.sort(np.ravel(c)))


def test_missing_things_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data.root is not set"):
        build_datasets(section(kind="imagenet"), num_classes=2)
    with pytest.raises(DataError, match=r"nowhere, which is no folder; give"):
        _build(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"neither train_list.txt nor a folder train"):
        _build(tmp_path)
    _lists(tmp_path)
    (tmp_path / "val_list.txt").unlink()
    with pytest.raises(DataError, match=r"list file .*val_list.txt does not exist"):
        _build(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pics/im 0.jpg 0\nonlyapath.jpg\n", "train_list.txt:2: 'onlyapath.jpg' is not `path label`"),
        ("pics/im 0.jpg cat\n", "train_list.txt:1: 'pics/im 0.jpg cat' is not"),
        ("pics/im 0.jpg 2\n", "train_list.txt:1: label 2 is outside 0 to 1"),
        ("pics/im 0.jpg -1\n", "label -1 is outside"),
        ("\n\n", "lists no image"),
    ],
)
def test_bad_lists(tmp_path: Path, text: str, words: str) -> None:
    _lists(tmp_path)
    (tmp_path / "train_list.txt").write_text(text, encoding="utf-8")
    with pytest.raises(DataError) as caught:
        _build(tmp_path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_list_that_is_not_utf8(tmp_path: Path) -> None:
    _lists(tmp_path)
    (tmp_path / "train_list.txt").write_bytes(b"caf\xe9.jpg 0\n")
    with pytest.raises(DataError, match="not UTF-8"):
        _build(tmp_path)


def test_wrong_class_count_and_unknown_class(tmp_path: Path) -> None:
    _folders(tmp_path)
    with pytest.raises(DataError, match=r"has 2 class folders, .* 10 outputs; set network.num_classes=2"):
        _build(tmp_path, num_classes=10)
    _write(tmp_path / "val" / "horse" / "a.png")
    with pytest.raises(DataError, match=r"horse is a class that train has not"):
        _build(tmp_path)


def test_empty_class_folders(tmp_path: Path) -> None:
    for part in ("train", "val"):
        for name in "ab":
            (tmp_path / part / name).mkdir(parents=True)
    with pytest.raises(DataError, match="No image under"):
        _build(tmp_path)


@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp"])
def test_damaged_images_are_named(tmp_path: Path, ending: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 80, 3)).astype(np.uint8)
    whole = cv2.imencode(ending, noise)[1].tobytes()
    path = tmp_path / f"broken{ending}"
    for damaged in (b"", whole[: len(whole) // 2], whole[: len(whole) * 9 // 10], b"not an image" * 9):
        path.write_bytes(damaged)
        with pytest.raises(CorruptSample) as caught:
            decode(str(path))
        assert str(path) in str(caught.value) and "data.on_corrupt=skip" in str(caught.value)
    path.write_bytes(whole + b"\0" * 5000)  # padding after the end is common and harmless
    assert decode(str(path)).shape == (60, 80, 3)


def test_corrupt_image_refused_or_skipped(tmp_path: Path) -> None:
    _folders(tmp_path)
    bad = tmp_path / "train" / "cat" / "图 1.png"
    bad.write_bytes(bad.read_bytes()[:40])
    with pytest.raises(DataError, match=r"图 1.png is truncated"):
        list(_build(tmp_path)[0].batches())
    train = _build(tmp_path, on_corrupt="skip")[0]
    assert sum(len(b["image"]) for b in train.batches()) == 5
    assert [item["file"] for item in train.report()["skipped"]] == [str(bad)]


def test_missing_image_file_is_named(tmp_path: Path) -> None:
    _lists(tmp_path)
    (tmp_path / "pics" / "im 3.jpg").unlink()
    with pytest.raises(DataError, match=r"im 3.jpg cannot be read \(No such file"):
        list(_build(tmp_path)[1].batches())
