"""Rendered text folders: reproducible, their labels true, hard but fair for PP-OCR's float models."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Dict

import cv2
import numpy as np
import pytest

from slimkit.deploy import paddle_inference
from slimkit.errors import ConfigError
from slimkit.ir import Model
from slimkit.recipe.data.fonts import find_fonts
from slimkit.recipe.data.real_models import ppocr_dictionary, ppocr_model
from slimkit.recipe.data.text_corpus import _characters
from slimkit.recipe.data.text_folders import KINDS, readable_text, write_text_folder
from slimkit.recipe.data.text_lines import TextLines
from slimkit.recipe.data.text_pages import GAP, PageRenderer
from slimkit.recipe.tasks import open_samples
from slimkit.recipe.tasks.box_metric import intersection_area
from slimkit.recipe.tasks.dictionary import Dictionary

TOOL = Path(__file__).resolve().parents[2] / "tools" / "make_text_data.py"
LATIN = {"languages": ["latin"]}


def _read(folder: Path) -> Dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_folder_depends_on_its_seed_alone(kind: str, tmp_path: Path) -> None:
    for name, count, seed in (("a", 3, 5), ("b", 2, 5), ("c", 2, 6)):
        write_text_folder(kind, str(tmp_path / name), count, seed=seed, **LATIN)
    a, b, c = (_read(tmp_path / name) for name in "abc")
    assert len(a) == 4 and len(b) == 3
    assert all(a[name] == b[name] for name in b if name != "label.txt")
    assert a["label.txt"].startswith(b["label.txt"]) and b["images/0.png"] != c["images/0.png"]


def test_lines_to_turn_are_the_recipes_test_lines(tmp_path: Path) -> None:
    write_text_folder("cls", str(tmp_path), 4, **LATIN)
    data = TextLines(4, train=False, batch_size=1, cache_dir="", **LATIN)
    for index in range(4):
        np.testing.assert_array_equal(cv2.imread(str(tmp_path / f"images/{index}.png")), data.render(index))
    assert (tmp_path / "label.txt").read_text().splitlines()[3] == "images/3.png\t180"


@pytest.mark.parametrize("language", ["latin", "chinese"])
def test_texts_have_only_characters_of_the_dictionary(language: str) -> None:
    known = Dictionary.load(str(ppocr_dictionary()))
    generator = np.random.default_rng(0)
    texts = [readable_text(language, generator) for _ in range(2000)]
    signs = set("".join(texts))
    assert all(sign in known for sign in signs)
    assert not signs & set("，。：！（）:!?()$€¥£é") and all(text == text.strip() for text in texts)
    assert len(signs) > (500 if language == "chinese" else 60)
    assert all(character in known for character in _characters())


def test_boxes_hold_the_ink_and_keep_apart() -> None:
    renderer = PageRenderer(find_fonts(["latin"]), 0.0, readable_text)
    seen = 0
    for seed in range(6):
        flat = lambda height, width, generator: np.full((height, width, 3), 60, np.float32)  # noqa: E731
        renderer._background = flat  # type: ignore[method-assign]
        page, lines = renderer.page(np.random.default_rng(seed))
        ink = (np.abs(page.astype(int) - 60).max(axis=2) > 8).astype(np.uint8)
        outside = ink.copy()
        for text, box in lines:
            assert text and (box >= 0).all() and (box < np.array(page.shape[1::-1])).all()
            mask = cv2.fillPoly(np.zeros_like(ink), [np.round(box).astype(np.int32)], 1)
            assert 0.02 < ink[mask == 1].mean() < 0.9, text
            outside[cv2.dilate(mask, np.ones((3, 3), np.uint8)) == 1] = 0
            middle, up = box.mean(axis=0), box[0] - box[3]  # the upper left corner is above the lower left
            assert up[1] < 0 and box[1][0] > box[0][0] and 0 < middle[0] < page.shape[1]
        assert not outside.any()
        for i, (_, a) in enumerate(lines):
            assert all(intersection_area(a, b) == 0 for _, b in lines[i + 1 :])
        seen += len(lines)
    assert seen > 20 and GAP > 0


def test_the_tool_and_its_errors(tmp_path: Path) -> None:
    command = [sys.executable, str(TOOL), "det", str(tmp_path / "out"), "--count", "2", "--languages", "latin"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == f"2 pictures and {tmp_path / 'out' / 'label.txt'}\n"
    boxes = json.loads((tmp_path / "out" / "label.txt").read_text(encoding="utf-8").splitlines()[0].split("\t")[1])
    assert boxes and {"transcription", "points"} == set(boxes[0])
    command[command.index("latin")] = "klingon"
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1 and "klingon" in done.stderr and "Traceback" not in done.stderr
    with pytest.raises(ConfigError, match=r"There is no text data 'recc'; did you mean rec"):
        write_text_folder("recc", str(tmp_path), 1)
    with pytest.raises(ConfigError, match="count is 0"):
        write_text_folder("rec", str(tmp_path), 0)


@pytest.mark.parametrize(("kind", "count", "low", "high"), [("rec", 24, 0.7, 0.97), ("det", 6, 0.8, 0.995)])
def test_real_models_find_the_data_hard_but_fair(
    kind: str, count: int, low: float, high: float, tmp_path: Path, rapidocr_models: Path
) -> None:
    pytest.importorskip("pylopdf_fonts_zh_cn")
    write_text_folder(kind, str(tmp_path), count)
    model = ppocr_model(kind)
    task, samples = open_samples(Model.load(model), str(tmp_path))
    metric = task.metric()
    with paddle_inference.open_session(1, pin=False) as session:
        paddle_inference.load(session, "model", model / "inference", "float")
        for feed, labels in samples.batches():
            metric.update(session.run("model", feed, subject="the model"), labels)
    values = metric.result()
    assert task.name == f"ppocr_{kind}" and next(iter(values)) == task.headline
    assert low <= values[task.headline] <= high
