"""The quantizers that ``PTQ`` takes by name: how a layer's input, or its weight, gets its range.

Names and arguments are Paddle 2's (``paddle.quantization``); an activation quantizer is a rule over the streaming
histogram that all of slimkit's calibration uses (``slimkit.numerics.observers``).
"""

from __future__ import annotations

import inspect
from typing import Any, Dict, Mapping, Optional, Type

import numpy as np

from slimkit.errors import ConfigError, nearest
from slimkit.numerics.histogram import AbsHistogram
from slimkit.numerics.observers import ALIASES, observer

__all__ = [
    "ACTIVATION_QUANTIZERS",
    "WEIGHT_QUANTIZERS",
    "AbsmaxQuantizer",
    "AvgQuantizer",
    "BaseQuantizer",
    "EmdQuantizer",
    "HistQuantizer",
    "KLQuantizer",
    "MseQuantizer",
    "PerChannelAbsmaxQuantizer",
    "made_quantizer",
]

#: The smallest threshold: a tensor that is always 0 has a grid all the same.
SMALLEST = 1e-6


class BaseQuantizer:
    """A rule for ranges.

    Args:
        quant_bits: 2 to 16.

    Raises:
        ConfigError: an argument is out of its range.
    """

    #: Key of ``slimkit.numerics.observers``; empty: not for activations.
    algo = ""

    def __init__(self, quant_bits: int = 8) -> None:
        self.quant_bits = _whole(type(self).__name__, "quant_bits", quant_bits, 2, 16)

    @property
    def bins(self) -> int:
        """Bins of the histogram, a power of two."""
        return 2048

    def threshold(self, histogram: AbsHistogram) -> np.float32:
        """The clipping threshold of the symmetric grid, above 0.

        Args:
            histogram: of all values of the layer's input.
        """
        return np.float32(max(observer(self.algo).threshold(histogram, self.quant_bits, **self._options()), SMALLEST))

    def _options(self) -> Dict[str, Any]:
        return {}

    def __repr__(self) -> str:
        names = inspect.signature(type(self).__init__).parameters
        held = {name: getattr(self, f"_{name}", getattr(self, name, None)) for name in names if name != "self"}
        return f"{type(self).__name__}({', '.join(f'{name}={value}' for name, value in held.items())})"


class AbsmaxQuantizer(BaseQuantizer):
    """The largest magnitude, of a whole tensor; for activations and weights."""

    algo = "abs_max"


class PerChannelAbsmaxQuantizer(BaseQuantizer):
    """The largest magnitude of each output channel; for weights."""


class AvgQuantizer(BaseQuantizer):
    """The mean over the batches of each one's largest magnitude."""

    algo = "avg"


class MseQuantizer(BaseQuantizer):
    """The least mean squared error (Banner et al. 2019, arXiv 1810.05723)."""

    algo = "mse"


class EmdQuantizer(BaseQuantizer):
    """The least mean absolute error, which is the earth mover's distance."""

    algo = "emd"


class _HistogramQuantizer(BaseQuantizer):
    """Takes Paddle 2's arguments for its own histogram.

    Args:
        quant_bits: 2 to 16.
        bins: of the histogram; the next power of two is taken, 2048 at least.
        upsample_bins: how finely Paddle 2 regroups its bins when the range grows. slimkit's range doubles, which needs
            no regrouping; the number is checked and not used.
    """

    def __init__(self, quant_bits: int = 8, bins: int = 2048, upsample_bins: int = 64) -> None:
        super().__init__(quant_bits)
        self._bins = _whole(type(self).__name__, "bins", bins, 1, 1 << 20)
        self.upsample_bins = _whole(type(self).__name__, "upsample_bins", upsample_bins, 1, 1 << 20)

    @property
    def bins(self) -> int:
        return max(2048, 1 << (self._bins - 1).bit_length())


class KLQuantizer(_HistogramQuantizer):
    """The least divergence of the quantized from the float distribution; see ``slimkit.numerics.observers.kl``."""

    algo = "KL"


