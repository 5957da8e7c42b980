"""Transforms against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from slimkit.recipe.data import transforms


def _image(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_normalise(order: str) -> None:
    image, mean, std = _image(3, 4), (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    got = transforms.normalise(image, mean, std, order)
    assert got.shape == (3, 3, 4) and got.dtype == np.float32 and got.flags.c_contiguous
    for channel in range(3):
        source = channel if order == "bgr" else 2 - channel
        for y in range(3):
            for x in range(4):
                want = (int(image[y, x, source]) / 255 - mean[channel]) / std[channel]
                assert got[channel, y, x] == pytest.approx(want, abs=1e-6)


def test_normalise_grey_replicates() -> None:
    grey = _image(5, 5)[:, :, 0]
    got = transforms.normalise(grey, (0, 0, 0), (1, 2, 4), "rgb")
    np.testing.assert_allclose(got[0], grey / 255, rtol=1e-6)
    np.testing.assert_allclose(got[0], 4 * got[2], rtol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(50, 80), (80, 50), (10, 13), (64, 64)])
def test_resize_short_keeps_the_ratio(height: int, width: int) -> None:
    got = transforms.resize_short(_image(height, width), 32)
    assert min(got.shape[:2]) == 32
    assert abs(max(got.shape[:2]) - 32 * max(height, width) / min(height, width)) <= 1


def test_center_crop() -> None:
    image = _image(9, 12)
    np.testing.assert_array_equal(transforms.center_crop(image, 5, 6), image[2:7, 3:9])
    assert transforms.center_crop(_image(4, 20), 8, 8).shape == (8, 8, 3)


def test_random_resized_crop_covers_areas_and_ratios() -> None:
    ramp = np.stack(np.broadcast_arrays(np.arange(200)[:, None], np.arange(240)[None, :], 0), 2).astype(np.uint8)
    areas = []
    for seed in range(60):
        got = transforms.random_resized_crop(ramp, 32, 24, np.random.default_rng(seed)).astype(int)
        assert got.shape == (32, 24, 3)
        height = (got[-1, 0, 0] - got[0, 0, 0]) * 32 / 31
        width = (got[0, -1, 1] - got[0, 0, 1]) * 24 / 23
        areas.append(height * width / (200 * 240))
        assert 0.65 < width / height < 1.5
    assert min(areas) < 0.25 and max(areas) > 0.7 and min(areas) > 0.05


def test_random_resized_crop_of_a_sliver_falls_back() -> None:
    got = transforms.random_resized_crop(_image(3, 400), 8, 8, np.random.default_rng(0), scale=(0.9, 1.0))
    assert got.shape == (8, 8, 3)


def test_shift_and_flip_probability() -> None:
    image = _image(6, 6)
    rng = np.random.default_rng(0)
    assert sum(np.array_equal(transforms.random_flip(image, 0.25, rng), image[:, ::-1]) for _ in range(400)) in range(
        70, 131
    )
    assert transforms.random_flip(image, 0.0, rng) is image
    assert transforms.random_shift(image, 0, rng) is image
    assert transforms.random_shift(image, 3, rng).shape == image.shape


def test_erase_sets_one_rectangle_to_the_mean() -> None:
    for seed in range(20):
        image = np.ones((3, 40, 30), np.float32)
        transforms.erase(image, 1.0, np.random.default_rng(seed))
        rows, columns = np.flatnonzero((image[0] == 0).any(1)), np.flatnonzero((image[0] == 0).any(0))
        assert (image[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] == 0).all()
        assert 0.01 < (image == 0).mean() < 0.23
    untouched = np.ones((3, 4, 4), np.float32)
    assert (transforms.erase(untouched, 0.0, np.random.default_rng(0)) == 1).all()
