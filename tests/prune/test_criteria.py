"""Scores of groups against loops over their members."""

import numpy as np
import pytest
from prune.hand_groups import chain, chain_params, grouped, joined, member

from slimkit.errors import ConfigError, NumericsError
from slimkit.numerics import importance
from slimkit.prune.criteria import CRITERIA, Scorer, scores
from slimkit.prune.groups import INPUT, OUTPUT, VECTOR, Group, Groups

PARAMS = chain_params()
RNG = np.random.default_rng(5)
JOINED = {name: RNG.standard_normal(shape) for name, shape in
          {"a": (12, 2, 1, 1), "b": (8, 3, 1, 1), "c": (16, 5, 1, 1), "next": (7, 16, 3, 3)}.items()}  # fmt: skip


@pytest.mark.parametrize("name", [n for n, row in CRITERIA.items() if not (row.batch_norm or row.gradients)])
def test_a_chain_is_scored_by_its_filters(name):
    found = scores(chain(), PARAMS, name)
    assert list(found) == ["c0", "c1"]  # the refused one is not scored
    for group, values in found.items():
        np.testing.assert_array_equal(values, getattr(importance, name)(PARAMS[group], 0))


def test_bn_scale_reads_the_batch_norms_scale():
    found = scores(chain(), PARAMS, "bn_scale")
    np.testing.assert_allclose(found["c1"], np.abs(PARAMS["bn1.scale"]))


def test_bn_scale_without_batch_norm_says_so():
    with pytest.raises(ConfigError, match="needs a batch norm behind 'g' and there is none"):
        scores(grouped(), {"g": np.ones((24, 2, 1, 1))}, "bn_scale")


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "first"])
@pytest.mark.parametrize("over", ["producers", "members"])
@pytest.mark.parametrize("normalize", [None, "mean", "max", "l2"])
def test_reductions_against_a_loop(reduce, over, normalize):
    group = joined()["a"]
    roles = [OUTPUT] if over == "producers" else [OUTPUT, INPUT]
    by_unit = [[] for _ in range(group.size)]
    for place, one in enumerate(m for m in group.members if m.role in roles):
        values = importance.l1_norm(JOINED[one.parameter], one.axis)
        values = (
            values / {None: 1.0, "mean": values.mean(), "max": values.max(), "l2": np.linalg.norm(values)}[normalize]
        )
        for unit, value in zip(one.units, values):
            if unit >= 0:
                by_unit[unit].append((place, value))
    want = {
        "sum": [sum(v for _, v in found) for found in by_unit],
        "mean": [np.mean([v for _, v in found]) for found in by_unit],
        "max": [max(v for _, v in found) for found in by_unit],
        "first": [sum(v for p, v in found if p == found[0][0]) for found in by_unit],
    }[reduce]
    found = scores(joined(), JOINED, over=over, normalize=normalize, reduce=reduce)["a"]
    np.testing.assert_allclose(found, want, rtol=1e-12)


@pytest.mark.parametrize("reduce", ["sum", "first", "mean", "max"])
def test_a_unit_of_several_channels(reduce):
    weight = RNG.standard_normal((24, 2, 3, 3))
    each = importance.l2_norm(weight, 0).reshape(4, 6)  # unit u has channels u, u + 6, u + 12, u + 18
    want = {"sum": each.sum(0), "first": each.sum(0), "mean": each.mean(0), "max": each.max(0)}[reduce]
    np.testing.assert_allclose(scores(grouped(), {"g": weight}, "l2_norm", reduce=reduce)["g"], want)


def test_taylor_needs_and_reads_gradients():
    gradients = {name: RNG.standard_normal(array.shape) for name, array in PARAMS.items()}
    found = scores(chain(), PARAMS, "taylor", gradients)
    np.testing.assert_allclose(found["c0"], ((PARAMS["c0"] * gradients["c0"]) ** 2).sum((1, 2, 3)))
    with pytest.raises(ConfigError, match=r"taylor needs gradients of the loss and none were given"):
        scores(chain(), PARAMS, "taylor")
    del gradients["c1"]
    with pytest.raises(ConfigError, match=r"The gradients have no 'c1'"):
        scores(chain(), PARAMS, "taylor_abs", gradients)


def test_a_function_as_criterion():
    found = scores(chain(), PARAMS, lambda array, axis: importance.l1_norm(array, axis) ** 2)
    np.testing.assert_allclose(found["c0"], importance.l1_norm(PARAMS["c0"]) ** 2)
    with pytest.raises(ConfigError, match=r"gave shape \[\] for the 8 filters of 'c0'"):
        scores(chain(), PARAMS, lambda array, axis: array.sum())


def test_what_was_removed_does_not_count():
    removed = {"c1": {1: np.array([0, 3]), 0: np.array([2])}}
    found = Scorer(PARAMS)(chain()["c1"], removed)
    np.testing.assert_allclose(found, np.abs(np.delete(PARAMS["c1"], [0, 3], 1)).sum((1, 2, 3)), rtol=1e-6)


def test_shared_weights_count_once_a_member():
    units = np.arange(3)
    members = [member("w", 0, units, OUTPUT, output=o) for o in ("one", "two")] + [member("v", 0, units, VECTOR)]
    found = scores(Groups([Group("w", 3, members)]), {"w": np.eye(3)}, reduce="first")
    np.testing.assert_array_equal(found["w"], np.ones(3))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"criterion": "l1_nrom"},
            ConfigError,
            r"no criterion 'l1_nrom'; the criteria are .*; did you mean 'l1_norm'\?",
        ),
        ({"over": "producer"}, ConfigError, r"over = 'producer' is none of .*did you mean 'producers'\?"),
        ({"normalize": "min"}, ConfigError, "normalize = 'min' is none of mean, max, l2"),
        ({"reduce": "median"}, ConfigError, "reduce = 'median' is none of sum, mean, max, first"),
        ({"params": {}}, ConfigError, "The params have no 'c0'"),
        (
            {"params": {"c0": np.ones((7, 3, 3, 3))}},
            ConfigError,
            r"shape \[7, 3, 3, 3\] in the params.*has 8 along axis 0",
        ),
        ({"params": {**PARAMS, "c1": PARAMS["c1"] * np.nan}}, NumericsError, "'c1' by l1_norm are not finite"),
    ],
)
def test_bad_arguments_are_one_sentence(change, error, message):
    arguments = {"groups": chain(), "params": PARAMS, **change}
    with pytest.raises(error, match=message):
        scores(**arguments)
