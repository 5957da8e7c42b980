"""``Stages``: the cuts of several groups in the order of the network, and what has to be kept between them."""

from __future__ import annotations

from typing import Dict, FrozenSet, Iterable, List, Mapping, Optional, Sequence, Set, Tuple

import numpy as np

from slimkit.errors import SlimkitError
from slimkit.ir.model import Model
from slimkit.prune.groups import Groups
from slimkit.prune.sensitivity.cut import Cut, Ops

__all__ = ["START", "Stages", "op_work"]

#: The stage of a batch that was only read.
START = -1

#: One number written by a cheap op (batch norm, activation) takes about as long as so many multiply-accumulates.
_MACS_A_NUMBER = 20.0


def op_work(model: Model, ops: Ops, feed: Mapping[str, np.ndarray]) -> np.ndarray:
    """What each op costs, in units of one multiply-accumulate; float64 [number of ops].

    Args:
        model: of these ops.
        ops: they.
        feed: a batch, for the shapes.
    """
    from slimkit.analysis import complexity

    work = np.ones(len(ops))
    block = model.program.global_block()
    # One sample is enough where the batch is free: it is about proportions.
    shapes = {
        name: (1, *feed[name].shape[1:]) if block.var(name).shape[:1] == (-1,) else feed[name].shape
        for name in model.feeds
        if name in feed
    }
    try:
        costs = complexity(model, shapes).ops
    except SlimkitError:
        return work  # every op the same
    for cost in costs:
        index = ops.producer.get(cost.output)
        if index is not None:
            work[index] += cost.macs + _MACS_A_NUMBER * float(np.prod(np.abs(cost.output_shape or (1,))))
    return work


class Stages:
    """The cuts of groups, ordered by where they are.

    Before stage ``i`` the tensors ``kept[i]`` of each batch are enough for its cut and all later ones.

    Args:
        ops: of the network.
        groups: of the network.
        names: groups to be measured.
    """

    def __init__(self, ops: Ops, groups: Groups, names: Sequence[str]) -> None:
        self._ops = ops
        cuts = [ops.cut(groups[name]) for name in names]
        self.cuts: List[Cut] = sorted(cuts, key=lambda cut: cut.position)  # stable: program order among equals
        self.index: Dict[str, int] = {cut.group: i for i, cut in enumerate(self.cuts)}
        self._feeds = frozenset(ops.whole().inputs).union(*(cut.inputs & set(ops.feeds) for cut in self.cuts))
        self.kept: List[FrozenSet[str]] = self._frontiers()

    def tensors(self, stage: int) -> FrozenSet[str]:
        """What is kept of each batch at a stage."""
        return self._feeds if stage == START else self.kept[stage]

    def between(self, stage: int, later: int) -> Tuple[List[int], FrozenSet[str]]:
        """The ops that lead from one stage to a later one, and what they read."""
        known = set(self.tensors(stage))
        return self._ops.needed(self.tensors(later), known), self._read(self.tensors(later), known)

    def rest(self, stage: int, cut: Optional[Cut]) -> Tuple[List[int], FrozenSet[str]]:
        """The ops that lead from a stage to the results when a group is pruned, and what they read.

        Args:
            stage: not later than the group's.
            cut: of the group; None: nothing is pruned.
        """
        known = set(self.tensors(stage))
        if cut is not None:
            known -= {name for index in cut.behind for name in self._ops.writes[index]}
        return self._ops.needed(self._ops.fetches, known), self._read(self._ops.fetches, known)

    def _read(self, targets: Iterable[str], known: Set[str]) -> FrozenSet[str]:
        return frozenset(self._ops.frontier(targets, known))

    def _frontiers(self) -> List[FrozenSet[str]]:
        kept: List[FrozenSet[str]] = []
        known = set(self._feeds)
        for stage, cut in enumerate(self.cuts):
            ran = self._ops.needed(cut.inputs, known)
            known = known.union(*(self._ops.writes[index] for index in ran))
            later = set().union(*(other.inputs for other in self.cuts[stage:]))
            known = self._ops.frontier(later, known)
            kept.append(frozenset(known))
        return kept
