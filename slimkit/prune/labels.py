"""``Labels``: numbers given to channels, and which of them must be treated alike.

Every channel that a filter computes gets a number. A tensor's channels are an array of such numbers, so that joining,
splitting, reordering and reshaping channels are numpy's operations on that array, however they are nested. That two
channels can only go together is an edge between their numbers; connected numbers are one class.
"""

from __future__ import annotations

from typing import Dict, List, Optional, Tuple

import numpy as np

__all__ = ["Labels"]


class Labels:
    """Channel numbers, edges between them, and those that must stay."""

    def __init__(self) -> None:
        self.count = 0
        self._edges: List[Tuple[np.ndarray, np.ndarray]] = []
        self._fixed: List[Tuple[np.ndarray, str]] = []
        self._notes: List[Tuple[np.ndarray, str]] = []
        self._not_zero: List[np.ndarray] = []
        self._classes: Optional[np.ndarray] = None

    def fresh(self, count: int) -> np.ndarray:
        """Returns ``count`` new numbers, int64."""
        self.count += count
        self._classes = None
        return np.arange(self.count - count, self.count, dtype=np.int64)

    def unite(self, one: np.ndarray, other: np.ndarray) -> None:
        """Says that the channels at the same place of two arrays, broadcast together, can only go together."""
        left, right = np.broadcast_arrays(one, other)
        if left is not right:
            self._edges.append((left.ravel(), right.ravel()))
            self._classes = None

    def unite_along(self, labels: np.ndarray, axis: int) -> np.ndarray:
        """Says that channels which differ in one index only can only go together.

        Returns:
            The array with that axis reduced to length 1.
        """
        first = np.take(labels, [0], axis=axis)
        if labels.shape[axis] > 1:
            self.unite(labels, first)
        return first

    def fix(self, labels: np.ndarray, reason: str) -> None:
        """Says that channels must stay, and why."""
        self._fixed.append((labels.ravel(), reason))

    def note(self, labels: np.ndarray, text: str) -> None:
        """Attaches a remark to channels."""
        self._notes.append((labels.ravel(), text))

    def not_zero(self, labels: Optional[np.ndarray]) -> None:
        """Says that an op reads the channels which may have no value, or an infinite one, where they are 0."""
        if labels is not None:
            self._not_zero.append(labels.ravel())

    def zero_allowed(self, found: np.ndarray) -> bool:
        """Whether all channels of these classes may be 0."""
        classes = self.classes()
        return not any(np.isin(classes[labels], found).any() for labels in self._not_zero)

    def classes(self) -> np.ndarray:
        """Returns int64 [count]: the class of each number, named by its smallest member."""
        if self._classes is None:
            left = np.concatenate([a for a, _ in self._edges] or [np.zeros(0, np.int64)])
            right = np.concatenate([b for _, b in self._edges] or [np.zeros(0, np.int64)])
            self._classes = _components(self.count, left, right)
        return self._classes

    def fixed(self) -> Dict[int, List[str]]:
        """Class -> why it must stay, first reason first."""
        return self._by_class(self._fixed)

    def notes(self) -> Dict[int, List[str]]:
        """Class -> remarks."""
        return self._by_class(self._notes)

    def _by_class(self, entries: List[Tuple[np.ndarray, str]]) -> Dict[int, List[str]]:
        found: Dict[int, List[str]] = {}
        classes = self.classes()
        for labels, text in entries:
            for each in np.unique(classes[labels]).tolist():
                texts = found.setdefault(each, [])
                if text not in texts:
                    texts.append(text)
        return found


def _components(count: int, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Connected components by hooking and pointer jumping (Shiloach and Vishkin, 1982); all in numpy.

    Returns:
        int64 [count]: the smallest number of each one's component.
    """
    parent = np.arange(count, dtype=np.int64)
    while left.size:
        a, b = parent[left], parent[right]
        differ = a != b
        left, right, a, b = left[differ], right[differ], a[differ], b[differ]
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while True:
            jumped = parent[parent]
            if np.array_equal(jumped, parent):
                break
            parent = jumped
    return parent
