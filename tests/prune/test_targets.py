"""Targets: the line found by bisection against trying every level."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prune.hand_groups import chain, chain_params

from slimkit.analysis import Complexity, OpCost
from slimkit.errors import ConfigError
from slimkit.numerics.curves import fit_curve
from slimkit.prune.cost import CostModel
from slimkit.prune.criteria import Scorer, scores
from slimkit.prune.legal import legal
from slimkit.prune.line import Target
from slimkit.prune.plan import make_plan
from slimkit.prune.targets import Limits, curves_of, ratios_by_sensitivity, uniform

SIZES = (16, 24, 8, 12, 5)
GROUPS = chain(SIZES)
PARAMS = chain_params(SIZES)
POINTS = {
    "c0": {0.25: 0.01, 0.5: 0.05, 0.75: 0.3},
    "c1": {0.25: 0.0, 0.5: 0.01, 0.75: 0.02},
    "c2": {0.25: 0.2, 0.5: 0.5, 0.75: 0.9},
    "c3": {0.25: 0.02, 0.5: 0.04, 0.75: 0.08},
}


def _cost(groups=GROUPS, params=PARAMS):
    ops = [
        OpCost("conv2d", f"{name}.out", name, 49 * array.size, 98 * array.size, array.size, (1, len(array), 7, 7))
        for name, array in params.items()
        if array.ndim == 4
    ]
    total = sum(op.macs for op in ops)
    return CostModel(Complexity(total, 2 * total, sum(a.size for a in params.values()), ops), groups, params)


COST = _cost()


def _pairs(values):
    return zip(values, values[1:])


def _at_level(level, limits, curves):
    """The definition: each group's largest legal ratio whose curve is not above the level."""
    ratios = {}
    for name, curve in curves.items():
        steps = legal(GROUPS[name], limits.round_to, limits.floor).ratios
        ratios[name] = max(r for r in steps if r == 0 or (r <= limits.max_ratio + 1e-9 and curve(r) <= level))
    return ratios


losses = st.floats(-0.1, 1).map(lambda v: round(v, 3))
measured = st.fixed_dictionaries(
    {f"c{i}": st.dictionaries(st.sampled_from([0.2, 0.4, 0.6, 0.8]), losses, min_size=1) for i in range(4)}
)


@settings(max_examples=40)
@given(
    points=measured,
    removed=st.floats(0.02, 0.8),
    round_to=st.sampled_from([1, 4]),
    max_ratio=st.sampled_from([1.0, 0.5]),
    unit=st.sampled_from(["macs", "parameters"]),
)
def test_the_lowest_line_that_reaches_the_target(points, removed, round_to, max_ratio, unit):
    limits = Limits(round_to=round_to, max_ratio=max_ratio)
    curves = {name: fit_curve(held) for name, held in points.items()}
    target = Target(unit, removed=removed)
    levels = sorted(
        {0.0} | {float(c(r)) for n, c in curves.items() for r in legal(GROUPS[n], round_to).ratios if np.isfinite(c(r))}
    )

    def value(level):
        return COST.value(unit, make_plan(GROUPS, None, _at_level(level, limits, curves), params=PARAMS))

    most = target.most(COST.value(unit))
    want = next((level for level in levels if value(level) <= most), None)
    if want is None:
        with pytest.raises(ConfigError, match="is beyond reach"):
            ratios_by_sensitivity(GROUPS, points, target, COST, limits=limits)
        return
    line = ratios_by_sensitivity(GROUPS, points, target, COST, limits=limits, scores=Scorer(PARAMS))
    assert line.level == want and line.value <= most and line.value == COST.value(unit, line.plan)
    full = _at_level(want, limits, curves)
    for name, ratio in line.ratios.items():
        steps = legal(GROUPS[name], round_to).ratios
        assert ratio <= full[name] and ratio in steps
        if ratio > 0:  # nothing goes that the target does not need
            less = {**line.ratios, name: float(steps[np.flatnonzero(steps < ratio - 1e-9)[-1]])}
            assert COST.value(unit, make_plan(GROUPS, None, less, params=PARAMS)) > most
    again = make_plan(GROUPS, Scorer(PARAMS), line.ratios, round_to=round_to)
    assert {k: v.tolist() for k, v in again.removed.items()} == {k: v.tolist() for k, v in line.plan.removed.items()}


