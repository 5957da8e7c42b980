"""Folders of rendered text in PaddleOCR's form: lines to read, lines to turn, pages to find lines on.

Each folder holds ``images/`` and ``label.txt``. A picture is a pure function of the seed, its number, the fonts and
the difficulty.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import cv2
import numpy as np

from slimkit.errors import ConfigError, nearest
from slimkit.files import atomic_write
from slimkit.recipe.data.dataset import random_generator
from slimkit.recipe.data.fonts import find_fonts
from slimkit.recipe.data.text_corpus import random_text
from slimkit.recipe.data.text_lines import TextLines
from slimkit.recipe.data.text_pages import PageRenderer
from slimkit.recipe.data.text_render import LineRenderer

__all__ = ["KINDS", "RENDERING", "readable_text", "write_text_folder"]

_LINE, _PAGE = 12, 13  # streams of random numbers, see dataset.random_generator

# At these PP-OCRv4's float models are right about as often as on photographs: neither always nor seldom.
REC_DIFFICULTY, DET_DIFFICULTY = 0.9, 1.2

# What has one spelling only: no sign that exists in a half and a full width, as both look alike in some font.
_AMBIGUOUS_SIGNS = re.compile(r"[^0-9A-Za-z一-鿿 .%/-]")

#: Raise it when a change draws other pictures of the same seed: part of the cache's key.
RENDERING = 1
LANGUAGES = ("latin", "chinese")

Picture = Tuple[np.ndarray, str]


def readable_text(language: str, generator: np.random.Generator) -> str:
    """Returns a text whose characters a reader can tell: Latin letters, Chinese, digits and few signs."""
    while True:
        text = random_text(language, generator)
        if any(sign.isalpha() for sign in _AMBIGUOUS_SIGNS.findall(text)):
            continue  # a letter with an accent
        text = _AMBIGUOUS_SIGNS.sub("", text).strip(" .-")
        if len(text) >= 2:
            return text


def _rec(count: int, seed: int, languages: Sequence[str], fonts: Sequence[str], hard: Optional[float]):
    renderer = LineRenderer(find_fonts(languages, fonts), REC_DIFFICULTY if hard is None else hard)
    for index in range(count):
        yield renderer.line_and_text(random_generator(seed, _LINE, index), make_text=readable_text)


def _cls(count: int, seed: int, languages: Sequence[str], fonts: Sequence[str], hard: Optional[float]):
    lines = TextLines(
        count, train=False, batch_size=1, languages=languages, fonts=fonts, cache_dir="", render_seed=seed,
        difficulty=1.0 if hard is None else hard,
    )  # fmt: skip
    for index in range(count):
        yield lines.render(index), ("0", "180")[index % 2]


def _det(count: int, seed: int, languages: Sequence[str], fonts: Sequence[str], hard: Optional[float]):
    renderer = PageRenderer(find_fonts(languages, fonts), DET_DIFFICULTY if hard is None else hard, readable_text)
    for index in range(count):
        page, lines = renderer.page(random_generator(seed, _PAGE, index))
        boxes = [{"transcription": text, "points": np.round(box, 1).tolist()} for text, box in lines]
        yield page, json.dumps(boxes, ensure_ascii=False)


#: Kind -> pictures and what stands after the tab in the label file.
KINDS: Dict[str, Callable[..., Iterator[Picture]]] = {"rec": _rec, "cls": _cls, "det": _det}


def write_text_folder(
    kind: str,
    out: str,
    count: int,
    *,
    seed: int = 0,
    languages: Sequence[str] = LANGUAGES,
    fonts: Sequence[str] = (),
    difficulty: Optional[float] = None,
) -> Path:
    """Renders pictures and their label file.

    Args:
        kind: ``rec`` (lines and their text), ``cls`` (lines, every second upside down) or ``det`` (pages and boxes).
        out: the folder; made where it is missing.
        count: how many pictures.
        seed: of everything.
        languages: of ``latin`` and ``chinese``.
        fonts: see :func:`find_fonts`.
        difficulty: 0 for clean print, 1 for bad photographs; None: the kind's own.

    Returns:
        The label file.

    Raises:
        ConfigError: unknown kind or language, or no picture asked for.
        DataError: no font for a language.
        SlimkitError: the folder cannot be written.
    """
    if kind not in KINDS:
        close = nearest(kind, KINDS)
        raise ConfigError(
            f"There is no text data {kind!r}; " + (f"did you mean {close}?" if close else "rec, cls, det.")
        )
    unknown = [language for language in languages if language not in LANGUAGES]
    if unknown or not languages:
        raise ConfigError(f"languages is {','.join(languages)!r}; it must be of {', '.join(LANGUAGES)}.")
    if count < 1:
        raise ConfigError(f"count is {count}; at least one picture must be asked for.")
    folder, digits = Path(out).expanduser(), len(str(count - 1))
    labels: List[str] = []
    for index, (picture, label) in enumerate(KINDS[kind](count, seed, languages, fonts, difficulty)):
        name = f"images/{index:0{digits}d}.png"
        atomic_write(folder / name, cv2.imencode(".png", picture)[1].tobytes())
        labels.append(f"{name}\t{label}\n")
    return atomic_write(folder / "label.txt", "".join(labels).encode("utf-8"))
