"""``Pruner``: prunes the filters of a dygraph layer by given ratios."""

from __future__ import annotations

import inspect
import warnings
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
from paddle import nn

from slimkit.errors import ConfigError, suggestion
from slimkit.prune.criteria import criterion_named
from slimkit.prune.groups import DEPTHWISE, OUTPUT, Group, Member
from slimkit.prune.layers.network import LayerNetwork
from slimkit.prune.layers.plan import PruningPlan
from slimkit.prune.static.choosing import Chooser
from slimkit.prune.static.views import ProgramView, PruningCollection

__all__ = ["Axis", "Pruner"]

Axis = Union[int, Sequence[int]]

_APPLY = ("impretive", "imperative", "lazy", None)
_RANKS = {"conv": (3, 4, 5), "fc": (2,)}


class Pruner:
    """Prunes filters of a dygraph layer, in place.

    A kind of its own defines ``cal_mask(pruned_ratio, collection)``, which returns a mask of the filters of
    ``collection.values[collection.master_name]`` along ``collection.master_axis``: 0 where one goes.

    Args:
        model: the layer.
        inputs: what it is called with: a shape, a list of shapes, or the list of forward's arguments (tensors,
            ``InputSpec``, dicts of tensors). The layer is traced with it, and is run with it to see that it works.
        opt: the optimizer, when it has made steps already; its state of the parameters shrinks with them.
        skip_leaves: channels of the layer's results stay.
        prune_type: which filters ``sensitive`` measures: ``conv``, those of convolutions, or ``fc``, those of fully
            connected layers.
        input_dtype: of inputs that are shapes.
        num_head: passed on to ``cal_mask``. Attention heads are found by the analysis, and only go whole.
        check: run the layer before it is pruned, and refuse when it would not work.

    Attributes:
        plan: the plan made last.

    Raises:
        ConfigError, ModelError: inputs that are none, or the layer cannot be traced with them.
    """

    #: Row of ``slimkit.prune.criteria.CRITERIA`` that says which filters go; None: ``cal_mask`` says.
    criterion: Optional[str] = None

    def __init__(
        self,
        model: nn.Layer,
        inputs: Any,
        opt: Any = None,
        skip_leaves: bool = True,
        prune_type: str = "conv",
        input_dtype: str = "float32",
        num_head: int = -1,
        *,
        check: bool = True,
    ) -> None:
        if not isinstance(model, nn.Layer):
            raise ConfigError(
                f"The pruner of layers needs a paddle.nn.Layer, not {type(model).__name__}; for programs take "
                "slimkit.prune.Pruner, for a slimkit.Model slimkit.prune.prune_model."
            )
        if prune_type not in _RANKS:
            raise ConfigError(f"prune_type = {prune_type!r} is none of conv, fc{suggestion(str(prune_type), _RANKS)}")
        self.model, self.inputs, self.opt = model, inputs, opt
        self.skip_leaves, self.prune_type, self.num_head, self.check = skip_leaves, prune_type, num_head, check
        self.plan: Optional[PruningPlan] = None
        self._dtype = input_dtype
        self._applied: List[PruningPlan] = []
        self._networks: List[LayerNetwork] = []
        self.network  # noqa: B018  (the layer is traced now, so that bad inputs are told at once)

    def __deepcopy__(self, memo: Any) -> Pruner:
        """The pruner itself: a copy of a model that holds its pruner does not get one of its own."""
        return self

    # ---------------------------------------------------------------- the layer

    @property
    def network(self) -> LayerNetwork:
        """The layer as it is now, with its groups."""
        for network in self._networks:
            if network.shapes == network.tensors.shapes():
                return network
        found = LayerNetwork(self.model, self.inputs, dtype=self._dtype, results=not self.skip_leaves)
        self._networks = [*self._networks[:1], found]  # the one of the whole layer is needed again after restore
        return found

    @property
    def skip_vars(self) -> List[str]:
        """Filters that ``sensitive`` leaves out: those of transposed convolutions."""
        members = (group.members for group in self.network.groups)
        return [m.parameter for some in members for m in some if m.role == OUTPUT and "transpose" in m.op_type]

    @property
    def collections(self) -> List[PruningCollection]:
        """The groups that can be pruned, each seen from its first filters, with ``values``."""
        view = ProgramView(self.network.program)
        masters = ((group, self._master(group)) for group in self.network.groups.prunable)
        return [self._collection(group, master, view) for group, master in masters if master is not None]

    def _master(self, group: Group) -> Optional[Member]:
        """The first of a group's filters that are of the kind that is pruned."""
        shapes = self.network.shapes
        members = (m for m in group.members if m.role == OUTPUT and len(shapes[m.parameter]) in _RANKS[self.prune_type])
        return next(members, None)

    def _collection(self, group: Group, master: Member, view: ProgramView) -> PruningCollection:
        members = [master, *(member for member in group.members if member is not master)]
        found = PruningCollection(Group(group.name, group.size, members), view)
        found.values = self.network.tensors  # type: ignore[attr-defined]
        return found

    # ---------------------------------------------------------------- which filters go

    def cal_mask(self, pruned_ratio: float, collection: Any, num_head: int = -1) -> np.ndarray:
        """Says which filters of a collection's master go.

        Args:
            pruned_ratio: fraction of them.
            collection: with ``master_name``, ``master_axis``, ``values`` (name -> array), ``variables()`` and
                ``all_pruning_details()``, each of these with ``name``, ``axis``, ``var`` and ``op``.
            num_head: of the pruner.

        Returns:
            int32 [number of filters], 0 where one goes.
        """
        if self.criterion is None:
            raise ConfigError(
                f"{type(self).__name__} does not say which filters go; define cal_mask(self, pruned_ratio, collection)."
            )
        value = collection.values[collection.master_name]
        scores = criterion_named(self.criterion).function(value, collection.master_axis)
        mask = np.ones(len(scores), np.int32)
        count = min(len(scores) - 1, round(len(scores) * pruned_ratio))
        mask[np.argsort(scores, kind="stable")[:count]] = 0
        return mask

    def _chooser(self) -> Chooser:
        network = self.network
        own = type(self).cal_mask is not Pruner.cal_mask or self.criterion is None
        selector: Any = self._by_mask if own else "default_idx_selector"
        return Chooser(network.groups, network.program, network.tensors, self.criterion or "l1_norm", selector)

    def _by_mask(self, collection: PruningCollection, scores: Any, ratios: Mapping[str, float]) -> List[Tuple]:
        collection.values = self.network.tensors  # type: ignore[attr-defined]
        more = {"num_head": self.num_head} if "num_head" in inspect.signature(self.cal_mask).parameters else {}
        mask = np.asarray(self.cal_mask(ratios[collection.master_name], collection, **more)).reshape(-1)
        length = self.network.shapes[collection.master_name][collection.master_axis]
        if mask.shape != (length,):
            raise ConfigError(
                f"{type(self).__name__}.cal_mask gave a mask of {mask.size} for the {length} filters of "
                f"'{collection.master_name}'; it must give one number a filter, 0 where it goes."
            )
        return [(collection.master_name, collection.master_axis, np.flatnonzero(mask == 0), [])]

    # ---------------------------------------------------------------- pruning

    def prune_var(
        self, var_name: str, pruned_axis: Axis, pruned_ratio: float, apply: Optional[str] = "impretive"
    ) -> PruningPlan:
        """Prunes the filters of one parameter, and all that goes with them.

        Args, returns: see :meth:`prune_vars`.

        Raises:
            ConfigError: the parameter is unknown, or cannot be pruned.
        """
        reason = self._reason(var_name, _axis(pruned_axis))
        if reason is not None:
            raise ConfigError(f"'{var_name}' cannot be pruned: {reason}")
        return self.prune_vars({var_name: pruned_ratio}, pruned_axis, apply)

    def prune_vars(self, ratios: Mapping[str, float], axis: Axis, apply: Optional[str] = "impretive") -> PruningPlan:
        """Prunes the filters of parameters.

        Of several that can only go together the first decides. What is not pruned (biases and batch norms, which go
        with filters; parameters that must stay) is in the plan's ``skipped``, with the reason.

        Args:
            ratios: parameter -> fraction of its filters that goes, in [0, 1).
            axis: of the filters, ``[0]`` for convolutions and ``[1]`` for fully connected layers.
            apply: ``impretive`` (PaddleSlim's word for imperative): the layer gets smaller; ``lazy``: zeros in the
                place of what would go; None: only the plan is made.

        Returns:
            The plan.

        Raises:
            ConfigError: an unknown parameter, a ratio out of range, or nothing of it can be pruned.
            ModelError: the layer would not work; it stays as it was.
        """
        if not isinstance(ratios, Mapping) or not all(isinstance(name, str) for name in ratios):
            raise ConfigError(f"ratios = {ratios!r} is no dict of ratios; give parameter -> fraction of its filters.")
        wanted: Dict[str, float] = {}
        skipped: Dict[str, str] = {}
        for name, ratio in ratios.items():
            reason = self._reason(name, _axis(axis))
            if reason is None:
                wanted[name] = _ratio(name, ratio)
            else:
                skipped[name] = reason
        if ratios and not wanted:
            name, reason = next(iter(skipped.items()))
            raise ConfigError(f"None of the {len(ratios)} parameters can be pruned: '{name}': {reason}")
        self._warn(skipped)
        return self._prune(wanted, apply, skipped)

    def _prune(self, ratios: Mapping[str, float], apply: Optional[str], skipped: Mapping[str, str]) -> PruningPlan:
        if apply not in _APPLY:
            raise ConfigError(f"apply = {apply!r} is none of 'impretive', 'lazy' and None.")
        plan = PruningPlan(self.network, self._chooser().units(ratios), skipped, self.check)
        if apply is not None:
            plan.apply(self.model, lazy=apply == "lazy", opt=self.opt)
            self._applied.append(plan)
        self.plan = plan
        return plan

    def _reason(self, name: str, axis: int) -> Optional[str]:
        """Why a parameter of the layer cannot be pruned.

        Raises:
            ConfigError: the layer has no such parameter.
        """
        groups, tensors = self.network.groups, self.network.tensors
        if name not in tensors:
            raise ConfigError(f"The layer has no parameter '{name}'{suggestion(name, groups.weights)}")
        if name in self.network.unread:
            return "forward does not read it with these inputs"
        own = [(g, m) for g in groups for m in g.members if m.parameter == name and m.role in (OUTPUT, DEPTHWISE)]
        if not own:
            return "it has no filters; it goes with those it belongs to"
        group, member = own[0]
        if group.refused is not None:
            return group.refused
        if axis != member.axis and "transpose" not in member.op_type:
            return f"its filters lie along axis {member.axis}, not {axis}"
        return None

    def _warn(self, skipped: Mapping[str, str]) -> None:
        """One warning for all filters that were asked for and stay."""
        weights = {name: reason for name, reason in skipped.items() if name in self.network.groups.weights}
        if weights:
            name, reason = next(iter(weights.items()))
            warnings.warn(
                f"{len(weights)} parameters with filters were not pruned, such as '{name}': {reason}; the plan's "
                "'skipped' has all.",
                UserWarning,
                stacklevel=3,
            )

    def restore(self) -> None:
        """Takes all plans back, the last one first; see :meth:`PruningPlan.restore`."""
        while self._applied:
            self._applied.pop().restore(self.model, self.opt)


def _axis(axis: Axis) -> int:
    found = list(axis) if isinstance(axis, (list, tuple)) else [axis]
    if len(found) != 1 or isinstance(found[0], bool) or not isinstance(found[0], (int, np.integer)):
        raise ConfigError(f"axis = {axis!r}: filters lie along one axis; give [0] for convolutions.")
    return int(found[0])


def _ratio(name: str, ratio: Any) -> float:
    try:
        value = float(ratio)
    except (TypeError, ValueError):
        value = float("nan")
    if not 0 <= value < 1:
        raise ConfigError(
            f"The ratio of '{name}' is {ratio!r}; give the fraction of the filters that goes, from 0 to below 1."
        )
    return value
