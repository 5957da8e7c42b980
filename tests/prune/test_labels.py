"""Labels and reshaped against brute force."""

from __future__ import annotations

from typing import Dict, List, Tuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from slimkit.prune.flow import tracked
from slimkit.prune.labels import Labels
from slimkit.prune.rules.reshaping import reshaped


def components(count: int, edges: List[Tuple[int, int]]) -> List[int]:
    """The smallest number that can be reached, one step at a time."""
    smallest = list(range(count))
    changed = True
    while changed:
        changed = False
        for a, b in edges:
            least = min(smallest[a], smallest[b])
            changed |= smallest[a] != least or smallest[b] != least
            smallest[a] = smallest[b] = least
    return smallest


@given(st.integers(1, 40), st.lists(st.tuples(st.integers(0, 39), st.integers(0, 39)), max_size=60))
def test_classes(count: int, pairs: List[Tuple[int, int]]):
    edges = [(a % count, b % count) for a, b in pairs]
    labels = Labels()
    labels.fresh(count)
    for a, b in edges:
        labels.unite(np.array([a]), np.array([b]))
    assert labels.classes().tolist() == components(count, edges)


@given(st.permutations(range(30)))
def test_a_long_chain(order: List[int]):
    """The worst case of hooking: every number hangs on the next, in any order."""
    labels = Labels()
    labels.fresh(30)
    labels.unite(np.array(order[:-1]), np.array(order[1:]))
    assert not labels.classes().any()


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.integers(0, 2))
def test_unite_along(a: int, b: int, c: int, axis: int):
    labels = Labels()
    grid = labels.fresh(a * b * c).reshape(a, b, c)
    rest = labels.unite_along(grid, axis)
    expected = list(grid.shape)
    expected[axis] = 1
    assert list(rest.shape) == expected
    classes = labels.classes()[grid]
    assert (classes == np.broadcast_to(classes.min(axis, keepdims=True), grid.shape)).all()
    assert len(np.unique(classes)) == grid.size // grid.shape[axis]


def test_broadcast_unite():
    labels = Labels()
    row, grid = labels.fresh(3), labels.fresh(6).reshape(2, 3)
    labels.unite(row, grid)
    assert labels.classes().tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2]


def test_reasons_and_notes_follow_classes():
    labels = Labels()
    one, other = labels.fresh(2), labels.fresh(2)
    labels.fix(one[:1], "first")
    labels.fix(other, "second")
    labels.fix(other[:1], "second")
    labels.note(other[1:], "remark")
    labels.unite(one, other)
    assert labels.fixed() == {0: ["first", "second"], 1: ["second"]}
    assert labels.notes() == {1: ["remark"]}
    more = labels.fresh(1)  # classes are computed anew
    assert labels.classes()[more].tolist() == [4]


def splits(shape: Tuple[int, ...]) -> List[List[int]]:
    """All shapes with as many elements, of up to four axes."""
    found: Dict[Tuple[int, ...], None] = {}
    total = int(np.prod(shape))

    def extend(head: Tuple[int, ...], left: int) -> None:
        if left == 1:
            found[head or (1,)] = None
        if len(head) < 4:
            for size in range(1, left + 1):
                if left % size == 0 and (size > 1 or len(head) < 2):
                    extend((*head, size), left // size)

    extend((), total)
    return [list(s) for s in found]


@given(st.data())
def test_reshaped(data: st.DataObject):
    """Labels of a reshaped tensor are the reshaped labels of its elements."""
    shape = data.draw(arrays.array_shapes(min_dims=1, max_dims=4, max_side=4))
    axes = data.draw(st.sets(st.integers(0, len(shape) - 1)))
    own = [size if axis in axes else 1 for axis, size in enumerate(shape)]
    labels = np.arange(int(np.prod(own))).reshape(own) + 5
    new = data.draw(st.sampled_from(splits(shape)))
    found = reshaped(labels, shape, new)
    assert found is not None and found.ndim == len(new)
    expected = np.broadcast_to(labels, shape).reshape(new)
    np.testing.assert_array_equal(np.broadcast_to(found, new), expected)


@given(st.data())
def test_reshaped_with_unknown_sizes(data: st.DataObject):
    """Where the sizes of some axes are not known, what is found holds for every size; or nothing is found."""
    channels = data.draw(st.integers(2, 6))
    old = [-1, channels, *data.draw(st.lists(st.sampled_from([-1, 2, 3]), max_size=2))]
    labels = np.arange(channels).reshape([channels if axis == 1 else 1 for axis in range(len(old))])
    new = data.draw(
        st.sampled_from([[-1, channels, -1], [0, 0, -1], [-1, channels, 1, 1], [-1, channels], [channels, -1]])
    )
    new = [old[axis] if size == 0 else size for axis, size in enumerate(new)]
    found = reshaped(labels, old, new)
    if found is None:
        return
    assert tracked(found) == [new.index(channels)]
    for batch, size in ((1, 1), (2, 3), (4, 2)):
        known = [batch if axis == 0 else size if length < 0 else length for axis, length in enumerate(old)]
        total = int(np.prod(known))
        target = [batch if new[0] == -1 else new[0], *new[1:]]  # the batch is the same one, as is documented
        rest = int(np.prod([n for n in target if n > 0]))
        if total % rest or (-1 not in target and total != rest):
            continue
        full = np.broadcast_to(labels, known).reshape(target)
        np.testing.assert_array_equal(np.broadcast_to(found, full.shape), full)


@pytest.mark.parametrize(
    ("old", "new"), [([-1, 4, -1], [-1, 2, -1]), ([-1, 4, -1], [-1, -1]), ([-1, 4, 6], [-1, 8, 3])]
)
def test_channels_mixed_with_unknown_sizes(old: List[int], new: List[int]):
    labels = np.arange(4).reshape([1, 4, 1])
    found = reshaped(labels, old, new)
    assert found is None or found.size == 24
