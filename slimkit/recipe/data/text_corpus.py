"""The texts of rendered lines: words and numbers as on signs, labels, receipts and pages."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Callable, Dict

import numpy as np

__all__ = ["AMBIGUOUS", "random_text"]

ASSETS = Path(__file__).resolve().parent.parent / "assets"


@functools.cache
def _asset(name: str) -> np.ndarray:
    """Returns the words of an asset file, separated by blanks."""
    return np.array((ASSETS / name).read_text(encoding="utf-8").split())


@functools.cache
def _characters() -> np.ndarray:
    """Returns common Chinese characters."""
    return np.array(list("".join(_asset("characters_chinese.txt"))))


# Read the same, or nearly, when turned by 180 degrees; a text of these alone has no right label.
AMBIGUOUS = set("0168 9oOxXsSzZlIiHNnu.-:/,'+=|一二三十口日田中申王回目非")


def _number(generator: np.random.Generator) -> str:
    kind, draw = int(generator.integers(6)), lambda low, high: int(generator.integers(low, high))
    if kind == 0:
        return f"{draw(1990, 2031)}-{draw(1, 13):02d}-{draw(1, 29):02d}"
    if kind == 1:
        return f"{'$€¥£'[draw(0, 4)]}{draw(1, 5000)}.{draw(0, 100):02d}"
    if kind == 2:
        return f"Tel: {draw(100, 1000)}-{draw(1000, 10000)}-{draw(1000, 10000)}"
    if kind == 3:
        return f"No.{draw(10000, 99999999)}"
    if kind == 4:
        return f"{draw(1, 1000)} {('kg', 'mm', 'pcs', 'V', 'km/h', 'ml')[draw(0, 6)]}"
    return f"{draw(0, 24):02d}:{draw(0, 60):02d} ({draw(2, 100)}%)"


def _latin(generator: np.random.Generator) -> str:
    if generator.random() < 0.15:
        return _number(generator)
    text = " ".join(generator.choice(_asset("words_latin.txt"), int(generator.integers(1, 6))))
    style = generator.random()
    if style < 0.2:
        return text.upper()
    if style < 0.5:
        return text.title()
    return text + (".", ",", "", "!", "?")[int(generator.integers(5))]


def _chinese(generator: np.random.Generator) -> str:
    style = generator.random()
    if style < 0.45:
        return "".join(generator.choice(_asset("phrases_chinese.txt"), int(generator.integers(1, 4))))
    text = "".join(generator.choice(_characters(), int(generator.integers(2, 13))))
    if style < 0.6:
        return text + str(int(generator.integers(1, 100000)))
    return text + ("，", "。", "", "：", "！")[int(generator.integers(5))]


_MAKERS: Dict[str, Callable[[np.random.Generator], str]] = {"latin": _latin, "chinese": _chinese}


def random_text(language: str, generator: np.random.Generator) -> str:
    """Returns a text, ``latin`` or ``chinese``, whose direction can be told from its characters."""
    while True:
        text = _MAKERS[language](generator)
        if len(set(text.lower()) - AMBIGUOUS) >= 2:
            return text
