"""Every call of static pruning and of the analysis of programs: PaddleSlim's demos and tutorials, as they write it."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import paddle
import pytest
from static_programs import Classifier, feed, momentum
from under_the_alias import under_the_alias  # noqa: F401  (a fixture)

from slimkit import legacy_ir

place = paddle.CPUPlace()


@pytest.fixture(autouse=True)
def _as_a_script(under_the_alias: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # noqa: F811
    """A folder, a scope and Paddle's old IR of its own, as the launcher gives a script."""
    monkeypatch.chdir(tmp_path)
    with legacy_ir(), paddle.static.scope_guard(paddle.static.Scope()):
        yield


def classifier() -> Classifier:
    """The scripts' train and test program, in the global scope."""
    return Classifier(momentum, scope=paddle.static.global_scope())


def evaluator(net: Classifier) -> Any:
    """A metric of a program that loses what its outputs lose."""
    (truth,) = net.run(net.test, net.out)

    def test(program: Any) -> float:
        (found,) = net.run(program, net.out)
        return float(np.mean(1 - np.abs(found - truth)))

    return test


def test_demo_prune_train_and_eval() -> None:
    """demo/prune/train.py: graph alone for evaluation, then both; save_model; eval.py's load_model; flops each time."""
    from paddleslim.analysis import flops
    from paddleslim.prune import Pruner, load_model, save_model

    net = classifier()
    params = [p.name for p in net.train.global_block().all_parameters() if p.name in ("conv1_weights", "conv3_weights")]
    base = flops(net.test)
    pruner = Pruner("l1_norm")
    pruned_val_program, _, _ = pruner.prune(
        net.test,
        paddle.static.global_scope(),
        params=params,
        ratios=[0.33] * len(params),
        place=place,
        only_graph=True,
    )
    pruned_program, _, _ = pruner.prune(
        net.train, paddle.static.global_scope(), params=params, ratios=[0.33] * len(params), place=place
    )
    assert flops(pruned_program) == flops(pruned_val_program) < 0.8 * base
    losses = [net.step(pruned_program) for _ in range(3)]
    assert losses[-1] < losses[0]
    (expected,) = net.run(pruned_val_program, net.out)
    save_model(net.executor, pruned_val_program, os.path.join("models", "0"))

    with paddle.static.scope_guard(paddle.static.Scope()):
        again = classifier()
        val_program = again.test
        load_model(again.executor, val_program, os.path.join("models", "0"))
        (found,) = again.run(val_program, again.out)
        assert flops(val_program) == flops(pruned_val_program)
    np.testing.assert_array_equal(found, expected)


def test_arguments_and_results_of_prune() -> None:
    """The tutorial's call with every argument; backups of parameters and shapes, as PaddleSlim returns them."""
    import paddleslim as slim

    net = classifier()
    before = net.values()
    pruner = slim.prune.Pruner(criterion="geometry_median", idx_selector="default_idx_selector")
    main_program, param_backup, param_shape_backup = pruner.prune(
        program=net.test,
        scope=paddle.static.global_scope(),
        params=["conv4_weights"],
        ratios=[0.5],
        place=place,
        lazy=False,
        only_graph=False,
        param_backup=True,
        param_shape_backup=True,
    )
    np.testing.assert_array_equal(param_backup["conv4_weights"], before["conv4_weights"])
    assert tuple(param_shape_backup["conv4_weights"]) == (8, 8, 3, 3)
    assert main_program.global_block().var("conv4_weights").shape == (4, 8, 3, 3)
    assert net.get("conv1_weights").shape[0] == 4  # they are added: they go together


