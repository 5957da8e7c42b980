"""Random plans, and what is asserted of a network pruned by one."""

from __future__ import annotations

from typing import List, Tuple

import numpy as np
from zoo import Network

from slimkit.ir import Model
from slimkit.prune import Plan, masked_model
from slimkit.prune.groups import Group, Groups

__all__ = ["EXTREMES", "check_shapes", "error_of", "random_plan"]

#: Seed -> fraction that this plan removes of every group: as much as is allowed (1.0), and nearly as much.
EXTREMES = {1: 1.0, 2: 0.9}


def random_units(group: Group, ratio: float, rng: np.random.RandomState) -> np.ndarray:
    """Random units of a group, about ``ratio`` of them; of every parameter something stays."""
    order = rng.permutation(group.size)
    gone = np.zeros(group.size + 1, bool)  # the last stands for -1: stays
    gone[order[: min(round(ratio * group.size), group.size - 1)]] = True
    for member in group.members:
        if gone[member.units].all():
            gone[rng.choice(member.units)] = False
    for part in group.parts:
        if gone[part].all():
            gone[rng.choice(part)] = False
    return np.flatnonzero(gone[:-1])


def random_plan(groups: Groups, seed: int) -> Plan:
    """A plan that removes random units, at a random ratio of each group; some groups keep all, some nearly nothing."""
    rng, extreme = np.random.RandomState(seed), EXTREMES.get(seed)
    removed = {}
    for group in groups.prunable:
        ratio = extreme if extreme is not None else rng.choice([0.0, 1.0, rng.rand()], p=[0.2, 0.05, 0.75])
        removed[group.name] = random_units(group, float(ratio), rng)
    return Plan(groups, removed)


def error_of(network: Network, pruned: Model, plan: Plan) -> Tuple[float, List[np.ndarray]]:
    """Runs a network pruned, and masked with the same plan.

    A softmax of logits in the hundreds, as a trained network has them once half of its filters are gone, is no better
    conditioned than the logits: its derivative is at most 1/2 (in the largest norm), so it may differ by half of what
    they may.

    Returns:
        The largest difference, relative to the largest result where that is above 1; the pruned network's results.
    """
    found, expected = network.run(pruned), network.run(masked_model(network.model, plan))
    assert all(np.isfinite(a).all() for a in expected)
    sizes = {name: float(np.abs(array).max()) for name, array in zip(network.watch, expected)}
    errors = []
    for name, a, b in zip(network.watch, found, expected):
        size = sizes[network.logits[name]] / 2 if name in network.logits else sizes[name]
        errors.append(float(np.abs(a - b).max()) / max(1.0, size))
    return max(errors), found


def check_shapes(network: Network, pruned: Model) -> None:
    """Asserts that every tensor has the shape at run time that the pruned program declares for it."""
    block = pruned.program.global_block()
    names = [
        name
        for op in pruned.program.global_block().ops
        for slot in op.output_names
        if slot in ("Out", "Output", "Y")
        for name in op.output(slot)
    ]
    names = list(dict.fromkeys(n for n in names if not block.var(n).persistable))
    for name, array in zip(names, pruned.run(network.feed, fetch=names)):
        declared = list(block.var(name).shape)
        if array.size == 1 and (not declared or not array.shape):  # a number: [] or [1] in older programs
            continue
        assert len(declared) == array.ndim, name
        assert all(d in (-1, n) for d, n in zip(declared, array.shape)), f"{name}: {declared}, {array.shape}"
    for name in pruned.params:
        assert list(block.var(name).shape) == list(pruned.params[name].shape), name
