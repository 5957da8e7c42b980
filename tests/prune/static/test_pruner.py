"""``Pruner``: train and test programs of one scope, zeros, backups, users' functions, refusals."""

from __future__ import annotations

import time
import warnings
from typing import Any

import numpy as np
import paddle
import pytest
import static_networks as networks
from static_programs import CPU, Classifier, adam, momentum

from slimkit.errors import ConfigError, ModelError, NumericsError
from slimkit.ir import legacy_ir
from slimkit.prune import Pruner

PARAMS, RATIOS = ["conv4_weights", "conv3_weights"], [0.5, 0.25]


def test_masked_and_pruned_compute_the_same() -> None:
    net = Classifier()
    full = net.run(net.test, net.out)[0]
    before = net.values()
    zeroed, backup, shapes = Pruner().prune(
        net.test, net.scope, PARAMS, RATIOS, CPU, lazy=True, param_backup=True, param_shape_backup=True
    )
    assert shapes == {} and {name: a.shape for name, a in net.values().items()} == {
        name: a.shape for name, a in before.items()
    }
    assert not net.get("conv4_weights")[[0, 1, 5, 6]].any() and not net.get("conv5_weights")[:, [0, 1, 5, 6]].any()
    masked = net.run(zeroed, net.out)[0]
    for name, value in backup.items():
        net.set(name, value)
    np.testing.assert_array_equal(net.run(net.test, net.out)[0], full)
    pruned, _, _ = Pruner().prune(net.test, net.scope, PARAMS, RATIOS, CPU)
    np.testing.assert_allclose(net.run(pruned, net.out)[0], masked, atol=1e-5)
    assert np.abs(masked - full).max() > 1e-3


@pytest.mark.parametrize("optimizer", [momentum, adam])
def test_training_goes_on_as_with_zeros(optimizer: Any) -> None:
    """After minimize: the optimizer's state shrinks too, and a step from there is that of the network with zeros."""
    losses = {}
    for lazy in (True, False):
        net = Classifier(optimizer)
        for _ in range(2):
            net.step(net.train)
        program, _, _ = Pruner().prune(net.train, net.scope, PARAMS, RATIOS, CPU, lazy=lazy)
        losses[lazy] = [net.step(program) for _ in range(2)]
        if not lazy:
            state = [name for name in net.values() if name.startswith("conv4_weights_") and net.get(name).ndim == 4]
            assert state and all(net.get(name).shape == (4, 6, 3, 3) for name in state)
            assert net.step(program) < losses[False][0]
    assert losses[True][0] == pytest.approx(losses[False][0], abs=1e-5)


def test_before_minimize() -> None:
    net = Classifier()
    program, _, _ = Pruner().prune(net.train, net.scope, PARAMS, RATIOS)
    with legacy_ir():
        startup = paddle.static.Program()
        with paddle.static.program_guard(program, startup), paddle.utils.unique_name.guard():
            momentum().minimize(program.global_block().var(net.loss))
        net.executor.run(startup, scope=net.scope)
    losses = [net.step(program) for _ in range(4)]
    assert losses[-1] < losses[0]
    assert net.get("conv4_weights_velocity_0").shape == (4, 6, 3, 3)


@pytest.mark.parametrize("first", ["test", "train"])
def test_two_programs_of_one_scope(first: str) -> None:
    """PaddleSlim's demo prunes the test program first, PaddleDetection's script the train program."""
    net = Classifier(momentum)
    pruner = Pruner()
    if first == "test":
        test, backup, _ = pruner.prune(net.test, net.scope, PARAMS, RATIOS, only_graph=True, param_backup=True)
        assert backup == {} and net.get("conv4_weights").shape == (8, 8, 3, 3)
    train, _, _ = pruner.prune(net.train, net.scope, PARAMS, RATIOS)
    if first == "train":
        test, _, _ = Pruner("bn_scale").prune(net.test, net.scope, PARAMS, RATIOS, only_graph=True)
    shapes = {v.name: tuple(v.shape) for v in test.all_parameters()}
    assert shapes == {v.name: tuple(v.shape) for v in train.all_parameters()}
    assert shapes == {name: net.get(name).shape for name in shapes}
    assert net.run(test, net.loss)[0] > 0
    net.step(train)
    assert np.isfinite(net.run(test, net.accuracy)[0])


