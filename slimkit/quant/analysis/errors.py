"""Errors of a model's results, and variables dealt into groups that fit into memory."""

from __future__ import annotations

import math
from typing import Dict, Iterable, List, Mapping, Sequence

import numpy as np

from slimkit.ir.model import Model
from slimkit.ir.taps import Taps
from slimkit.numerics.error_sums import ErrorSums
from slimkit.quant.analysis.result import Error

__all__ = ["GROUP_BYTES", "ResultErrors", "as_error", "before_squashing", "grouped", "sizes"]

#: Activations of the float model held at a time.
GROUP_BYTES = 192 << 20


#: Ops at the end of a model that hide most errors and exaggerate those near a tie.
_SQUASHING = ("softmax", "sigmoid")


def before_squashing(model: Model) -> Model:
    """The same model, whose results are those before a softmax or sigmoid that it ends with."""
    producers = {name: op for op in model.program.global_block().ops for name in op.output_arg_names}
    results = []
    for name in model.fetches:
        op = producers.get(name)
        results.append(op.input("X")[0] if op is not None and op.type in _SQUASHING else name)
    return Model(model.program, model.scope, model.feeds, list(dict.fromkeys(results)))


def as_error(sums: ErrorSums) -> Error:
    """What the sums come to."""
    return Error(sums.sqnr_db, sums.cosine)


class ResultErrors:
    """The error over all results of a model, each weighing the same.

    Whole-number results (class indices) count only where there are no others. A result whose shape differs from the
    float one's, as that of a detector may, is left out.

    Args:
        names: the model's fetches.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._sums: Dict[str, ErrorSums] = {name: ErrorSums() for name in names}
        self._floating: Dict[str, bool] = {}

    def add(self, reference: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray]) -> None:
        """Adds a batch; results that ``found`` lacks are those of the reference."""
        for name in list(self._sums):
            exact = reference[name]
            value = found.get(name, exact)
            if exact.shape != value.shape:
                del self._sums[name]
                continue
            self._floating[name] = exact.dtype.kind == "f"
            self._sums[name].add(exact, value)

    def result(self) -> Error:
        """SQNR of the mean relative noise, and the mean cosine."""
        some = any(self._floating.get(name) for name in self._sums)
        sums = [s for name, s in self._sums.items() if self._floating.get(name) or not some]
        ratios = [s.noise / s.signal for s in sums if s.signal > 0 and math.isfinite(s.noise)]
        cosines = [s.cosine for s in sums if s.cosine is not None]
        if not ratios:
            return Error()
        ratio = sum(ratios) / len(ratios)
        sqnr = 200.0 if ratio <= 0 else min(200.0, -10.0 * math.log10(ratio))
        return Error(sqnr, sum(cosines) / len(cosines) if cosines else None)


def sizes(model: Model, names: Iterable[str], feed: Mapping[str, np.ndarray]) -> Dict[str, int]:
    """Bytes of each variable when the model runs on a feed."""
    found: Dict[str, int] = {}

    def tap(name: str, value: np.ndarray) -> None:
        found[name] = max(found.get(name, 0), value.nbytes)

    taps = {name: (lambda value, name=name: tap(name, value)) for name in dict.fromkeys(names)}
    with Taps(model, taps) as watching:
        watching.run(feed)
    return found


def grouped(wanted: Mapping[str, Iterable[str]], size: Mapping[str, int], most: int = GROUP_BYTES) -> List[List[str]]:
    """Deals items, in order, into groups whose variables fit into ``most`` bytes together; an item that does not fit
    alone is a group.

    Args:
        wanted: item -> the variables it needs.
        size: variable -> bytes.
        most: bytes.
    """
    groups: List[List[str]] = []
    held: Dict[str, int] = {}
    for item, names in wanted.items():
        needs = {name: size.get(name, 0) for name in names}
        if groups and sum({**held, **needs}.values()) <= most:
            groups[-1].append(item)
            held.update(needs)
        else:
            groups.append([item])
            held = needs
    return groups
