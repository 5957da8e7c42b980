"""Activation thresholds from a histogram: one file an algorithm, one row each in ``OBSERVERS``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Dict

from slimkit.errors import ConfigError, nearest
from slimkit.numerics.histogram import AbsHistogram
from slimkit.numerics.thresholds import mse_threshold, percentile_threshold

__all__ = ["OBSERVERS", "Observer", "observer"]


@dataclass(frozen=True)
class Observer:
    """A threshold rule.

    Attributes:
        name: as users write it.
        threshold: (histogram, bits) -> clipping threshold in real units.
    """

    name: str
    threshold: Callable[..., float]


OBSERVERS: Dict[str, Observer] = {
    row.name: row
    for row in (
        Observer("abs_max", lambda histogram, bits, **_: histogram.abs_max),
        Observer("avg", lambda histogram, bits, **_: histogram.mean_abs_max),
        Observer(
            "hist",
            lambda histogram, bits, hist_percent=0.99999: percentile_threshold(histogram, 100 * hist_percent),
        ),
        Observer("mse", lambda histogram, bits, **_: mse_threshold(histogram, bits)),
    )
}


def observer(name: str) -> Observer:
    """The row of an algorithm, whatever the case it is written in.

    Raises:
        ConfigError: there is none.
    """
    found = next((row for key, row in OBSERVERS.items() if key.lower() == name.lower()), None)
    if found is None:
        close = nearest(name, OBSERVERS)
        meant = f"; did you mean '{close}'?" if close else "."
        raise ConfigError(f"There is no algorithm '{name}'; allowed are {', '.join(OBSERVERS)}{meant}")
    return found