def test_only_graph_needs_no_values() -> None:
    net = Classifier()
    pruned, _, shapes = Pruner().prune(
        net.test, paddle.static.Scope(), PARAMS, RATIOS, only_graph=True, param_shape_backup=True
    )
    assert tuple(pruned.global_block().var("conv4_weights").shape) == (4, 6, 3, 3)
    assert shapes["conv4_weights"] == [8, 8, 3, 3] and "conv6_weights" not in shapes


def test_pruned_again() -> None:
    net = Classifier()
    once, _, _ = Pruner().prune(net.test, net.scope, ["conv4_weights"], [0.25])
    twice, _, _ = Pruner().prune(once, net.scope, ["conv4_weights"], [0.5])
    assert net.get("conv1_weights").shape == (3, 3, 3, 3) and net.get("conv4_weights").shape == (3, 8, 3, 3)
    assert np.isfinite(net.run(twice, net.out)[0]).all()


def test_the_source_program_is_left_alone() -> None:
    net = Classifier(momentum)
    before = net.train.desc.serialize_to_string()
    Pruner().prune(net.train, net.scope, PARAMS, RATIOS)
    assert net.train.desc.serialize_to_string() == before


def test_a_compiled_program_is_taken() -> None:
    net = Classifier()
    with legacy_ir():
        compiled = paddle.static.CompiledProgram(net.test)
    pruned, _, _ = Pruner().prune(compiled, net.scope, ["conv3_weights"], [0.5])
    assert tuple(pruned.global_block().var("conv3_weights").shape) == (4, 8, 3, 3)


# ---------------------------------------------------------------- several parameters that go together


def test_of_parameters_that_go_together_the_first_decides_and_it_is_said() -> None:
    net = Classifier()
    pruner = Pruner()
    with pytest.warns(UserWarning, match="'conv1_weights' goes with 'conv4_weights'.* ratio 0.25 has no effect"):
        pruner.prune(net.test, net.scope, ["conv4_weights", "conv1_weights"], [0.5, 0.25])
    assert len(pruner.notes) == 1 and net.get("conv1_weights").shape[0] == 4
    net = Classifier()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        pruner.prune(net.test, net.scope, ["conv4_weights", "conv1_weights"], [0.5, 0.5])
    assert pruner.notes == []


@pytest.mark.parametrize(
    "params, ratios, widths",
    [
        (["conv1_weights"], [0.5], (4, 8, 12)),
        (["conv1_weights", "conv2_weights"], [0.5, 0.25], (4, 6, 10)),
        (["conv3_weights"], [0.5], (4, 4, 8)),
    ],
)
def test_a_ratio_is_of_the_parameter_s_own_filters(params: Any, ratios: Any, widths: Any) -> None:
    """conv3 is added to conv1 and conv2 side by side: all three are one group."""
    net = Classifier(network=networks.concatenated)
    pruned, _, _ = Pruner().prune(net.test, net.scope, params, ratios)
    assert tuple(net.get(f"conv{i}_weights").shape[0] for i in (1, 2, 3)) == widths
    assert np.isfinite(net.run(pruned, net.out)[0]).all()


# ---------------------------------------------------------------- criteria and selectors of the user


def _bn_scale(group: Any, values: Any, graph: Any) -> Any:
    """A criterion written for PaddleSlim: it finds the batch norm by walking the graph."""
    conv = graph.var(group.master["name"]).outputs()[0]
    norm = conv.outputs("Output")[0].outputs()[0]
    assert conv.type() == "conv2d" and norm.type() == "batch_norm"
    score = np.abs(values[norm.inputs("Scale")[0].name()].reshape([-1]))
    scores: Any = {}
    for details in group.all_pruning_details():
        assert details.name in group.variables() and details.transform == [] and details.op is not None
        scores.setdefault(details.name, {})[details.axis] = score
    return scores


