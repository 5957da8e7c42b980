"""Metrics of the tasks against plain second implementations and cases worked out by hand."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import List, Tuple

import cv2
import numpy as np
import pytest

from slimkit.errors import DataError
from slimkit.recipe.tasks.box_metric import BoxMetric, PageBoxes, intersection_area, match_boxes
from slimkit.recipe.tasks.class_metric import ClassMetric
from slimkit.recipe.tasks.db_boxes import DBBoxes
from slimkit.recipe.tasks.dictionary import Dictionary
from slimkit.recipe.tasks.text_metric import TextMetric, edit_distance


def _table_distance(a: str, b: str) -> int:
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def test_edit_distance_is_that_of_the_table() -> None:
    generator = np.random.default_rng(0)
    for _ in range(3000):
        a, b = ("".join(generator.choice(list("ab中"), generator.integers(0, 12))) for _ in range(2))
        assert edit_distance(a, b) == _table_distance(a, b), (a, b)
    long = ["".join(generator.choice(list("abcdef"), 150)) for _ in range(2)]  # more than 64 characters
    assert edit_distance(*long) == _table_distance(*long)


def test_decoding_merges_repeats_then_removes_blanks() -> None:
    dictionary = Dictionary(list("abc"))
    steps = np.random.default_rng(1).integers(0, 5, (200, 9))
    scores = np.eye(5, dtype=np.float32)[steps]
    symbols = ["", "a", "b", "c", " "]
    naive = ["".join(symbols[step] for step, _ in groupby(row)) for row in steps.tolist()]
    assert dictionary.decode(scores) == naive
    assert Dictionary(list("abc"), space=False).classes == 4


def test_text_metric_by_hand() -> None:
    dictionary = Dictionary(list("abc"))
    metric = TextMetric(dictionary)
    say = lambda *rows: [np.eye(5)[np.array(rows)]]  # noqa: E731
    metric.update(say([1, 1, 0, 1], [1, 2, 3, 4]), ["aa", "a bc"])  # "aa"; "abc " against "a bc", blanks ignored
    metric.update(say([1, 2, 2, 2], [0, 0, 0, 0]), ["abcc", "b"])  # "ab": distance 2 of 4; "": 1 of 1
    assert metric.result() == pytest.approx({"exact_match": 2 / 4, "norm_edit_distance": 1 - (2 / 4 + 1) / 4})
    exact = TextMetric(dictionary, ignore_space=False)
    exact.update(say([1, 2, 3, 4]), ["a bc"])
    assert exact.result()["exact_match"] == 0


def test_dictionary_out_of_the_yaml_beside_a_model(tmp_path: Path) -> None:
    file = tmp_path / "inference.yml"
    file.write_text("PostProcess:\n  name: CTCLabelDecode\n  character_dict:\n  - '1'\n  - 中\n", encoding="utf-8")
    dictionary = Dictionary.load(str(file))
    assert dictionary.classes == 4 and dictionary.decode(np.eye(4)[[[1, 0, 2, 3]]]) == ["1中 "]
    assert "中" in dictionary and "文" not in dictionary
    file.write_text("Global: {}\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"has no list PostProcess.character_dict"):
        Dictionary.load(str(file))


def test_decoding_refuses_another_number_of_classes() -> None:
    with pytest.raises(DataError, match="makes 5 classes; give the dictionary"):
        Dictionary(list("abc")).decode(np.zeros((1, 4, 6)))


def _clipped_area(subject: np.ndarray, clip: np.ndarray) -> float:
    """Sutherland and Hodgman's clipping of convex polygons, in exact order of arithmetic of float64."""
    cross = lambda u, v: u[0] * v[1] - u[1] * v[0]  # noqa: E731
    ring = lambda points: list(zip(points, points[1:] + points[:1]))  # noqa: E731
    oriented = lambda p: list(p) if sum(cross(a, b) for a, b in ring(list(p))) > 0 else list(p)[::-1]  # noqa: E731
    result: List[np.ndarray] = oriented(subject.astype(float))
    for a, b in ring(oriented(clip.astype(float))):
        source, result = result, []
        for p, q in ring(source) if source else []:
            before, after = cross(b - a, p - a), cross(b - a, q - a)
            if before >= 0:
                result.append(p)
            if before * after < 0:
                result.append(p + (q - p) * before / (before - after))
    return abs(sum(cross(a, b) for a, b in ring(result))) / 2 if len(result) > 2 else 0.0


def _rectangle(x: float, y: float, width: float, height: float, angle: float = 0.0) -> np.ndarray:
    turn = np.deg2rad(angle)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * [width / 2, height / 2]
    return (np.array([x, y]) + corners @ rotation.T).astype(np.float32)


