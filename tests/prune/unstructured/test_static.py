"""Unstructured pruning of static programs in training."""

import numpy as np
import paddle
import pytest
from prune.unstructured.networks import CONFIGS, paper_ratio, zero_share
from prune.unstructured.networks import net as layer_net
from small_programs import Net, mobile_net

from slimkit.errors import ConfigError, ModelError
from slimkit.ir import legacy_ir
from slimkit.prune.unstructured import dygraph as dygraph_pruners
from slimkit.prune.unstructured import make_unstructured_pruner
from slimkit.prune.unstructured.static import GMPUnstructuredPruner, UnstructuredPruner, without_masks

RATIO = 0.75
WEIGHTS = ["stem.w", "dw.w", "se.reduce.w", "se.expand.w", "project.w", "fc.w"]
POINTS = ["se.reduce.w", "se.expand.w", "project.w"]


def momentum():
    return paddle.optimizer.Momentum(0.05, 0.9, weight_decay=1e-3)


def batch(k):
    rng = np.random.RandomState(k)
    return {"x": rng.randn(4, 3, 8, 8).astype("float32"), "label": rng.randint(0, 5, (4, 1))}


def run(net, k, fetch):
    with legacy_ir():  # one executor a network: it prepares the program once
        return net.executor.run(net.program, feed=batch(k), fetch_list=fetch, scope=net.scope)


def values(net, names=WEIGHTS):
    return {name: net.value(name) for name in names}


def pruner_of(net, **more):
    return GMPUnstructuredPruner(net.program, ratio=RATIO, scope=net.scope, configs=CONFIGS, **more)


@pytest.mark.parametrize("local", [False, True])
def test_gradual_pruning_follows_the_schedule_at_every_step(local):
    net = mobile_net()
    pruner = pruner_of(net, local_sparsity=local)
    net.minimize(momentum)
    assert set(pruner.masks) == set(WEIGHTS)
    for k in range(20):
        loss = run(net, k, ["loss"])[0]
        pruner.step()
        wanted = paper_ratio(k, RATIO, CONFIGS)
        assert pruner.ratio == pytest.approx(wanted, abs=1e-9)
        pruner.update_params()
        weights = values(net)
        for w in weights.values() if local else ():
            assert abs(zero_share([w]) - wanted) * w.size <= 1
        slack = len(weights) if local else 1
        assert abs(zero_share(weights.values()) - wanted) * sum(w.size for w in weights.values()) <= slack
    assert wanted == RATIO and np.isfinite(loss)
    assert UnstructuredPruner.total_sparse(net.program, net.scope) < RATIO


@pytest.mark.parametrize("first", ["pruner", "minimize"])
def test_masks_hold_in_the_program(first):
    """Every run starts from masked weights; their gradients are masked if the pruner came before minimize."""
    net = mobile_net()
    if first == "minimize":
        net.minimize(momentum)
        net.run(batch(0), ["loss"])  # the executor has seen the program without masks
    pruner = UnstructuredPruner(net.program, "ratio", ratio=0.5, scope=net.scope, place=paddle.CPUPlace())
    if first == "pruner":
        with legacy_ir():
            optimizer = paddle.optimizer.SGD(0.1)
        net.minimize(lambda: _without_gradients(optimizer, pruner.no_grad_set))
    pruner.step()
    masks = {name: net.value(mask) == 1 for name, mask in pruner.masks.items()}
    before = values(net)
    gradients = net.run(batch(1), [f"{name}@GRAD" for name in WEIGHTS])
    for name, gradient in zip(WEIGHTS, gradients):
        if first == "pruner":
            assert (gradient[~masks[name]] == 0).all()
            assert (net.value(name)[~masks[name]] == 0).all()
            wanted = before[name] - np.float32(0.1) * gradient
            assert np.allclose(net.value(name)[masks[name]], wanted[masks[name]], atol=1e-6)
    seen = net.run(batch(1), WEIGHTS, without_updates(net))
    for name, w in zip(WEIGHTS, seen):
        assert (w[~masks[name]] == 0).all() and (w[masks[name]] != 0).all()
    pruner.update_params()
    for name, w in values(net).items():
        assert ((w == 0) == ~masks[name]).all()


def _without_gradients(optimizer, names):
    plain = optimizer.minimize
    optimizer.minimize = lambda loss: plain(loss, no_grad_set=names)
    return optimizer


def without_updates(net):
    return net.test_program()


def test_the_exported_program_has_no_masks_and_gives_the_same(tmp_path):
    net = mobile_net(train=False)
    pruner = UnstructuredPruner(net.program, "ratio", ratio=0.6, scope=net.scope)
    pruner.step()
    x = {"x": batch(0)["x"]}
    masked = net.run(x, ["logits"], net.test_program())
    pruner.update_params()
    plain = without_masks(net.test_program())
    assert not any("_mask" in name for op in plain.global_block().ops for name in op.input_arg_names)
    assert (net.run(x, ["logits"], plain)[0] == masked[0]).all()