def _least(group: Any, scores: Any, ratios: Any) -> Any:
    """A selector written for PaddleSlim."""
    name, axis = group.master["name"], group.master["axis"]
    order = scores[name][axis].argsort()
    gone = order[: int(len(order) * ratios[name])]
    return [(d.name, d.axis, gone, d.transform) for d in group.all_pruning_details()]


@pytest.mark.parametrize(
    "criterion, selector", [(_bn_scale, "default_idx_selector"), ("bn_scale", _least), (_bn_scale, _least)]
)
def test_users_functions(criterion: Any, selector: Any) -> None:
    expected, found = Pruner("bn_scale"), Pruner(criterion, selector)
    for pruner in (expected, found):
        net = Classifier()
        pruner.prune(net.test, net.scope, ["conv4_weights", "conv3_weights"], [0.5, 0.5])
    assert found.plan is not None and expected.plan is not None
    assert {k: v.tolist() for k, v in found.plan.removed.items()} == {
        k: v.tolist() for k, v in expected.plan.removed.items()
    }


@pytest.mark.parametrize(
    "criterion, selector, message",
    [
        (lambda *a: None, "default_idx_selector", r"must return .* 8 finite scores for 'conv3_weights' on axis 0"),
        (lambda *a: {"conv3_weights": {0: np.ones(3)}}, "default_idx_selector", "8 finite scores"),
        ("l1_norm", lambda *a: 3, "must return a list of"),
        ("l1_norm", lambda g, s, r: [("conv3_weights", 0, [8], [])], "index 8 of 'conv3_weights', which has 8"),
        (
            "l1_norm",
            lambda g, s, r: [("conv3_weights", 0, [1], []), ("conv4_weights", 1, [2], [])],
            "different indices",
        ),
    ],
)
def test_users_functions_that_are_wrong(criterion: Any, selector: Any, message: str) -> None:
    net = Classifier()
    before = net.values()
    with pytest.raises(ConfigError, match=message):
        Pruner(criterion, selector).prune(net.test, net.scope, ["conv3_weights"], [0.5])
    assert all(np.array_equal(value, before[name]) for name, value in net.values().items())


def test_optimal_threshold() -> None:
    """The least scales whose squares are a tenth of all: 1, 1, 2 of 1, 1, 2, 4, 4, 4, 4, 4 (6 of 86)."""
    net = Classifier()
    net.set("conv3_bn_scale", np.array([4, -1, 4, 2, 4, 1, -4, 4], "float32"))
    Pruner("bn_scale", "optimal_threshold").prune(net.test, net.scope, ["conv3_weights"], [0.1])
    np.testing.assert_array_equal(net.get("conv3_bn_scale"), [4, 4, 4, -4, 4])


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "params, ratios, message",
    [
        (["conv4_weight"], [0.5], "no parameter 'conv4_weight'; did you mean 'conv4_weights'"),
        (["conv4_weights"], [1.0], r"ratio of 'conv4_weights' is 1.0; .* below 1"),
        (["conv4_weights"], [-0.1], "is -0.1"),
        (["conv4_weights"], ["half"], "is 'half'"),
        (["conv4_weights", "conv3_weights"], [0.5], "their lengths are 2 and 1"),
        ("conv4_weights", [0.5], "lists of one length"),
        (["conv4_weights"], 0.5, "lists of one length"),
        (["conv4_weights", "conv4_weights"], [0.5, 0.5], "twice"),
        (["conv4_bn_scale"], [0.5], "'conv4_bn_scale' is no parameter with filters"),
        (["fc_0.w_0"], [0.5], "Nothing of params can be pruned: 'fc_0.w_0' cannot be pruned: "),
        ([], [], "the list is empty"),
    ],
)
def test_bad_arguments(params: Any, ratios: Any, message: str) -> None:
    net = Classifier()
    before = net.values()
    with pytest.raises(ConfigError, match=message):
        Pruner().prune(net.test, net.scope, params, ratios)
    assert all(np.array_equal(value, before[name]) for name, value in net.values().items())


