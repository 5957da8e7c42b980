"""Boxes of text out of a probability map.

Source: Liao et al. 2020, Real-time Scene Text Detection with Differentiable Binarization (arXiv 1911.08947), section
3.4; parameters as in PaddleOCR.
"""

from __future__ import annotations

from typing import List, Optional, Tuple

import cv2
import numpy as np

__all__ = ["DBBoxes"]

MIN_SIDE = 3  # of a box before it grows, in pixels of the map; 5 after


class DBBoxes:
    """Thresholds a map, takes the least rectangle of every contour and lets it grow.

    Departs from PaddleOCR in one thing: a rectangle grows exactly by area * ratio / perimeter on each side (equation
    10), where Clipper rounds the corners' places to whole pixels.
    """

    def __init__(
        self,
        thresh: float = 0.3,
        box_thresh: float = 0.6,
        unclip_ratio: float = 1.5,
        max_candidates: int = 1000,
        use_dilation: bool = False,
    ) -> None:
        """
        Args:
            thresh: what of the map is text.
            box_thresh: least mean of the map in a rectangle.
            unclip_ratio: equation 10's r'.
            max_candidates: contours that are looked at.
            use_dilation: widen the thresholded map by a pixel.
        """
        self._thresh, self._box_thresh, self._ratio = thresh, box_thresh, unclip_ratio
        self._candidates, self._dilate = max_candidates, use_dilation

    def __call__(self, probabilities: np.ndarray, size: Tuple[int, int]) -> List[np.ndarray]:
        """Finds the boxes of a page.

        Args:
            probabilities: (H, W).
            size: (height, width) of the page as it was before resizing.

        Returns:
            Boxes as float32 (4, 2) of x, y in the page's pixels.
        """
        bitmap: np.ndarray = (probabilities > self._thresh).astype(np.uint8)
        if self._dilate:
            bitmap = cv2.dilate(bitmap, np.ones((2, 2), np.uint8))
        contours = cv2.findContours(bitmap, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)[-2]
        found = (self._box(contour, probabilities) for contour in contours[: self._candidates])
        scale = np.array([size[1] / probabilities.shape[1], size[0] / probabilities.shape[0]], np.float32)
        edge = np.array([size[1], size[0]], np.float32)
        return [np.clip(np.round(box * scale), 0, edge) for box in found if box is not None]

    def _box(self, contour: np.ndarray, probabilities: np.ndarray) -> Optional[np.ndarray]:
        centre, (width, height), angle = cv2.minAreaRect(contour)
        if min(width, height) < MIN_SIDE:
            return None
        if _mean_inside(probabilities, cv2.boxPoints((centre, (width, height), angle))) < self._box_thresh:
            return None
        grow = 2 * width * height * self._ratio / (2 * (width + height))
        return cv2.boxPoints((centre, (width + grow, height + grow), angle))


def _mean_inside(probabilities: np.ndarray, box: np.ndarray) -> float:
    """Mean of the map in a box."""
    limit = np.array([probabilities.shape[1] - 1, probabilities.shape[0] - 1])
    low = np.clip(np.floor(box.min(axis=0)).astype(int), 0, limit)
    high = np.clip(np.ceil(box.max(axis=0)).astype(int), 0, limit)
    mask = np.zeros((high[1] - low[1] + 1, high[0] - low[0] + 1), np.uint8)
    cv2.fillPoly(mask, [(box - low).astype(np.int32)], 1)
    part = np.ascontiguousarray(probabilities[low[1] : high[1] + 1, low[0] : high[0] + 1], np.float32)
    return cv2.mean(part, mask)[0]
