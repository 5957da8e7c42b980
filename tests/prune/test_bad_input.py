"""What is wrong is told in one sentence, and nothing is changed."""

from __future__ import annotations

import re
from typing import Any, Callable, Dict

import numpy as np
import pytest
from rule_cases import Case, conv

from slimkit.errors import SlimkitError
from slimkit.prune import (
    Limits,
    Plan,
    Scorer,
    Target,
    find_groups,
    get_ratios_by_loss,
    load_sensitivities,
    make_plan,
    masked_model,
    measure_sensitivity,
    merge_sensitive,
    prune_model,
    uniform,
)
from slimkit.prune.cost import CostModel


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(lambda net, x: net.b(net.a(x)), [3, 4, 4], a=conv(3, 8), b=conv(8, 4))


@pytest.fixture(scope="module")
def other() -> Case:
    return Case(lambda net, x: net.b(net.a(x)), [3, 4, 4], a=conv(3, 6), b=conv(6, 4))


def _plan(case: Case) -> Plan:
    return Plan(case.groups, {case.groups.prunable[0].name: np.array([1])})


def _pruned_twice(case: Case) -> Any:
    plan = Plan(case.groups, {case.groups.prunable[0].name: np.array([7])})
    return masked_model(prune_model(case.model, plan), plan)


WRONG: Dict[str, Callable[[Case, str], Any]] = {
    "the network has no tensor 'nope'": lambda c, name: find_groups(c.model, ["nope"]),
    "'3' is no parameter with filters": lambda c, name: c.groups.of(3),
    "There is no group": lambda c, name: c.groups[["a"]],
    "not Groups and list": lambda c, name: make_plan(c.groups, Scorer(c.model.params), [name]),
    "not Model and dict": lambda c, name: make_plan(c.model, Scorer(c.model.params), {name: 0.5}),
    "must be 8 numbers": lambda c, name: make_plan(c.groups, {name: ["a"] * 8}, {name: 0.5}),
    "pass model.params": lambda c, name: Scorer(None),
    "given as float64": lambda c, name: Plan(c.groups, {name: [0.7]}),
    "given as bool": lambda c, name: Plan(c.groups, {name: np.ones(8, bool)}),
    "give what Plan.to_dict() wrote": lambda c, name: Plan.from_dict(c.groups, {"format": 1, "groups": {name: {}}}),
    "not Model and NoneType": lambda c, name: prune_model(c.model, None),
    "not Conv2D and Plan": lambda c, name: prune_model(conv(3, 3), _plan(c)),
    "pruned already": lambda c, name: _pruned_twice(c),
    "given as 'x'; give a number": lambda c, name: Target("macs", removed="x"),
    "workers = 0": lambda c, name: measure_sensitivity(c.model, c.groups, lambda m: 1.0, [0.5], workers=0),
    "parameters is empty": lambda c, name: measure_sensitivity(c.model, c.groups, lambda m: 1.0, [0.5], parameters=[]),
    "sensitivities_file is 3": lambda c, name: load_sensitivities(3),
    "Give a list of files or dicts": lambda c, name: merge_sensitive("points.json"),
    "is nan; both must be finite": lambda c, name: get_ratios_by_loss({"a": {0.1: float("nan")}}, 0.1),
}


@pytest.mark.parametrize("message", WRONG)
def test_one_sentence_and_nothing_changed(case: Case, message: str):
    before = {name: np.array(array) for name, array in case.model.params.items()}
    with pytest.raises(SlimkitError, match=re.escape(message)) as caught:
        WRONG[message](case, case.groups.prunable[0].name)
    assert "\n" not in str(caught.value)
    assert all(np.array_equal(case.model.params[name], array) for name, array in before.items())


def test_a_plan_of_another_network(case: Case, other: Case):
    for use in (masked_model, prune_model):
        with pytest.raises(SlimkitError, match="does not have"):
            use(case.model, _plan(other))


def test_a_name_where_names_are_expected(case: Case):
    name = case.groups.prunable[0].name
    assert Limits(skip=name).skip == (name,)
    found = measure_sensitivity(case.model, case.groups, lambda m: 1.0, [0.5], parameters=name)
    assert list(found) == [name]
    with pytest.raises(SlimkitError, match="skip less than"):
        uniform(
            case.groups,
            Target("macs", removed=0.3),
            CostModel.of(case.model, case.groups),
            scores=Scorer(case.model.params),
            limits=Limits(skip=name),
        )
