from __future__ import annotations

from typing import Any, Dict

import numpy as np
import pytest
import sensitivity_networks as nets

from slimkit.prune.apply import find_groups, mask_arrays
from slimkit.prune.plan import Plan
from slimkit.prune.sensitivity.masking import Masked, memory_of


@pytest.fixture(scope="module")
def model() -> Any:
    return nets.network(nets.Branches)


@pytest.mark.parametrize("in_place", [True, False])
def test_as_mask_arrays_whatever_the_order(model: Any, in_place: bool) -> None:
    groups = find_groups(model)
    before: Dict[str, np.ndarray] = dict(model.params)
    random = np.random.RandomState(3)
    for group in groups.prunable:
        params = model.params if in_place else dict(before)
        with Masked(params, groups, group.name) as masked:
            sets = [np.sort(random.choice(group.size, count, False)) for count in (1, 3, 2, group.size - 1)]
            for units in [*sets, np.union1d(sets[0], sets[1])]:
                masked.set(units)
                wanted = {**before, **mask_arrays(before, Plan(groups, {group.name: units}))}
                for name in before:
                    np.testing.assert_array_equal(params[name], wanted[name], err_msg=name)
        for name in before:
            np.testing.assert_array_equal(params[name], before[name], err_msg=name)


def test_given_back_after_an_exception(model: Any) -> None:
    groups = find_groups(model)
    group = groups.prunable[0]
    before = dict(model.params)
    with pytest.raises(RuntimeError), Masked(model.params, groups, group.name) as masked:
        masked.set(np.arange(4))
        assert not np.array_equal(model.params[group.name], before[group.name])
        raise RuntimeError
    for name in before:
        np.testing.assert_array_equal(model.params[name], before[name])


def test_memory_is_the_tensors_own(model: Any) -> None:
    name = find_groups(model).prunable[0].name
    memory = memory_of(model.params.tensor(name))
    assert memory is not None
    np.testing.assert_array_equal(memory, model.params[name])
    kept = memory.copy()
    memory[...] = 7
    assert (model.params[name] == 7).all()
    memory[...] = kept
    assert memory_of(None) is None