def test_demo_sensitive_train() -> None:
    """demo/sensitive/train.py and the tutorial: two files of two processes, extended, merged, ratios, pruned."""
    import paddleslim as slim
    from paddleslim.prune import get_ratios_by_loss, load_sensitivities, merge_sensitive, sensitivity

    net = classifier()
    test = evaluator(net)
    val_program = net.test
    params: List[str] = ["conv3_weights", "conv5_weights"]
    before = net.values()
    sens_0 = sensitivity(
        val_program, place, params, test, sensitivities_file="sensitivities_0.data", pruned_ratios=[0.1, 0.2]
    )
    extended = slim.prune.sensitivity(
        val_program, place, params, test, sensitivities_file="sensitivities_0.data", pruned_ratios=[0.3]
    )
    assert list(sens_0) == params and [list(extended[name]) for name in params] == [[0.1, 0.2, 0.3]] * 2
    sensitivity(val_program, place, params, test, sensitivities_file="sensitivities_1.data", pruned_ratios=[0.5, 0.6])
    without_a_file = sensitivity(val_program, place, params[:1], test, pruned_ratios=[0.5])
    assert without_a_file.keys() == {params[0]}
    for name, value in net.values().items():
        np.testing.assert_array_equal(value, before[name])
    sens = merge_sensitive(["./sensitivities_0.data", "./sensitivities_1.data"])
    s_0, s_1 = load_sensitivities("sensitivities_0.data"), load_sensitivities("sensitivities_1.data")
    assert slim.prune.merge_sensitive([s_0, s_1]) == sens and list(sens[params[0]]) == [0.1, 0.2, 0.3, 0.5, 0.6]
    worst = max(max(points.values()) for points in sens.values())
    ratios: Dict[str, float] = get_ratios_by_loss(sens, worst / 2)
    assert ratios.keys() == set(params) and all(0 <= ratio <= 0.6 for ratio in ratios.values())
    assert max(ratios.values()) > 0.1
    pruned, _, _ = slim.prune.Pruner().prune(
        net.train, paddle.static.global_scope(), list(ratios), list(ratios.values()), place
    )
    assert slim.analysis.flops(pruned) < slim.analysis.flops(net.train)

    with open("theirs.data", "wb") as stream:  # PaddleSlim's format
        pickle.dump({name: dict(points) for name, points in s_0.items()}, stream)
    assert load_sensitivities("theirs.data") == s_0


def test_flops_and_model_size() -> None:
    """The analysis page of PaddleSlim's documents, and PaddleX's call on programs."""
    import paddleslim
    from paddleslim.analysis import flops, model_size

    net = classifier()
    total, params2flops = flops(net.test, detail=True)
    each = 8 * 8 * 8 * 9  # positions, filters, kernel
    assert params2flops["conv1_weights"] == 3 * each and params2flops["conv2_weights"] == 8 * each
    assert total == sum(params2flops.values()) == flops(net.test) == paddleslim.flops(net.test)
    assert flops(net.test, only_conv=False) > total
    parameters = list(net.test.global_block().all_parameters())
    assert model_size(net.test) == sum(int(np.prod(p.shape)) for p in parameters) == paddleslim.model_size(net.test)
    assert model_size(net.train) == model_size(net.test)  # not the optimizer's


def test_demo_unstructured_prune() -> None:
    """demo/unstructured_prune/train.py, both strategies: before minimize, no_grad_set, step, update_params."""
    from paddleslim.prune.unstructured_pruner import GMPUnstructuredPruner, UnstructuredPruner

    for strategy in ("gmp", "base"):
        with paddle.static.scope_guard(paddle.static.Scope()):
            net = Classifier(None, scope=paddle.static.global_scope())
            train_program, startup = net.train, paddle.static.Program()
            if strategy == "gmp":
                configs = {
                    "stable_iterations": 0, "pruning_iterations": 4, "tunning_iterations": 2, "resume_iteration": 0,
                    "pruning_steps": 2, "initial_ratio": 0.15,
                }  # fmt: skip
                pruner = GMPUnstructuredPruner(
                    train_program, ratio=0.55, prune_params_type=None, place=place, local_sparsity=True,
                    sparse_block=[1, 1], configs=configs,
                )  # fmt: skip
            else:
                pruner = UnstructuredPruner(
                    train_program, mode="ratio", ratio=0.55, threshold=1e-5, prune_params_type=None, place=place,
                    local_sparsity=False, sparse_block=[1, 1],
                )  # fmt: skip
            with paddle.static.program_guard(train_program, startup):
                loss = train_program.global_block().var(net.loss)
                momentum().minimize(loss, no_grad_set=pruner.no_grad_set)
            net.executor.run(startup, scope=net.scope)
            for _ in range(6):
                net.executor.run(train_program, feed=feed(), fetch_list=[net.loss])
                pruner.step()
            pruner.update_params()
            total = UnstructuredPruner.total_sparse(train_program)
            masked = [net.get(name) for name in pruner.masks]
            share = sum(int((value == 0).sum()) for value in masked) / sum(value.size for value in masked)
            assert share == pytest.approx(0.55, abs=0.01) and 0.5 < total < 0.56
            (found,) = net.run(net.test, net.out)
            assert np.isfinite(found).all()