class HistQuantizer(_HistogramQuantizer):
    """Below the threshold lie ``hist_percent`` of all magnitudes.

    Args:
        quant_bits, bins, upsample_bins: see :class:`KLQuantizer`.
        hist_percent: above 0.5, at most 1.
    """

    algo = "hist"

    def __init__(
        self, quant_bits: int = 8, bins: int = 2048, upsample_bins: int = 64, hist_percent: float = 0.99999
    ) -> None:
        super().__init__(quant_bits, bins, upsample_bins)
        if isinstance(hist_percent, bool) or not isinstance(hist_percent, (int, float)) or not 0.5 < hist_percent <= 1:
            raise ConfigError(
                f"HistQuantizer: hist_percent = {hist_percent!r}: it is the fraction of values kept, above 0.5 and at "
                "most 1, such as 0.999."
            )
        self.hist_percent = float(hist_percent)

    def _options(self) -> Dict[str, Any]:
        return {"hist_percent": self.hist_percent}


def _by_name(*classes: Type[BaseQuantizer]) -> Dict[str, Type[BaseQuantizer]]:
    return {kind.__name__: kind for kind in classes}


ACTIVATION_QUANTIZERS: Mapping[str, Type[BaseQuantizer]] = _by_name(
    KLQuantizer, HistQuantizer, AbsmaxQuantizer, AvgQuantizer, MseQuantizer, EmdQuantizer
)
WEIGHT_QUANTIZERS: Mapping[str, Type[BaseQuantizer]] = _by_name(PerChannelAbsmaxQuantizer, AbsmaxQuantizer)

#: Names of algorithms, as static quantization has them, for quantizers.
_ALGORITHMS: Dict[str, str] = {
    **{kind.algo.lower(): name for name, kind in ACTIVATION_QUANTIZERS.items()},
    "min_max": "AbsmaxQuantizer",  # on a symmetric grid they are one
    **{alias: "HistQuantizer" for alias, meant in ALIASES.items() if meant == "hist"},
}
_WEIGHTS: Dict[str, str] = {"channel_wise_abs_max": "PerChannelAbsmaxQuantizer", "abs_max": "AbsmaxQuantizer"}


def made_quantizer(role: str, given: Any, arguments: Optional[Mapping[str, Any]] = None) -> BaseQuantizer:
    """A quantizer from what the user gave.

    Args:
        role: ``activation_quantizer`` or ``weight_quantizer``.
        given: a name, one of the classes, or a quantizer.
        arguments: of the quantizer.

    Raises:
        ConfigError: an unknown name, or one of the other role; arguments it does not have.
    """
    of_activations = role == "activation_quantizer"
    table = ACTIVATION_QUANTIZERS if of_activations else WEIGHT_QUANTIZERS
    short = _ALGORITHMS if of_activations else _WEIGHTS
    arguments = dict(arguments or {})
    if isinstance(given, BaseQuantizer) and type(given) in table.values():
        if arguments:
            raise ConfigError(f"{role} is a quantizer already, so '{next(iter(arguments))}' goes into its constructor.")
        return given
    name = given.__name__ if isinstance(given, type) else str(given)
    kind = table.get(short.get(name.lower(), name))
    if kind is None:
        names = [*table, *short]
        close = nearest(name, names)
        meant = f"; did you mean '{close}'?" if close else "."
        raise ConfigError(f"{role} = '{name}': allowed are {', '.join(table)}{meant}")
    known = [key for key in inspect.signature(kind.__init__).parameters if key != "self"]
    for key in arguments:
        if key not in known:
            close = nearest(key, known)
            meant = f"; did you mean '{close}'?" if close else "."
            raise ConfigError(f"PTQ: {kind.__name__} has no argument '{key}', it has {', '.join(known)}{meant}")
    return kind(**arguments)


def _whole(where: str, name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not low <= value <= high:
        raise ConfigError(f"{where}: {name} = {value!r}: a whole number from {low} to {high} is needed.")
    return int(value)