def test_no_step_more_than_needed():
    """Without the last step of the row the target is missed."""
    line = ratios_by_sensitivity(GROUPS, POINTS, Target("macs", removed=0.4), COST)
    misses = []
    for name, ratio in line.ratios.items():
        steps = legal(GROUPS[name]).ratios
        if ratio > 0:
            less = dict(line.ratios, **{name: float(steps[np.flatnonzero(steps < ratio - 1e-9)[-1]])})
            curve = fit_curve(POINTS[name])
            misses.append((float(curve(ratio)), COST.macs(make_plan(GROUPS, None, less, params=PARAMS))))
    at_the_line = [value for level, value in misses if level == pytest.approx(line.level)]
    assert at_the_line and max(at_the_line) > Target("macs", removed=0.4).most(COST.macs())


@settings(max_examples=40)
@given(removed=st.floats(0.02, 0.85), round_to=st.sampled_from([1, 4, 8]))
def test_uniform_is_the_smallest_ratio(removed, round_to):
    target = Target("macs", removed=removed)
    most = target.most(COST.macs())

    def value(ratio):
        plan = make_plan(GROUPS, None, {f"c{i}": ratio for i in range(4)}, params=PARAMS, round_to=round_to)
        return COST.macs(plan)

    edges = sorted({float((a + b) / 2) for i in range(4) for a, b in _pairs(legal(GROUPS[f"c{i}"], round_to).ratios)})
    if value(0.9999) > most:
        with pytest.raises(ConfigError, match="beyond reach"):
            uniform(GROUPS, target, COST, limits=Limits(round_to=round_to))
        return
    line = uniform(GROUPS, target, COST, limits=Limits(round_to=round_to), scores=Scorer(PARAMS))
    assert line.value <= most
    below = [edge for edge in edges if edge < line.level - 1e-9]
    assert line.level in edges and line.value == value(line.level + 1e-6)
    if below:
        assert value((below[-1] + line.level) / 2) > most
    assert set(line.ratios) == {"c0", "c1", "c2", "c3"}


def test_greedy_takes_the_same_numbers_of_other_filters():
    target = Target("macs", removed=0.5)
    plain = ratios_by_sensitivity(GROUPS, POINTS, target, COST, scores=Scorer(PARAMS))
    greedy = ratios_by_sensitivity(GROUPS, POINTS, target, COST, scores=Scorer(PARAMS), greedy=True)
    assert greedy.ratios == plain.ratios and greedy.value == plain.value
    want = make_plan(GROUPS, Scorer(PARAMS), plain.ratios, greedy=True)
    assert {k: v.tolist() for k, v in greedy.plan.removed.items()} == {k: v.tolist() for k, v in want.removed.items()}
    with pytest.raises(ConfigError, match="Greedy pruning needs a Scorer"):
        uniform(GROUPS, target, COST, greedy=True)


def test_scores_choose_the_units():
    held = scores(GROUPS, PARAMS)
    line = uniform(GROUPS, Target("parameters", limit=2000), COST, scores=held)
    for name, units in line.plan.removed.items():
        assert units.tolist() == sorted(np.argsort(held[name])[: len(units)].tolist())
    assert line.value <= 2000 < line.whole and line.removed == pytest.approx(1 - line.value / line.whole)


def test_skipped_layers_and_those_not_measured_stay_whole():
    line = ratios_by_sensitivity(GROUPS, POINTS, Target("macs", removed=0.2), COST, limits=Limits(skip=("c[12]",)))
    assert set(line.ratios) == {"c0", "c3"}
    points = {name: POINTS[name] for name in ("c0", "c1")}
    line = ratios_by_sensitivity(GROUPS, points, Target("macs", removed=0.2), COST)
    assert set(line.ratios) == {"c0", "c1"}
    assert line.notes == ["No sensitivity was measured of c2, c3, which therefore stay whole."]