def test_intersections_are_those_of_clipping() -> None:
    generator = np.random.default_rng(2)
    pairs = [
        tuple(_rectangle(*generator.uniform(20, 60, 2), *generator.uniform(4, 60, 2), a) for a in angles)
        for angles in generator.uniform(-90, 90, (400, 2))
    ]
    straight = [tuple(_rectangle(*generator.integers(20, 40, 2), *generator.integers(4, 20, 2) * 2) for _ in "ab")
                for _ in range(400)]  # fmt: skip  # edges that lie on each other
    same = _rectangle(30, 40, 20, 10, 12)
    for a, b in [*pairs, *straight, (same, same), (same, same[::-1]), (same, np.roll(same, 1, 0))]:
        assert intersection_area(a, b) == pytest.approx(_clipped_area(a, b), abs=0.05)


def test_intersection_of_a_polygon_that_is_not_convex() -> None:
    angle = np.array([[0, 0], [40, 0], [40, 10], [10, 10], [10, 40], [0, 40]], np.float32)
    assert intersection_area(angle, _rectangle(25, 25, 50, 50)) == pytest.approx(700, rel=0.01)
    assert intersection_area(angle, _rectangle(30, 30, 20, 20)) == pytest.approx(0, abs=2)


def test_matching_by_hand() -> None:
    box = lambda x, width=20: _rectangle(x, 50, width, 10)  # noqa: E731
    assert match_boxes([box(20), box(60)], [box(20), box(61), box(100)], [False] * 3) == (2, 3, 2)
    # Two detections on one label: one counts, the other is wrong.
    assert match_boxes([box(20), box(21)], [box(20)], [False]) == (1, 1, 2)
    # One detection over two labels: IoU 0.5 each is not above 0.5.
    assert match_boxes([box(30, 40)], [box(20), box(40)], [False] * 2) == (0, 2, 1)
    # A detection on an unreadable label counts as nothing, nor does the label.
    assert match_boxes([box(20), box(60)], [box(20), box(60)], [True, False]) == (1, 1, 1)
    assert match_boxes([], [box(20)], [False]) == (0, 1, 0)
    # Labels without an area are left out.
    assert match_boxes([box(20)], [box(20), box(60, 0)], [False, False]) == (1, 1, 1)


def _draw(boxes: List[np.ndarray], value: float = 0.9, size: Tuple[int, int] = (160, 320)) -> np.ndarray:
    page = np.zeros(size, np.float32)
    for box in boxes:
        cv2.fillPoly(page, [np.round(box).astype(np.int32)], value)
    return page


@pytest.mark.parametrize("angle", [0.0, 8.0, -25.0])
def test_boxes_grow_by_area_times_ratio_over_perimeter(angle: float) -> None:
    shrunk = _rectangle(600, 320, 480, 80, angle)
    distance = 480 * 80 * 1.5 / (2 * (480 + 80))
    grown = _rectangle(600, 320, 480 + 2 * distance, 80 + 2 * distance, angle)
    page = _draw([shrunk], size=(640, 1280))
    (found,) = DBBoxes()(page, (640, 1280))
    common = intersection_area(found, grown)
    assert common / (cv2.contourArea(grown) + cv2.contourArea(found) - common) > 0.97
    (scaled,) = DBBoxes()(page, (1280, 3840))  # a page that was resized
    np.testing.assert_allclose(scaled, found * [3, 2], atol=1.5)


def test_weak_and_tiny_contours_are_no_boxes() -> None:
    line = _rectangle(150, 80, 100, 16)
    assert len(DBBoxes()(_draw([line], 0.59), (160, 320))) == 0
    assert len(DBBoxes(box_thresh=0.5)(_draw([line], 0.59), (160, 320))) == 1
    assert len(DBBoxes()(_draw([_rectangle(150, 80, 100, 1)]), (160, 320))) == 0
    assert DBBoxes()(np.zeros((32, 32), np.float32), (32, 32)) == []


def test_box_metric_over_batches() -> None:
    lines = [_rectangle(80, 40, 100, 16), _rectangle(220, 110, 120, 20, 5)]
    labels = [DBBoxes()(_draw([line]), (160, 320))[0] for line in lines]
    metric = BoxMetric(DBBoxes())
    both, first = _draw(lines), _draw(lines[:1])
    pages = [PageBoxes(labels, [False, False], (160, 320))] * 2
    metric.update([np.stack([both, first])[:, None]], pages)
    assert metric.result() == pytest.approx({"hmean": 2 * 0.75 / 1.75, "precision": 1.0, "recall": 0.75})
    metric.update([both[None, None]], [PageBoxes([], [], (160, 320))])
    assert metric.result()["precision"] == pytest.approx(3 / 5)
    with pytest.raises(DataError, match=r"\(N, 1, H, W\)"):
        metric.update([np.zeros((1, 2))], pages[:1])


def test_class_metric_counts_rows_of_scores() -> None:
    metric = ClassMetric()
    metric.update([np.eye(6)[[0, 1, 2]]], [0, 1, 5])
    metric.update([np.eye(6)[[3]].reshape(1, 6, 1, 1)], [3])
    assert metric.result() == pytest.approx({"top1": 0.75, "top5": 0.75})
    with pytest.raises(DataError, match="labels go from 0 to 5"):
        metric.update([np.eye(6)[[0]]], [6])
    with pytest.raises(DataError, match="logits of shape"):
        metric.update([np.zeros((1, 6, 4))], [0])
