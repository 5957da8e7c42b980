"""Renders a text line as a camera or scanner might see it.

Everything is drawn from the generator given, so a line is a pure function of it (and of the font files).
``difficulty`` scales every degradation: 0 is clean print.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from slimkit.recipe.data.text_corpus import random_text

__all__ = ["LineRenderer", "MakeText", "degrade"]

# Chosen once, so that at difficulty 1 PP-OCR's float direction classifier is about as often right as on
# the photographs of its published experiment (94.0 %).
UNIT = 1.17

MakeText = Callable[[str, np.random.Generator], str]


class LineRenderer:
    """Renders lines in random fonts, sizes, colours and conditions; may be used from several threads."""

    def __init__(self, fonts: Dict[str, List[Path]], difficulty: float = 1.0) -> None:
        """
        Args:
            fonts: script -> font files, as :func:`find_fonts` gives them.
            difficulty: 0 for clean print; 1 for scene text; more for worse.
        """
        self._fonts, self._difficulty = fonts, difficulty * UNIT
        self._local = threading.local()  # a FreeType face is for one thread

    def line(self, generator: np.random.Generator, upside_down: bool) -> np.ndarray:
        """Renders one line; see :meth:`line_and_text`."""
        return self.line_and_text(generator, upside_down)[0]

    def line_and_text(
        self, generator: np.random.Generator, upside_down: bool = False, make_text: MakeText = random_text
    ) -> Tuple[np.ndarray, str]:
        """Renders one line.

        Args:
            generator: every choice comes from it.
            make_text: (script, generator) -> the text.
            upside_down: turn the line by 180 degrees, before blur, noise and light, which know no up.

        Returns:
            uint8 (H, W, 3), blue-green-red, about as high as the text; and the text.
        """
        ink, text = self.text_mask(generator, make_text)
        mask = self._warp(ink, generator)
        image = self._colour(mask, generator)
        if upside_down:
            image = np.ascontiguousarray(image[::-1, ::-1])
        return degrade(image, generator, self._difficulty), text

    def _font(self, path: Path, size: int):
        from PIL import ImageFont

        cache = self._local.__dict__.setdefault("fonts", {})
        if (path, size) not in cache:
            if len(cache) > 64:
                cache.clear()
            cache[path, size] = ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
        return cache[path, size]

    def text_mask(self, generator: np.random.Generator, make_text: MakeText) -> Tuple[np.ndarray, str]:
        """Draws a text: float32 (H, W), 1 on ink, with margins; characters may be spaced out or thick."""
        from PIL import Image, ImageDraw

        scripts = sorted(self._fonts)
        script = scripts[int(generator.integers(len(scripts)))]
        files = self._fonts[script]
        text = make_text(script, generator)
        size = 2 * int(generator.integers(14, 25))
        font = self._font(files[int(generator.integers(len(files)))], size)
        spacing = int(generator.integers(0, max(1, size // 4))) if generator.random() < 0.2 else 0
        stroke = int(generator.random() < 0.15)
        steps = [font.getlength(character) + spacing for character in text] if spacing else [font.getlength(text)]
        ascent, descent = font.getmetrics()
        canvas = Image.new("L", (int(sum(steps)) + size, ascent + descent + size))
        draw = ImageDraw.Draw(canvas)
        x = size / 2
        for part, step in zip(text if spacing else [text], steps):
            draw.text((x, size / 2), part, font=font, fill=255, stroke_width=stroke)
            x += step
        mask = np.asarray(canvas, np.float32) / 255
        return _trim(mask, generator, size), text

    def _warp(self, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Tilts, shears and turns into perspective: each corner moves, up to a part of the height."""
        height, width = mask.shape
        reach = 0.12 * self._difficulty * height
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        moved = corners + generator.uniform(-reach, reach, (4, 2))
        tilt = np.tan(np.deg2rad(generator.normal(0, 1.2 * self._difficulty))) * width / 2
        moved[[0, 3], 1] -= np.clip(tilt, -0.35 * height, 0.35 * height)
        moved[[1, 2], 1] += np.clip(tilt, -0.35 * height, 0.35 * height)
        moved -= moved.min(axis=0)
        size = np.ceil(moved.max(axis=0)).astype(int)
        matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
        return cv2.warpPerspective(mask, matrix, (int(size[0]), int(size[1])), flags=cv2.INTER_LINEAR)

    def _colour(self, mask: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Puts ink on a background: float32 (H, W, 3) in 0..255; contrast falls with difficulty."""
        background = generator.uniform(0, 255, 3) if generator.random() < 0.5 else np.full(3, generator.uniform(0, 255))
        contrast = generator.uniform(max(25.0, 120 - 85 * self._difficulty), 200)
        sign = 1.0 if background.mean() < 128 else -1.0
        ink = background + sign * contrast + generator.normal(0, 12, 3)
        paper = self._paper(mask.shape, background, contrast, generator)
        shown = paper + mask[:, :, None] * (ink - background)
        return np.clip(shown, 0, 255).astype(np.float32)

    def _paper(
        self, shape: Sequence[int], colour: np.ndarray, contrast: float, generator: np.random.Generator
    ) -> np.ndarray:
        """Makes a background: flat, shaded, blotchy or striped, weaker than the ink's contrast."""
        height, width = shape
        paper = np.broadcast_to(colour.astype(np.float32), (height, width, 3)).copy()
        strength = 0.5 * contrast * min(1.0, self._difficulty)
        kind = generator.random()
        if kind < 0.35:
            ramp = np.linspace(-0.5, 0.5, width)[None, :] * generator.normal() + (
                np.linspace(-0.5, 0.5, height)[:, None] * generator.normal()
            )
            paper += (strength * ramp)[:, :, None].astype(np.float32)
        elif kind < 0.7:
            cells = generator.normal(0, 0.35 * strength, (max(2, height // 8), max(2, width // 8), 3))
            paper += cv2.resize(cells.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        elif kind < 0.8:
            angle, period = generator.uniform(0, np.pi), generator.uniform(6, 30)
            place = np.arange(height)[:, None] * np.sin(angle) + np.arange(width)[None, :] * np.cos(angle)
            paper += (0.4 * strength * np.sin(place * 2 * np.pi / period))[:, :, None].astype(np.float32)
        return paper


def degrade(
    image: np.ndarray, generator: np.random.Generator, hard: float, line_height: Optional[float] = None
) -> np.ndarray:
    """Loses resolution, blurs, adds noise and JPEG's artefacts.

    Args:
        image: float32 (H, W, 3).
        generator: every choice comes from it.
        hard: how much; 0: nothing.
        line_height: of the text, in pixels; None: the image is one line.

    Returns:
        uint8 (H, W, 3).
    """
    unit = image.shape[0] if line_height is None else line_height
    if hard and generator.random() < 0.6:
        image = _lose_resolution(image, generator.uniform(48 / (1 + 3.2 * hard), 48) / unit)
    if hard and generator.random() < 0.5:
        image = cv2.GaussianBlur(image, (0, 0), max(0.1, generator.uniform(0, 0.05 * hard) * unit))
    if hard and generator.random() < 0.2:
        length = max(1, int(generator.uniform(0.05, 0.2) * hard * unit))
        kernel = np.zeros((length, length), np.float32)
        kernel[length // 2 if generator.random() < 0.7 else slice(None), :] = 1
        image = cv2.filter2D(image, -1, kernel / kernel.sum())
    if hard and generator.random() < 0.6:
        image = image + generator.normal(0, generator.uniform(0, 14 * hard), image.shape).astype(np.float32)
    ready = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    if hard and generator.random() < 0.5:
        quality = int(np.clip(generator.uniform(95 - 70 * hard, 95), 5, 95))
        ready = cv2.imdecode(cv2.imencode(".jpg", ready, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return ready


def _trim(mask: np.ndarray, generator: np.random.Generator, size: int) -> np.ndarray:
    """Cuts to the ink, with a random margin: what a text detector's box leaves around a line."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    ink = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    top, bottom, left, right = (int(m) for m in generator.uniform(0.02, 0.22, 4) * size)
    return np.pad(ink, ((top, bottom), (left, right)))


def _lose_resolution(image: np.ndarray, factor: float) -> np.ndarray:
    """Makes the image smaller by a factor and back, as if it had been small in the photograph."""
    rows, columns = image.shape[:2]
    if factor >= 1:
        return image
    small = (max(4, round(columns * factor)), max(4, round(rows * factor)))
    return cv2.resize(
        cv2.resize(image, small, interpolation=cv2.INTER_AREA),
        (columns, rows),
        interpolation=cv2.INTER_LINEAR,
    )