def test_of_parameters_of_one_group_the_greater_loss_counts():
    from prune.hand_groups import joined

    curves, _ = curves_of(joined(), {"a": {0.2: 0.1, 0.4: 0.5}, "c": {0.2: 0.3, 0.6: 0.4}})
    assert curves["a"].ratios.tolist() == [0, 0.2, 0.4, 0.6]
    assert curves["a"].losses[1] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("limits", "remedy"),
    [
        (Limits(max_ratio=0.25), r"raise max_ratio = 0.25 or ask for less"),
        (Limits(skip=("c0", "c1")), r"skip less than c0, c1 or ask for less"),
        (Limits(floor=0.9), r"lower floor = 0.9 or ask for less"),
        (Limits(round_to=16), r"lower round_to = 16 or ask for less"),
        (Limits(max_ratio=0.25, round_to=2), r"raise max_ratio = 0.25 or ask for less"),
        (Limits(max_ratio=0.25, floor=0.8), r"raise max_ratio = 0.25 or lower floor = 0.8 or ask for less"),
    ],
)
def test_beyond_reach_says_how_far_and_what_to_change(limits, remedy):
    message = rf"target macs -70% is beyond reach: .* of \d+,\d+ macs are left \([\d.]+% removed\); {remedy}\.$"
    with pytest.raises(ConfigError, match=message):
        uniform(GROUPS, Target("macs", removed=0.7), COST, limits=limits)


def test_beyond_what_was_measured():
    with pytest.raises(
        ConfigError, match=r"; measure the sensitivities of more layers or at greater ratios or ask for"
    ):
        ratios_by_sensitivity(GROUPS, {"c0": {0.1: 0.1}}, Target("macs", removed=0.7), COST)


def test_latency_is_bisected_with_measurements():
    asked = []

    def measure(plan):
        asked.append(len(plan))
        return 10.0 - 0.1 * len(plan)  # 60 units can go: 0.1 ms each

    line = ratios_by_sensitivity(GROUPS, POINTS, Target("latency", removed=0.25), measure=measure)
    assert line.value <= 7.5 and line.value == pytest.approx(7.5) and line.whole == 10
    assert len(asked) == len(set(asked)) <= 10
    with pytest.raises(ConfigError, match=r"latency <= 1 ms is beyond reach: .* of 10 ms are left"):
        uniform(GROUPS, Target("latency", limit=1.0), measure=measure)
    with pytest.raises(ConfigError, match="needs a function that measures a plan"):
        uniform(GROUPS, Target("latency", limit=1.0))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"unit": "mac", "removed": 0.5}, r"'mac' is no target; .*did you mean 'macs'\?"),
        ({"unit": "macs"}, "needs either the fraction removed or the limit"),
        ({"unit": "macs", "removed": 0.5, "limit": 3}, "needs either"),
        ({"unit": "macs", "removed": 50}, "removes 50 of the macs; it is a fraction above 0 and below 1"),
        ({"unit": "latency", "limit": -1.0}, "leaves -1.0 latency"),
    ],
)
def test_a_target_that_is_none(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Target(**arguments)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (Limits(skip=("conv*",)), r"skip = 'conv\*' matches no parameter with filters"),
        (Limits(max_ratio=0.0), "max_ratio = 0.0: a fraction above 0, at most 1"),
        (Limits(round_to=0), "round_to = 0"),
    ],
)
def test_limits_that_are_none(limits, message):
    with pytest.raises(ConfigError, match=message):
        uniform(GROUPS, Target("macs", removed=0.5), COST, limits=limits)


def test_a_target_of_macs_needs_the_cost():
    with pytest.raises(ConfigError, match=r"needs the cost of the network; pass CostModel.of\(model\)"):
        uniform(GROUPS, Target("macs", removed=0.5))