def test_a_parameter_that_cannot_be_pruned_is_left_out_and_it_is_said() -> None:
    net = Classifier()
    with pytest.warns(UserWarning, match="'fc_0.w_0' cannot be pruned: a softmax op"):
        Pruner().prune(net.test, net.scope, ["conv3_weights", "fc_0.w_0"], [0.5, 0.5])
    assert net.get("conv3_weights").shape[0] == 4 and net.get("fc_0.w_0").shape[1] == 10


def test_a_ratio_too_small_is_said() -> None:
    net = Classifier()
    with pytest.warns(UserWarning, match="'conv3_weights' stays whole"):
        Pruner().prune(net.test, net.scope, ["conv3_weights"], [0.05])


@pytest.mark.parametrize(
    "criterion, selector, message",
    [
        ("l1norm", "default_idx_selector", "no criterion 'l1norm'.*did you mean 'l1_norm'"),
        ("taylor", "default_idx_selector", "taylor needs gradients"),
        ("l1_norm", "optimal_treshold", "no idx_selector 'optimal_treshold'.*did you mean 'optimal_threshold'"),
    ],
)
def test_unknown_names(criterion: str, selector: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Pruner(criterion, selector)


def test_a_scope_that_is_not_the_program_s() -> None:
    net = Classifier()
    with pytest.raises(ModelError, match="no value of 'conv1_bn_mean'; run the startup program"):
        Pruner().prune(net.test, paddle.static.Scope(), PARAMS, RATIOS)
    Pruner().prune(net.test, net.scope, PARAMS, RATIOS)
    with pytest.raises(ModelError, match=r"pruned already; go on with the program that Pruner\.prune returned"):
        Pruner().prune(net.test, net.scope, PARAMS, RATIOS)


def test_a_scope_pruned_to_what_no_plan_gives() -> None:
    net = Classifier()
    net.set("conv4_weights", np.ones((5, 8, 3, 3), "float32"))
    with pytest.raises(ModelError, match="No pruning of this program gives"):
        Pruner().prune(net.test, net.scope, PARAMS, RATIOS, only_graph=True)


def test_a_pir_program_is_refused() -> None:
    paddle.enable_static()
    try:
        program = paddle.static.Program()
    finally:
        paddle.disable_static()
    with pytest.raises(ModelError, match=r"legacy paddle.static.Program is needed.*slimkit.legacy_ir\(\)"):
        Pruner().prune(program, paddle.static.Scope(), PARAMS, RATIOS)


def test_nan_has_no_order() -> None:
    net = Classifier()
    net.set("conv4_weights", np.full((8, 8, 3, 3), np.nan, "float32"))
    with pytest.raises(NumericsError, match="'conv4_weights'"):
        Pruner().prune(net.test, net.scope, ["conv4_weights"], [0.5])


@pytest.mark.parametrize("criterion, most", [("l1_norm", 0.25), ("geometry_median", 0.75)])
def test_speed(criterion: str, most: float) -> None:
    """Twelve convolutions of MobileNetV1: 0.1 and 0.3 s; CPU seconds, with room for machines that are busy."""
    with legacy_ir():
        program, startup = paddle.static.Program(), paddle.static.Program()
        with paddle.static.program_guard(program, startup), paddle.utils.unique_name.guard():
            networks.mobile_net(paddle.static.data("image", [None, 3, 224, 224]))
        scope = paddle.static.Scope()
        paddle.static.Executor(CPU).run(startup, scope=scope)
    names = [name + "_sep_weights" for name, _, _ in networks.MOBILE][:12]
    seconds = []
    for _ in range(3):
        start = time.process_time()
        program, _, _ = Pruner(criterion).prune(program, scope, names, [0.1] * 12)
        seconds.append(time.process_time() - start)
    assert min(seconds) < most
