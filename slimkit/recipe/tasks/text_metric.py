"""Exact match and normalized edit distance of recognized texts, as PaddleOCR's ``RecMetric`` counts them."""

from __future__ import annotations

from typing import Any, Dict, Sequence

import numpy as np

from slimkit.recipe.tasks.dictionary import Dictionary

__all__ = ["TextMetric", "edit_distance"]


class TextMetric:
    """``exact_match``: texts equal to their label; ``norm_edit_distance``: mean of 1 - distance / longer length."""

    def __init__(self, dictionary: Dictionary, *, ignore_space: bool = True) -> None:
        """
        Args:
            dictionary: of the model.
            ignore_space: compare without blanks.
        """
        self._dictionary, self._ignore = dictionary, ignore_space
        self._samples = self._equal = 0
        self._distance = 0.0

    def update(self, outputs: Sequence[np.ndarray], labels: Sequence[Any]) -> None:
        """Adds a batch.

        Args:
            outputs: the first is (N, steps, classes), scores or probabilities.
            labels: N texts.

        Raises:
            DataError: the classes are not the dictionary's.
        """
        for text, label in zip(self._dictionary.decode(np.asarray(outputs[0])), labels):
            if self._ignore:
                text, label = text.replace(" ", ""), label.replace(" ", "")
            self._equal += text == label
            self._distance += edit_distance(text, label) / max(1, len(text), len(label))
            self._samples += 1

    def result(self) -> Dict[str, float]:
        count = max(1, self._samples)
        near = 1 - self._distance / count if self._samples else 0.0
        return {"exact_match": self._equal / count, "norm_edit_distance": near}


def edit_distance(a: str, b: str) -> int:
    """Levenshtein's distance, a column of the table at a time in the bits of an integer.

    Source: Hyyrö 2003, A bit-vector algorithm for computing Levenshtein and Damerau edit distances, figure 3.
    """
    if not a or not b:
        return len(a) + len(b)
    places: Dict[str, int] = {}
    for index, character in enumerate(a):
        places[character] = places.get(character, 0) | 1 << index
    every, last = (1 << len(a)) - 1, 1 << len(a) - 1
    positive, negative, distance = every, 0, len(a)
    for character in b:
        equal = places.get(character, 0)
        zero = ((((equal & positive) + positive) ^ positive) | equal | negative) & every
        up, down = (negative | ~(zero | positive)) & every, zero & positive
        distance += bool(up & last) - bool(down & last)
        up, down = (up << 1 | 1) & every, down << 1 & every
        positive, negative = (down | ~(zero | up)) & every, up & zero
    return distance
