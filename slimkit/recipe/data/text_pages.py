"""Renders pages with lines of text at known places, for text detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional, Tuple

import cv2
import numpy as np

from slimkit.recipe.data.text_render import LineRenderer, MakeText, degrade

__all__ = ["Line", "PageRenderer"]

#: A text and its box: float32 (4, 2) of x, y, clockwise from the text's upper left corner.
Line = Tuple[str, np.ndarray]

# (height, width) of pages, and how often.
SIZES = ((640, 640), (640, 480), (480, 640), (736, 544), (512, 768))
WEIGHTS = (0.5, 0.1, 0.2, 0.1, 0.1)
LINES = (4, 13)  # of a page, at most
HEIGHTS = (15, 44)  # of a line's ink and margins, pixels
GAP = 0.55  # least distance of two lines, in heights of the higher
TRIES = 12  # places tried for a line before it is given up


class PageRenderer:
    """Puts lines on a background, tilted a little, none touching another."""

    def __init__(self, fonts: Dict[str, List[Path]], difficulty: float, make_text: MakeText) -> None:
        """
        Args:
            fonts: script -> font files, as ``find_fonts`` gives them.
            difficulty: 0 for clean print; 1 for bad photographs.
            make_text: (script, generator) -> a line's text.
        """
        self._renderer = LineRenderer(fonts, difficulty)
        self._difficulty, self._make_text = difficulty, make_text

    def page(self, generator: np.random.Generator) -> Tuple[np.ndarray, List[Line]]:
        """Renders a page.

        Args:
            generator: every choice comes from it.

        Returns:
            uint8 (H, W, 3), blue-green-red; and its lines.
        """
        height, width = SIZES[int(generator.choice(len(SIZES), p=WEIGHTS))]
        page = self._background(height, width, generator)
        tilt = float(np.clip(generator.normal(0, 2 + 3 * self._difficulty), -12, 12))
        taken = np.zeros((height, width), np.uint8)
        lines: List[Line] = []
        for _ in range(int(generator.integers(*LINES))):
            line = self._place(page, taken, tilt + float(generator.normal(0, 0.7)), generator)
            if line is not None:
                lines.append(line)
        return degrade(page, generator, self._difficulty, sum(HEIGHTS) / 2), lines

    def _background(self, height: int, width: int, generator: np.random.Generator) -> np.ndarray:
        """A wall or paper: a colour, a slow change of light, blotches, and some areas of other colours."""
        base = generator.uniform(20, 235, 3) * 0.4 + generator.uniform(20, 235) * 0.6
        page = np.broadcast_to(base.astype(np.float32), (height, width, 3)).copy()
        for _ in range(int(generator.integers(0, 4))):
            colour = np.clip(base + generator.normal(0, 40, 3), 0, 255).tolist()
            x, y = int(generator.integers(0, width)), int(generator.integers(0, height))
            w, h = int(generator.integers(60, width)), int(generator.integers(40, height))
            cv2.rectangle(page, (x - w // 2, y - h // 2), (x + w // 2, y + h // 2), colour, -1)
        strength = 12 + 20 * self._difficulty
        for cells in (3, 24):
            blotches = generator.normal(0, strength / (1 + cells / 12), (cells, cells, 1)).astype(np.float32)
            page += cv2.resize(blotches, (width, height), interpolation=cv2.INTER_CUBIC)[:, :, None]
        return page

    def _place(
        self, page: np.ndarray, taken: np.ndarray, tilt: float, generator: np.random.Generator
    ) -> Optional[Line]:
        """Draws a line where there is room; None where there is none."""
        mask, text = self._renderer.text_mask(generator, self._make_text)
        height = generator.uniform(*HEIGHTS)
        factor = height / mask.shape[0]
        size = np.array([mask.shape[1], mask.shape[0]]) * factor
        for _ in range(TRIES):
            centre = generator.uniform(0, 1, 2) * page.shape[1::-1]
            box = _box(centre, size, tilt)
            if (box < 2).any() or (box > np.array(page.shape[1::-1]) - 3).any():
                continue
            around = np.zeros_like(taken)
            cv2.fillConvexPoly(around, np.round(box).astype(np.int32), 1)
            if (taken & around).any():
                continue
            self._draw(page, mask, box, generator)
            reach = 2 * int(GAP * height) + 1
            taken |= cv2.dilate(around, np.ones((reach, reach), np.uint8))
            return text, box
        return None

    def _draw(self, page: np.ndarray, mask: np.ndarray, box: np.ndarray, generator: np.random.Generator) -> None:
        """Inks the line: a colour that stands out from what is below it."""
        shrunk = _shrunk(mask, box)
        corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32) * np.array(shrunk.shape[1::-1], np.float32)
        matrix = cv2.getPerspectiveTransform(corners, box)
        ink = cv2.warpPerspective(shrunk, matrix, page.shape[1::-1], flags=cv2.INTER_LINEAR)[:, :, None]
        low, high = np.floor(box.min(axis=0)).astype(int), np.ceil(box.max(axis=0)).astype(int)
        below = page[low[1] : high[1], low[0] : high[0]].mean(axis=(0, 1))
        contrast = generator.uniform(max(40.0, 130 - 90 * self._difficulty), 220)
        sign = 1.0 if below.mean() < 128 else -1.0
        colour = np.clip(below + sign * contrast + generator.normal(0, 15, 3), 0, 255)
        page += ink * (colour - page).astype(np.float32)


def _box(centre: np.ndarray, size: np.ndarray, tilt: float) -> np.ndarray:
    """The corners of a tilted rectangle, clockwise from the text's upper left one: float32 (4, 2)."""
    turn = np.deg2rad(tilt)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * size / 2
    return (centre + corners @ rotation.T).astype(np.float32)


def _shrunk(mask: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Averages the mask down to the box's size first, as warping alone would skip pixels."""
    width, height = (max(1, round(float(np.linalg.norm(side)))) for side in (box[1] - box[0], box[3] - box[0]))
    if height >= mask.shape[0]:
        return mask
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_AREA)
