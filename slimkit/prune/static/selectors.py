"""Selectors: which indices of a parameter go, by their scores; PaddleSlim's two, and functions of the user."""

from __future__ import annotations

from typing import Any, Callable

import numpy as np

from slimkit.errors import ConfigError, suggestion
from slimkit.prune.groups import Group
from slimkit.prune.static.views import PruningCollection

__all__ = ["SELECTORS", "below_threshold", "named_selector", "selected"]

SELECTORS = ("default_idx_selector", "optimal_threshold")
_LEAST = 1e-18


def named_selector(selector: Any) -> Any:
    """A selector, checked.

    Raises:
        ConfigError: it is neither a function nor one of :data:`SELECTORS`.
    """
    if not callable(selector) and selector not in SELECTORS:
        raise ConfigError(
            f"There is no idx_selector {selector!r}; it is a function or one of {', '.join(SELECTORS)}"
            f"{suggestion(str(selector), SELECTORS)}"
        )
    return selector


def below_threshold(scores: np.ndarray, ratio: float) -> np.ndarray:
    """PaddleSlim's ``optimal_threshold``: the least scores whose squares are a fraction of the sum of squares.

    Args:
        scores: shape [units].
        ratio: the fraction.

    Returns:
        The units below the threshold, ascending; never all.
    """
    clipped = np.maximum(scores, _LEAST)
    ordered = np.sort(clipped)
    squares = np.cumsum(ordered**2)
    place = int(np.argmax(squares / squares[-1] > ratio))
    threshold = (ordered[place - 1] + ordered[place]) / 2 if place else 0.0
    return np.flatnonzero(clipped < threshold)


def selected(
    group: Group, selector: Callable[..., Any], collection: PruningCollection, scores: Any, ratio: float
) -> np.ndarray:
    """What a selector function chose, as units."""
    master = group.members[0]
    entries = selector(collection, scores, {master.parameter: ratio})
    try:
        chosen = [np.unique(np.asarray(indices, np.int64).reshape(-1)) for _, _, indices, _ in entries]
    except (TypeError, ValueError):
        raise ConfigError(
            "The idx_selector function must return a list of (parameter, axis, indices, transforms), which it did not."
        ) from None
    if any(not np.array_equal(each, chosen[0]) for each in chosen[1:]):
        raise ConfigError(
            f"The idx_selector function chose different indices for parameters that go with '{master.parameter}'; "
            "give the indices of the group's master for each."
        )
    indices = chosen[0] if chosen else np.zeros(0, np.int64)
    if indices.size and not (0 <= indices[0] and indices[-1] < len(master.units)):
        raise ConfigError(
            f"The idx_selector function chose index {int(indices[-1] if indices[0] >= 0 else indices[0])} of "
            f"'{master.parameter}', which has {len(master.units)}."
        )
    units = np.unique(master.units[indices])
    return units[units >= 0]