def test_a_resumed_training_is_the_uninterrupted_one(tmp_path):
    def fresh():
        net = mobile_net()
        made = pruner_of(net)
        net.minimize(lambda: paddle.optimizer.SGD(0.1, weight_decay=1e-3))
        return net, made

    def go(net, pruner, steps):
        for k in steps:
            run(net, k, ["loss"])
            pruner.step()

    whole, kept = fresh()
    go(whole, kept, range(20))
    part, pruner = fresh()
    go(part, pruner, range(10))
    with legacy_ir(), paddle.static.scope_guard(part.scope):
        paddle.static.save(part.program, str(tmp_path / "m"))
    again, second = fresh()
    with legacy_ir(), paddle.static.scope_guard(again.scope):
        paddle.static.load(again.program, str(tmp_path / "m"))
    go(again, second, range(10, 20))
    assert second.cur_iteration == 20 and second.ratio == RATIO
    for one, other in zip(values(whole).values(), values(again).values()):
        assert (one == other).all()


@pytest.mark.parametrize("kind", ["conv1x1_only", "function"])
def test_what_is_skipped(kind):
    net = mobile_net()
    if kind == "conv1x1_only":
        pruner = UnstructuredPruner(net.program, "ratio", ratio=0.5, scope=net.scope, prune_params_type=kind)
    else:

        def skip(program):  # names of other variables are no harm: those of a norm's activations, say
            return {p.name for p in program.all_parameters() if p.name not in POINTS} | {"stem", "x"}

        pruner = UnstructuredPruner(net.program, "ratio", ratio=0.5, scope=net.scope, skip_params_func=skip)
    before = values(net)
    pruner.step()
    pruner.update_params()
    assert set(pruner.masks) == set(POINTS)
    for name, w in values(net).items():
        assert (w == before[name]).all() != (name in POINTS)
    assert UnstructuredPruner.total_sparse_conv1x1(net.program, net.scope) == 0.5
    assert pruner.sparse_by_layer()["fc.w"] == 0


def test_norms_are_known_by_their_op():
    net = Net()
    net.linear(net.data("x", [-1, 4], grad=False), np.ones((4, 6), np.float32), "batch_norm", trans_x=False)
    slots = {"Weight": net.param("proj.w", np.ones((6, 4), np.float32))}  # a matrix, but a norm's
    slots.update({slot: net.param(slot, np.ones(n, np.float32)) for slot, n in (("U", 6), ("V", 4))})
    net.op("spectral_norm", {"Out": "normed"}, {"dim": 0, "power_iters": 1, "eps": 1e-12}, **slots)
    assert set(UnstructuredPruner(net.program, "ratio", scope=net.scope).masks) == {"batch_norm.w"}


def test_threshold_mode_static_masks_and_the_threshold_of_a_ratio():
    net = mobile_net()
    before = values(net)
    pruner = UnstructuredPruner(net.program, "threshold", threshold=0.2, scope=net.scope)
    count = sum(int((np.abs(w) < np.float32(0.2)).sum()) for w in before.values())
    share = count / sum(w.size for w in before.values())
    highest = max(float(np.abs(w)[np.abs(w) < 0.2].max()) for w in before.values() if (np.abs(w) < 0.2).any())
    assert pruner.summarize_weights(net.program, share + 1e-9) == pytest.approx(highest)
    pruner.step()
    pruner.update_params()
    for name, w in values(net).items():
        assert (w == np.where(np.abs(before[name]) < np.float32(0.2), 0, before[name])).all()
    again = UnstructuredPruner(net.program, "ratio", ratio=0.9, scope=net.scope)
    again.set_static_masks()
    assert all(((net.value(m) == 0) == (net.value(n) == 0)).all() for n, m in again.masks.items())


def test_one_function_makes_all_four():
    net, layer = mobile_net(), layer_net()
    made = make_unstructured_pruner(net.program, "threshold", threshold=0.1, scope=net.scope)
    assert type(made) is UnstructuredPruner and made.threshold == 0.1
    gradual = make_unstructured_pruner(net.program, configs=CONFIGS, ratio=0.6, scope=net.scope)
    assert type(gradual) is GMPUnstructuredPruner and gradual.target_ratio == 0.6
    made = make_unstructured_pruner(layer, ratio=0.3, prune_params_type="conv1x1_only")
    assert type(made) is dygraph_pruners.UnstructuredPruner and made.ratio == 0.3
    assert type(make_unstructured_pruner(layer, configs=CONFIGS)) is dygraph_pruners.GMPUnstructuredPruner
    with pytest.raises(ConfigError, match=r"mode = 'threshold' does not go with configs"):
        make_unstructured_pruner(layer, "threshold", CONFIGS)


def test_bad_input_is_one_sentence():
    net = mobile_net()
    with pytest.raises(ModelError, match=r"needs a legacy paddle.static.Program, not list; build it inside"):
        UnstructuredPruner([], "ratio")
    with pytest.raises(ConfigError, match=r"returned 'fc.x', which is no parameter or layer"):
        UnstructuredPruner(net.program, "ratio", scope=net.scope, skip_params_func=lambda p: ["fc.x"])
    with pytest.raises(ConfigError, match=r"All 14 parameters of the program are skipped"):
        names = [p.name for p in net.program.all_parameters()]
        UnstructuredPruner(net.program, "ratio", scope=net.scope, skip_params_func=lambda p: names)
    assert not any("_mask" in name for name in net.block.vars)
    empty = paddle.base.core.Scope()
    with pytest.raises(ModelError, match=r"'stem.w' has no value in the scope; run the startup program"):
        UnstructuredPruner(net.program, "ratio", scope=empty).step()
