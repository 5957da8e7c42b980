"""Text lines, upright and upside down, for PP-OCR's direction classifier; rendered, then kept in a cache."""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

import cv2
import numpy as np
import PIL

from slimkit.errors import SlimkitError
from slimkit.files import atomic_write
from slimkit.recipe.data import transforms
from slimkit.recipe.data.cache import cache_dir as user_cache_dir
from slimkit.recipe.data.dataset import Dataset, random_generator
from slimkit.recipe.data.fonts import find_fonts
from slimkit.recipe.data.text_render import LineRenderer

__all__ = ["CLASS_NAMES", "INPUT_SIZE", "TextLines", "fit_line"]

CLASS_NAMES = ("0", "180")
INPUT_SIZE = (48, 192)
MEAN = STD = (0.5, 0.5, 0.5)

# Part of the cache's key: raise it when a change makes other pictures of the same seed.
RENDERING = 1
_RENDER = 11  # stream of random numbers, see dataset.random_generator


class TextLines(Dataset):
    """Rendered lines of Latin and Chinese text; every second one upside down.

    The lines depend on ``render_seed``, the part (training or test), ``difficulty`` and the fonts, and not
    on the run's seed: every run is measured on the same lines.
    """

    kind = "text_lines"

    def __init__(
        self,
        samples: int,
        *,
        train: bool,
        difficulty: float = 1.0,
        languages: Sequence[str] = ("latin", "chinese"),
        fonts: Sequence[str] = (),
        cache_dir: Optional[str] = None,
        mean: Sequence[float] = MEAN,
        std: Sequence[float] = STD,
        channel_order: str = "bgr",
        augment: bool = True,
        render_seed: int = 0,
        **common: Any,
    ) -> None:
        """
        Args:
            samples: lines to render.
            train: the training lines, else the test lines; no line is in both.
            difficulty: see :class:`LineRenderer`.
            languages: of ``latin`` and ``chinese``.
            fonts: see :func:`find_fonts`.
            cache_dir: where rendered lines are kept; None: the user's cache; "": nowhere, each line is
                rendered whenever it is asked for.
            mean: of x/255.
            std: of x/255.
            channel_order: PP-OCR's networks take ``bgr``.
            augment: change brightness and contrast of training lines a little.
            render_seed: of the lines.
            **common: see :class:`Dataset`.

        Raises:
            DataError: no font for a language.
        """
        super().__init__(samples, CLASS_NAMES, train=train, **common)
        self._fonts = find_fonts(languages, fonts)
        self._renderer = LineRenderer(self._fonts, difficulty)
        self._mean, self._std, self._order, self._augment = mean, std, channel_order, augment
        self._words = (render_seed, int(train))
        self._samples, self._difficulty = samples, difficulty
        self._lines: Optional[List[np.ndarray]] = None
        if cache_dir != "":
            self._lines = self._cached(Path(cache_dir).expanduser() if cache_dir else user_cache_dir())

    def render(self, index: int) -> np.ndarray:
        """Renders line ``index``: uint8 (48, up to 192, 3), blue-green-red."""
        seed, part = self._words
        generator = random_generator(seed, _RENDER, part, index)
        return fit_line(self._renderer.line(generator, upside_down=index % 2 == 1))

    def sample(self, index: int, generator: Optional[np.random.Generator]) -> Tuple[np.ndarray, int]:
        line = self._lines[index] if self._lines is not None else self.render(index)
        if generator is not None and self._augment:
            gain, offset = generator.uniform(0.8, 1.2), generator.uniform(-20, 20)
            line = np.clip(line * gain + offset, 0, 255).astype(np.uint8)
        ready = np.zeros((3, *INPUT_SIZE), np.float32)  # PP-OCR pads with 0 after normalising
        ready[:, :, : line.shape[1]] = transforms.normalise(line, self._mean, self._std, self._order)
        return ready, index % 2

    def _cache_key(self) -> str:
        files = [(script, p.name, p.stat().st_size) for script, paths in sorted(self._fonts.items()) for p in paths]
        versions = (RENDERING, cv2.__version__, PIL.__version__)
        text = repr((versions, self._words, self._samples, self._difficulty, files))
        return hashlib.sha256(text.encode()).hexdigest()[:20]

    def _cached(self, folder: Path) -> List[np.ndarray]:
        """Returns all lines from the cache, or renders and keeps them; a damaged cache is made anew."""
        path = folder / "text_lines" / f"{self._cache_key()}.npz"
        try:
            with np.load(path) as archive:
                widths, pixels = archive["widths"], archive["pixels"]
            if len(widths) == self._samples and pixels.shape[1] == widths.sum():
                return np.split(pixels, np.cumsum(widths)[:-1], axis=1)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError):
            pass
        lines = [self.render(index) for index in range(self._samples)]
        stream = io.BytesIO()
        np.savez(stream, widths=[line.shape[1] for line in lines], pixels=np.concatenate(lines, axis=1))
        try:
            atomic_write(path, stream.getvalue())
        except SlimkitError:
            pass  # a cache that cannot be written costs time, no more
        return lines

    def report(self) -> dict:
        names = sorted({path.name for paths in self._fonts.values() for path in paths})
        return dict(super().report(), fonts=names, difficulty=self._difficulty)


def fit_line(image: np.ndarray, size: Tuple[int, int] = INPUT_SIZE) -> np.ndarray:
    """Resizes to a height, keeping the ratio up to a width: PP-OCR's own first step.

    Args:
        image: uint8 (H, W, 3).
        size: height and greatest width.

    Returns:
        uint8 (height, W', 3), with W' = min(width, ceil(height W / H)).
    """
    height, width = size
    wanted = min(width, math.ceil(height * image.shape[1] / image.shape[0]))
    return cv2.resize(image, (wanted, height))
