"""A plan from shapes alone: what has to go of a network for its parameters to have given shapes."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from slimkit.errors import ModelError
from slimkit.prune.groups import Group, Groups
from slimkit.prune.plan import Plan

__all__ = ["check_shapes", "declared_shapes", "plan_for_shapes"]

Shapes = Mapping[str, Sequence[int]]


def declared_shapes(program: Any) -> Dict[str, List[int]]:
    """Name -> shape of a program's variables that outlive a run."""
    from slimkit.ir.params import persistable_names

    block = program.global_block()
    return {name: list(block.var(name).shape) for name in persistable_names(program) if block.has_var(name)}


def plan_for_shapes(groups: Groups, declared: Shapes, wanted: Shapes) -> Plan:
    """A plan that takes parameters from the shapes a program declares to others.

    Which units of those that have a part in the same parameter axes go does not matter for shapes and attributes: the
    first do. How many go solves a linear system: for every axis, what its groups lose is what it has too many.

    Args:
        groups: of the program.
        declared: name -> shape in the program.
        wanted: name -> shape; of names that are in no group, such as an optimizer's state, nothing is made. See
            :func:`check_shapes`.

    Raises:
        ModelError: no plan gives these shapes.
    """
    blocks = [(group, block) for group in groups.prunable for block in _alike(group)]
    rows: Dict[Tuple[str, int], np.ndarray] = {}
    for column, (group, block) in enumerate(blocks):
        for member in group.members:
            if member.parameter not in wanted:
                continue
            row = rows.setdefault((member.parameter, member.axis), np.zeros(len(blocks)))
            row[column] += int((member.units == block[0]).sum())
    surplus = {key: count for key, count in _surplus(declared, wanted).items() if key in rows}
    if not surplus:
        return Plan(groups, {})
    keys = list(rows)
    matrix, goal = np.stack([rows[key] for key in keys]), np.array([surplus.get(key, 0) for key in keys], float)
    counts = np.rint(np.linalg.lstsq(matrix, goal, rcond=None)[0]).astype(int)
    sizes = np.array([len(block) for _, block in blocks])
    wrong = np.flatnonzero(matrix @ counts != goal)
    if wrong.size or (counts < 0).any() or (counts > sizes).any():
        key = keys[wrong[0]] if wrong.size else next(iter(surplus))
        raise _no_plan(key[0], declared, wanted)
    removed: Dict[str, np.ndarray] = {}
    for (group, block), count in zip(blocks, counts):
        removed[group.name] = np.concatenate([removed.get(group.name, np.zeros(0, np.int64)), block[:count]])
    return Plan(groups, removed)


def check_shapes(before: Shapes, after: Shapes, wanted: Shapes) -> None:
    """Sees that a program has the shapes that were wanted.

    Args:
        before: name -> shape declared before it was pruned.
        after: and now.
        wanted: name -> shape; names the program does not have are left out.

    Raises:
        ModelError: it does not.
    """
    for name, shape in wanted.items():
        if name in after and list(after[name]) != list(shape):
            raise _no_plan(name, before, wanted)


def _surplus(declared: Shapes, wanted: Shapes) -> Dict[Tuple[str, int], int]:
    """(parameter, axis) -> how much too long it is."""
    found = {}
    for name, shape in wanted.items():
        if name not in declared or list(shape) == list(declared[name]):
            continue
        if len(shape) != len(declared[name]):
            raise _no_plan(name, declared, wanted)
        for axis, (new, old) in enumerate(zip(shape, declared[name])):
            if new != old:
                found[name, axis] = old - new
    return found


def _no_plan(name: str, declared: Shapes, wanted: Shapes) -> ModelError:
    return ModelError(
        f"No pruning of this program gives '{name}' the shape {list(wanted.get(name, ()))}, declared as "
        f"{list(declared.get(name, ()))}; use the network that was pruned, built at its full size."
    )


def _alike(group: Group) -> List[np.ndarray]:
    """The units of a group, those together that have as many indices in every member.

    Of each array as many units as are asked for go from its front, so it is ordered to take from all parts alike.
    """
    counts = [np.bincount(m.units[m.units >= 0], minlength=group.size) for m in group.members]
    _, first, inverse = np.unique(np.stack(counts, axis=1), axis=0, return_index=True, return_inverse=True)
    inverse = np.asarray(inverse).reshape(-1)
    turn = np.zeros(group.size, np.int64)
    for part in group.parts:
        turn[part] = np.maximum(turn[part], np.arange(len(part)))
    blocks = [np.flatnonzero(inverse == place) for place in np.argsort(first)]
    return [block[np.argsort(turn[block], kind="stable")] for block in blocks]
