"""Precision, recall and their harmonic mean of detected boxes, as ICDAR 2015's evaluation counts them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

import cv2
import numpy as np

from slimkit.errors import DataError
from slimkit.recipe.tasks.db_boxes import DBBoxes

__all__ = ["BoxMetric", "PageBoxes", "intersection_area", "match_boxes"]

IOU = 0.5  # a detection is right above it
COVERED = 0.5  # a detection is ignored when more of it than this lies in an ignored box
FINE = 16  # steps a pixel, where polygons that are not convex are drawn
CONVEX_SLACK = 1e-3


@dataclass(frozen=True)
class PageBoxes:
    """The label of a page.

    Attributes:
        boxes: polygons (points, 2) of x, y in the page's pixels.
        ignored: for each, whether its text cannot be read: it counts neither as found nor as missed.
        size: (height, width) of the page.
    """

    boxes: List[np.ndarray]
    ignored: List[bool]
    size: Tuple[int, int]

    @classmethod
    def of(cls, boxes: Sequence[Tuple[np.ndarray, bool]], size: Tuple[int, int]) -> PageBoxes:
        return cls([box for box, _ in boxes], [ignored for _, ignored in boxes], (size[0], size[1]))


class BoxMetric:
    """``hmean``, ``precision`` and ``recall`` of boxes at an intersection over union above 0.5."""

    def __init__(self, boxes: DBBoxes) -> None:
        """
        Args:
            boxes: makes boxes of a map.
        """
        self._boxes = boxes
        self._matched = self._wanted = self._detected = 0

    def update(self, outputs: Sequence[np.ndarray], labels: Sequence[Any]) -> None:
        """Adds a batch.

        Args:
            outputs: the first is maps (N, 1, H, W).
            labels: N :class:`PageBoxes`.

        Raises:
            DataError: the output is no map.
        """
        maps = np.asarray(outputs[0])
        if maps.ndim != 4 or maps.shape[1] != 1:
            raise DataError(f"A text detector's first output is (N, 1, H, W), not {maps.shape}; check the model.")
        for probabilities, page in zip(maps[:, 0], labels):
            matched, wanted, detected = match_boxes(self._boxes(probabilities, page.size), page.boxes, page.ignored)
            self._matched += matched
            self._wanted += wanted
            self._detected += detected

    def result(self) -> Dict[str, float]:
        precision, recall = self._matched / max(1, self._detected), self._matched / max(1, self._wanted)
        both = precision + recall
        return {"hmean": 2 * precision * recall / both if both else 0.0, "precision": precision, "recall": recall}


def match_boxes(
    detected: Sequence[np.ndarray], wanted: Sequence[np.ndarray], ignored: Sequence[bool]
) -> Tuple[int, int, int]:
    """Matches one to one, in the boxes' order, as ICDAR 2015's script does.

    Args:
        detected: polygons (points, 2).
        wanted: the labelled polygons.
        ignored: for each of these, whether it does not count.

    Returns:
        How many matched, how many labelled boxes count, how many detections count.
    """
    found = [box for box in detected if _area(box) > 0]
    pairs = [(box, skip) for box, skip in zip(wanted, ignored) if _area(box) > 0]
    unread, read = ([box for box, skip in pairs if skip is wish] for wish in (True, False))
    counting = [box for box in found if not any(intersection_area(box, u) > COVERED * _area(box) for u in unread)]
    free = list(range(len(counting)))
    matched = 0
    for box in read:
        for index in free:
            common = intersection_area(box, counting[index])
            if common > IOU * (_area(box) + _area(counting[index]) - common):
                free.remove(index)
                matched += 1
                break
    return matched, len(read), len(counting)


def _area(polygon: np.ndarray) -> float:
    return float(cv2.contourArea(polygon.astype(np.float32)))


def intersection_area(a: np.ndarray, b: np.ndarray) -> float:
    """Area that two polygons share; exact for convex ones, drawn at 1/16 pixel for others."""
    if (a.max(axis=0) <= b.min(axis=0)).any() or (b.max(axis=0) <= a.min(axis=0)).any():
        return 0.0
    hulls = [cv2.convexHull(polygon.astype(np.float32)) for polygon in (a, b)]
    if all(_area(h[:, 0]) <= (1 + CONVEX_SLACK) * _area(p) for h, p in zip(hulls, (a, b))):
        return float(cv2.intersectConvexConvex(hulls[0], hulls[1])[0])
    low = np.floor(np.maximum(a.min(axis=0), b.min(axis=0)))
    high = np.ceil(np.minimum(a.max(axis=0), b.max(axis=0)))
    fine = max(1, min(FINE, int(2048 / max(high - low))))
    width, height = (int(side) for side in (high - low) * fine)
    masks = []
    for polygon in (a, b):
        mask = np.zeros((height, width), np.uint8)
        cv2.fillPoly(mask, [np.round((polygon - low) * fine - 0.5).astype(np.int32)], 1)
        masks.append(mask)
    return float(np.count_nonzero(masks[0] & masks[1])) / fine**2
