"""Activation grids from a histogram: one file an algorithm, one row each in ``OBSERVERS``.

Every algorithm is a rule over one shared statistic, ``AbsHistogram``; so a step of calibration reads the data once,
whatever algorithms are asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Mapping, Tuple

from slimkit.errors import ConfigError, nearest
from slimkit.numerics.histogram import AbsHistogram
from slimkit.numerics.observers import abs_max, avg, emd, kl, min_max, mse, percentile

__all__ = ["ALIASES", "OBSERVERS", "AbsHistogram", "Observer", "affine_range", "observer"]


@dataclass(frozen=True)
class Observer:
    """An algorithm that chooses the grid of an activation.

    Attributes:
        name: as users write it; PaddleSlim's name.
        symmetric_rule: (histogram, bits, options) -> clipping threshold.
        affine_rule: (histogram, bits, options) -> (low, high).
        options: its options and their defaults.
        source: where it is defined.
    """

    name: str
    symmetric_rule: Callable[..., float]
    affine_rule: Callable[..., Tuple[float, float]]
    options: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    def threshold(self, histogram: AbsHistogram, bits: int, **options: Any) -> float:
        """The clipping threshold of a symmetric grid.

        Args:
            histogram: of the tensor.
            bits: 2 to 16.
            **options: of this algorithm; those of the others are not used.

        Returns:
            In real units; 0.0 for an empty histogram.

        Raises:
            ConfigError: no algorithm has such an option.
            NumericsError: bits or an option is out of range.
        """
        return self.symmetric_rule(histogram, bits, **self._own(options))

    def affine_range(self, histogram: AbsHistogram, bits: int, **options: Any) -> Tuple[float, float]:
        """The range of an affine grid, ``low <= 0 <= high``; arguments and errors of :meth:`threshold`."""
        return self.affine_rule(histogram, bits, **self._own(options))

    def _own(self, options: Mapping[str, Any]) -> Dict[str, Any]:
        known = sorted({name for row in OBSERVERS.values() for name in row.options})
        for name in options:
            if name not in known:
                raise ConfigError(f"'{name}' is no option of a calibration algorithm; allowed are {', '.join(known)}.")
        return {name: value for name, value in options.items() if name in self.options}


OBSERVERS: Dict[str, Observer] = {
    row.name: row
    for row in (
        Observer("abs_max", abs_max.threshold, abs_max.affine_range, source="PaddleSlim abs_max"),
        Observer("min_max", min_max.threshold, min_max.affine_range, source="arXiv 1712.05877, section 3"),
        Observer("avg", avg.threshold, avg.affine_range, source="PaddleSlim avg"),
        Observer(
            "hist", percentile.threshold, percentile.affine_range, {"hist_percent": 0.99999}, source="PaddleSlim hist"
        ),
        Observer("KL", kl.threshold, kl.affine_range, source="Migacz 2017, GTC, pages 33-38"),
        Observer("mse", mse.threshold, mse.affine_range, {"candidates": 200}, source="arXiv 1810.05723, eq. 1"),
        Observer("emd", emd.threshold, emd.affine_range, {"candidates": 200}, source="Villani 2003, theorem 2.18"),
    )
}

#: Further names.
ALIASES: Dict[str, str] = {"percentile": "hist"}


def observer(name: str) -> Observer:
    """The row of an algorithm, whatever the case it is written in.

    Raises:
        ConfigError: there is none.
    """
    by_name = {key.lower(): row for key, row in OBSERVERS.items()}
    by_name.update((key, OBSERVERS[meant]) for key, meant in ALIASES.items())
    found = by_name.get(str(name).lower())
    if found is None:
        close = nearest(str(name).lower(), by_name)
        meant = f"; did you mean '{by_name[close].name}'?" if close else "."
        raise ConfigError(f"There is no algorithm '{name}'; allowed are {', '.join(OBSERVERS)}{meant}")
    return found


def affine_range(histogram: AbsHistogram, name: str, bits: int, **options: Any) -> Tuple[float, float]:
    """The range of an affine grid by the algorithm of a name; see :meth:`Observer.affine_range`."""
    return observer(name).affine_range(histogram, bits, **options)
