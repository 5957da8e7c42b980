"""Plans: what goes, against sorting by hand; legal numbers against counting through all."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prune.hand_groups import chain, chain_params, grouped, joined, member

from slimkit.errors import ConfigError
from slimkit.numerics.importance import l1_norm
from slimkit.prune.criteria import Scorer, scores
from slimkit.prune.groups import DEPTHWISE, OUTPUT, Group, Groups
from slimkit.prune.legal import legal, legal_ratios
from slimkit.prune.plan import Plan, group_ratios, make_plan

PARAMS = chain_params()
SCORES = scores(chain(), PARAMS)


@given(ratio=st.floats(0, 0.99), size=st.integers(1, 40))
def test_without_rounding_the_number_is_pythons_round(ratio, size):
    groups = chain((size, 4))
    values = np.random.default_rng(size).permutation(size).astype(float)
    plan = make_plan(groups, {"c0": values}, {"c0": ratio})
    count = min(round(size * ratio), size - 1)
    assert plan.removed.get("c0", np.zeros(0)).tolist() == sorted(np.argsort(values)[:count].tolist())


def test_equal_scores_go_by_index():
    plan = make_plan(chain((8, 4)), {"c0": np.array([1.0, 0, 1, 0, 1, 1, 1, 1])}, {"c0": 0.5})
    assert plan.removed["c0"].tolist() == [0, 1, 2, 3]


@given(
    ratio=st.floats(0.001, 0.99),
    size=st.integers(1, 70),
    round_to=st.sampled_from([1, 4, 8]),
    floor=st.sampled_from([1, 8, 20, 0.25, 0.9]),
)
def test_what_stays_is_the_nearest_legal_number(ratio, size, round_to, floor):
    least = math.ceil(floor * size - 1e-9) if isinstance(floor, float) else floor
    allowed = [size] + [k for k in range(1, size) if k % round_to == 0 and k >= least]
    assert legal_ratios(chain((size, 4))["c0"], round_to, floor) == pytest.approx(sorted(1 - k / size for k in allowed))
    plan = make_plan(chain((size, 4)), {"c0": np.arange(size)}, {"c0": ratio}, round_to=round_to, floor=floor)
    kept = plan.kept(plan.groups["c0"])
    asked = size * (1 - ratio)
    assert kept in allowed
    assert abs(kept - asked) <= min(abs(k - asked) for k in allowed) + 1e-6
    assert bool(plan.notes) == (kept == size)


@given(round_to=st.sampled_from([1, 2, 8]), ratio=st.floats(0, 0.99))
def test_a_legal_ratio_gives_itself(round_to, ratio):
    for groups in (chain((64, 4)), grouped(96, 4), joined()):
        group = next(iter(groups))
        ratios = legal_ratios(group, round_to)
        assert ratios[0] == 0 and ratios == sorted(set(ratios)) and ratios[-1] < 1
        chosen = min(ratios, key=lambda r: abs(r - ratio))
        plan = make_plan(groups, {group.name: np.arange(group.size)}, {group.name: chosen}, round_to=round_to)
        assert plan.ratio(group) == pytest.approx(chosen)


def test_channels_are_rounded_not_units():
    # 6 units of 4 channels: 8 channels are 2 units, so 2, 4 or all 6 units may stay.
    assert legal_ratios(grouped(24, 4)["g"], 8) == pytest.approx([0, 2 / 6, 4 / 6])
    assert legal_ratios(grouped(24, 4)["g"], 1, 10) == pytest.approx([0, 1 / 6, 2 / 6, 3 / 6])  # 10 channels: 3 units
    plan = make_plan(grouped(24, 4), {"g": np.arange(6)}, {"g": 0.4}, round_to=8)
    assert len(plan.slices()["g"][0]) == 8 and plan.slices()["g"][0].tolist() == [0, 1, 6, 7, 12, 13, 18, 19]


def test_blocks_shrink_together_and_none_vanishes():
    steps = legal(joined()["a"])
    assert [block.tolist() for block in steps.blocks] == [list(range(12)), [12, 13, 14, 15]]
    assert (steps.removed < [12, 4]).all()
    worst_first = {"a": np.concatenate([np.full(12, 5.0), np.zeros(4)])}  # b's units are all the least important
    plan = make_plan(joined(), worst_first, {"a": 0.5})
    assert plan.removed["a"].tolist() == [0, 1, 2, 3, 4, 5, 12, 13]
    assert legal(joined()["a"], 4).removed.tolist() == [[0, 0], [4, 0], [8, 0]]


@given(round_to=st.sampled_from([1, 2, 4, 8]), floor=st.sampled_from([1, 2, 0.3]), odd=st.integers(1, 20))
def test_every_producer_of_a_group_with_blocks_is_rounded(round_to, floor, odd):
    units = np.arange(odd + 24)
    members = [
        member("a", 0, units[:odd], OUTPUT),
        member("b", 0, np.concatenate([units[odd:], np.full(8, -1)]), OUTPUT),
        member("c", 0, units, OUTPUT),
        member("d", 0, np.repeat(units, 2), DEPTHWISE),
    ]
    group = Group("a", len(units), members)
    steps = legal(group, round_to, floor)
    assert (np.diff(steps.ratios) > 0).all() and steps.ratios[0] == 0
    for step in range(1, len(steps.ratios)):
        gone = Plan(Groups([group]), {"a": steps.units(step, np.zeros(len(units)))}).slices()
        for one in members:
            removed = len(gone[one.parameter][0])
            kept = len(one.units) - removed
            assert kept > 0 and (removed == 0 or kept % round_to == 0)


def test_greedy_does_not_count_what_earlier_groups_removed():
    """Li et al. 2017, section 3.2: the two ways on a network where they differ."""
    params = dict(PARAMS, c1=np.ones((6, 8, 3, 3), np.float32))
    params["c1"][2, :4] = 50.0  # filter 2 is large only in what reads the channels that go
    params["c1"][2, 4:] = 0.1
    params["c0"] = np.ones((8, 3, 3, 3), np.float32) * np.arange(1, 9).reshape(-1, 1, 1, 1)
    ratios = {"c0": 0.5, "c1": 1 / 6}
    independent = make_plan(chain(), None, ratios, params=params)
    greedy = make_plan(chain(), None, ratios, params=params, greedy=True)
    assert independent.removed["c0"].tolist() == greedy.removed["c0"].tolist() == [0, 1, 2, 3]
    assert independent.removed["c1"].tolist() == [0]
    assert greedy.removed["c1"].tolist() == [2]


@given(seed=st.integers(0, 1000))
def test_greedy_against_a_loop(seed):
    sizes = (9, 8, 7, 5)
    params = chain_params(sizes, seed=seed)
    gone = np.zeros(0, np.int64)
    for i in range(3):
        values = l1_norm(np.delete(params[f"c{i}"], gone, 1) if i else params["c0"])
        gone = np.sort(np.argsort(values, kind="stable")[:3])
        ratios = {f"c{k}": 3 / sizes[k] for k in range(3)}
        plan = make_plan(chain(sizes), Scorer(params), ratios, greedy=True)
        assert plan.removed[f"c{i}"].tolist() == gone.tolist()


def test_ratios_of_one_group():
    ratios = {"c": 0.5, "a": 0.25}
    with pytest.raises(ConfigError, match=r"'c' and 'a' can only be pruned together, .* ratios are 0.5 and 0.25"):
        group_ratios(joined(), ratios)
    assert group_ratios(joined(), ratios, "first") == {"a": 0.5}
    assert group_ratios(joined(), ratios, "least") == {"a": 0.25}
    assert group_ratios(joined(), {"c": 0.5, "b": 0.5}) == {"a": 0.5}
    assert make_plan(joined(), {"a": np.arange(16)}, {"b": 0.0}).removed == {}


def test_saved_and_read_again():
    plan = make_plan(chain(), SCORES, {"c0": 0.4, "c1": 0.5})
    again = Plan.from_dict(chain(), json.loads(json.dumps(plan.to_dict())))
    assert {k: v.tolist() for k, v in again.removed.items()} == {k: v.tolist() for k, v in plan.removed.items()}
    with pytest.raises(ConfigError, match="a network where 'c0' has 8 units, here it has 9"):
        Plan.from_dict(chain((9, 6, 4)), plan.to_dict())
    with pytest.raises(ConfigError, match="no pruning plan of format 1"):
        Plan.from_dict(chain(), {"c0": [1]})
    assert str(plan).splitlines()[0] == "c0: 5 of 8 units stay (37.5% go)"


def test_slices_of_a_chain():
    slices = Plan(chain(), {"c0": np.array([5, 1]), "c1": np.array([0])}).slices()
    assert slices["c0"][0].tolist() == [1, 5] and slices["c1"][1].tolist() == [1, 5]
    assert slices["c1"][0].tolist() == [0] and slices["bn0.scale"][0].tolist() == [1, 5]


@pytest.mark.parametrize("ratio", [-0.1, 1.0, 1.5, float("nan"), float("inf"), "half", None])
def test_a_ratio_out_of_range(ratio):
    with pytest.raises(ConfigError, match=r"The ratio of 'c0' is .*; it is the fraction of the filters that goes"):
        make_plan(chain(), SCORES, {"c0": ratio})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ratios": {"c9": 0.5}}, "'c9' is no parameter with filters in this network; did you mean"),
        ({"ratios": {"c2": 0.5}}, "'c2' cannot be pruned: it is the result of the network"),
        ({"round_to": 0}, "round_to = 0: what stays is rounded"),
        ({"round_to": 2.5}, "round_to = 2.5"),
        ({"floor": 0}, "floor = 0: the least that stays"),
        ({"floor": 1.0}, "floor = 1.0"),
        ({"greedy": True}, "Greedy pruning scores a layer after those before it were chosen"),
        ({"conflict": "last"}, "conflict = 'last' is none of refuse, first, least"),
        ({"scores": None}, "make_plan needs scores, or params to score"),
        ({"params": PARAMS}, "either scores or params"),
        ({"scores": {"c1": SCORES["c1"]}}, "no scores of the group 'c0'"),
        ({"scores": {"c0": np.ones(3)}}, r"The scores of 'c0' must be 8 numbers, .*shape \[3\]"),
        ({"scores": None, "params": PARAMS, "criterion": "L1"}, "no criterion 'L1'"),
    ],
)
def test_bad_arguments_are_one_sentence(change, message):
    arguments = {"scores": SCORES, "ratios": {"c0": 0.5}, **change}
    with pytest.raises(ConfigError, match=message):
        make_plan(chain(), **arguments)


@pytest.mark.parametrize(
    ("removed", "message"),
    [
        ({"c7": [0]}, "There is no group 'c7'"),
        ({"c2": [0]}, "'c2' cannot be pruned"),
        ({"c0": [8]}, "removes unit 8 of 'c0', which has units 0 to 7"),
        ({"c0": range(8)}, "removes all 8 units of 'c0'"),
    ],
)
def test_a_plan_that_cannot_be(removed, message):
    with pytest.raises(ConfigError, match=message):
        Plan(chain(), {name: np.array(list(units)) for name, units in removed.items()})


def test_no_producer_loses_all_its_filters():
    with pytest.raises(ConfigError, match="removes all of 'a' in the group 'a'"):
        Plan(joined(), {"a": np.arange(12)})
    assert len(Plan(joined(), {"a": np.arange(12, 16)})) == 4  # b keeps its four that are of no group
