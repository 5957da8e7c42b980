"""Words of the sentences about groups."""

from __future__ import annotations

from typing import Sequence

__all__ = ["an", "listed"]


def an(word: str) -> str:
    """A word behind its article."""
    return f"{'an' if word[:1] in 'aeiou' else 'a'} {word}"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names in a row, of many the first."""
    shown = list(names[:most]) if len(names) > most + 1 else list(names)
    rest = len(names) - len(shown)
    return ", ".join(shown) + (f" and {rest} more" if rest else "")
