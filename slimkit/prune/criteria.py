"""Criteria: how important each unit of a group is.

A row of :data:`CRITERIA` scores the filters of one array; :class:`Scorer` adds up what belongs to a unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Union

import numpy as np

from slimkit.errors import ConfigError, NumericsError, suggestion
from slimkit.numerics import importance
from slimkit.prune.groups import DEPTHWISE, INPUT, OUTPUT, VECTOR, Group, Groups, Member

__all__ = ["CRITERIA", "Criterion", "Scorer", "criterion_named", "scores"]

#: What is removed of parameters: name -> axis -> indices.
Slices = Mapping[str, Mapping[int, np.ndarray]]


@dataclass(frozen=True)
class Criterion:
    """A row of :data:`CRITERIA`.

    Attributes:
        name: as configs and calls give it.
        function: (array, axis) or, with gradients, (array, gradient, axis) -> float64 [length of the axis].
        batch_norm: it scores the scales of the batch norms behind the filters, not the filters.
        gradients: it needs the gradient of the loss.
        source: where it is from.
    """

    name: str
    function: Callable[..., np.ndarray]
    batch_norm: bool = False
    gradients: bool = False
    source: str = ""


CRITERIA: Dict[str, Criterion] = {
    row.name: row
    for row in (
        Criterion("l1_norm", importance.l1_norm, source="arXiv:1608.08710"),
        Criterion("l2_norm", importance.l2_norm, source="arXiv:1808.06866"),
        Criterion("geometry_median", importance.geometry_median, source="arXiv:1811.00250"),
        Criterion("bn_scale", importance.bn_scale, batch_norm=True, source="arXiv:1708.06519"),
        Criterion("taylor", importance.taylor, gradients=True, source="arXiv:1906.10771"),
        Criterion("taylor_abs", importance.taylor_abs, gradients=True, source="arXiv:1611.06440"),
    )
}

#: What is added up: roles of the members whose filters count.
_OVER = {
    "producers": (OUTPUT,),
    "filters": (OUTPUT, DEPTHWISE),
    "members": (OUTPUT, DEPTHWISE, INPUT),
}
_NORMALIZE: Dict[str, Callable[[np.ndarray], float]] = {
    "mean": lambda values: float(values.mean()),
    "max": lambda values: float(values.max()),
    "l2": lambda values: float(np.sqrt(values @ values)),
}
_REDUCE = ("sum", "mean", "max", "first")
_BATCH_NORMS = ("batch_norm", "sync_batch_norm")


def criterion_named(criterion: Union[str, Criterion, Callable[..., np.ndarray]]) -> Criterion:
    """The row of a name; a function (array, axis) -> float64 [length of the axis] gets one of its own.

    Raises:
        ConfigError: there is no such criterion.
    """
    if isinstance(criterion, Criterion):
        return criterion
    if callable(criterion):
        return Criterion(getattr(criterion, "__name__", "custom"), criterion)
    if criterion not in CRITERIA:
        raise ConfigError(
            f"There is no criterion {criterion!r}; the criteria are {', '.join(CRITERIA)}"
            f"{suggestion(str(criterion), CRITERIA)}"
        )
    return CRITERIA[criterion]


class Scorer:
    """Scores groups on demand.

    Args:
        params: name -> array, such as ``model.params``; only what is scored is read.
        criterion: a name of :data:`CRITERIA`, or a function (array, axis) -> float64 [length of the axis].
        gradients: name -> gradient of the loss, for the Taylor criteria; see ``taylor_gradients``.
        over: whose filters count: ``producers`` (the filters that compute the channels), ``filters`` (depthwise ones
            too) or ``members`` (also the slices of what reads them, as DepGraph, arXiv:2301.12900, adds up). Of no
            effect for ``bn_scale``.
        normalize: None, or by what each member's scores are divided before they are added up: their ``mean``, ``max``
            or ``l2`` norm. Members of different sizes then weigh the same, and groups can be compared.
        reduce: how a unit's scores become one: ``sum``, ``mean``, ``max``; ``first`` is the sum over the first member
            that has the unit, which is PaddleSlim's rule.

    Raises:
        ConfigError: a name that there is not, or gradients are missing.
    """

    def __init__(
        self,
        params: Mapping[str, np.ndarray],
        criterion: Union[str, Criterion, Callable[..., np.ndarray]] = "l1_norm",
        gradients: Optional[Mapping[str, np.ndarray]] = None,
        *,
        over: str = "producers",
        normalize: Optional[str] = None,
        reduce: str = "sum",
    ) -> None:
        self.criterion = criterion_named(criterion)
        if not hasattr(params, "__getitem__"):
            raise ConfigError(f"params is {type(params).__name__}, not {{name: array}}; pass model.params.")
        self.params = params
        self.gradients = gradients
        self._roles = _OVER[_choice("over", over, _OVER)]
        self._divide = None if normalize is None else _NORMALIZE[_choice("normalize", normalize, _NORMALIZE)]
        self._reduce = _choice("reduce", reduce, _REDUCE)
        if self.criterion.gradients and gradients is None:
            raise ConfigError(
                f"The criterion {self.criterion.name} needs gradients of the loss and none were given; pass "
                "gradients=slimkit.prune.taylor_gradients(model, loss, feeds), or choose l1_norm."
            )

    def __call__(self, group: Group, removed: Optional[Slices] = None) -> np.ndarray:
        """Scores a group's units.

        Args:
            group: one that can be pruned.
            removed: what earlier groups of a plan take away of the parameters; it does not count.

        Returns:
            float64, shape [group.size]; least is least important.

        Raises:
            ConfigError: an array or gradient is missing or of another shape, or the group has no batch norm.
            NumericsError: a score is not finite.
        """
        members = _gammas(group) if self.criterion.batch_norm else self._filters(group)
        total, count = np.zeros(group.size), np.zeros(group.size)
        for member in members:
            values = self._of_member(member, removed)
            inside = member.units >= 0
            units, values = member.units[inside], values[inside]
            if self._reduce == "max":
                np.maximum.at(total, units, values)
                continue
            if self._reduce == "first":
                fresh = count[units] == 0
                units, values = units[fresh], values[fresh]
            total += np.bincount(units, values, group.size)
            count += np.bincount(units, minlength=group.size)
        return total / np.maximum(count, 1) if self._reduce == "mean" else total

    def _filters(self, group: Group) -> List[Member]:
        return [member for member in group.members if member.role in self._roles]

    def _of_member(self, member: Member, removed: Optional[Slices]) -> np.ndarray:
        arrays = [self._array("params", self.params, member)]
        if self.criterion.gradients and self.gradients is not None:
            arrays.append(self._array("gradients", self.gradients, member))
        for axis, indices in ((removed or {}).get(member.parameter) or {}).items():
            if axis != member.axis and len(indices):
                arrays = [np.delete(array, indices, axis) for array in arrays]
        values = np.asarray(self.criterion.function(*arrays, member.axis), np.float64)
        if values.shape != member.units.shape:
            raise ConfigError(
                f"The criterion {self.criterion.name} gave shape {list(values.shape)} for the {len(member.units)} "
                f"filters of '{member.parameter}'; it must give one number a filter."
            )
        if not np.isfinite(values).all():
            raise NumericsError(
                f"The scores of '{member.parameter}' by {self.criterion.name} are not finite, so its filters have no "
                "order; look for NaN or infinity in its values."
            )
        if self._divide is not None:
            by = self._divide(values)
            values = values / by if by > 0 else values
        return values

    def _array(self, what: str, arrays: Mapping[str, np.ndarray], member: Member) -> np.ndarray:
        if member.parameter not in arrays:
            raise ConfigError(f"The {what} have no '{member.parameter}', which is to be scored; add it.")
        array = np.asarray(arrays[member.parameter])
        if array.ndim <= member.axis or array.shape[member.axis] != len(member.units):
            raise ConfigError(
                f"'{member.parameter}' has shape {list(array.shape)} in the {what}, but the network has "
                f"{len(member.units)} along axis {member.axis}; give those of this very network."
            )
        return array


def scores(
    groups: Union[Groups, Iterable[Group]],
    params: Mapping[str, np.ndarray],
    criterion: Union[str, Criterion, Callable[..., np.ndarray]] = "l1_norm",
    gradients: Optional[Mapping[str, np.ndarray]] = None,
    **how: Any,
) -> Dict[str, np.ndarray]:
    """Scores the units of groups.

    Args:
        groups: those of a network, of which the prunable ones are scored, or some groups.
        params: name -> array.
        criterion: see :class:`Scorer`, as the rest.
        gradients: for the Taylor criteria.
        how: ``over``, ``normalize``, ``reduce``.

    Returns:
        Group name -> float64 [size of the group]; least is least important.

    Raises:
        ConfigError, NumericsError: see :class:`Scorer`.
    """
    scorer = Scorer(params, criterion, gradients, **how)
    found = groups.prunable if isinstance(groups, Groups) else groups
    return {group.name: scorer(group) for group in found}


def _choice(what: str, name: str, allowed: Iterable[str]) -> str:
    if name not in allowed:
        raise ConfigError(f"{what} = {name!r} is none of {', '.join(allowed)}{suggestion(str(name), allowed)}")
    return name


def _gammas(group: Group) -> List[Member]:
    """The scales of the batch norms in a group: of the vectors of each batch norm, the first."""
    found: Dict[str, Member] = {}
    for member in group.members:
        if member.role == VECTOR and member.op_type in _BATCH_NORMS:
            found.setdefault(member.op_output, member)
    if not found:
        raise ConfigError(
            f"The criterion bn_scale needs a batch norm behind '{group.name}' and there is none (it may have been "
            "folded into the filters); choose l1_norm, or prune the network before it is folded."
        )
    return list(found.values())
