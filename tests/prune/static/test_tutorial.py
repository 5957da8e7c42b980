"""PaddleSlim's tutorials, typed as they stand there; what Paddle 3 itself needs is ``slimkit.legacy_ir()``.

docs/zh_cn/quick_start/static/pruning_tutorial.md, docs/zh_cn/api_cn/static/prune/prune_api.rst, demo/prune/train.py and
demo/sensitive/train.py of PaddleSlim 2.6, whose names ``fluid`` and ``slim.models`` are gone from Paddle or were of the
tutorial alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, List, Tuple

import numpy as np
import paddle
import pytest
import static_networks as networks

import slimkit as slim
from slimkit.analysis import flops
from slimkit.prune import Pruner, get_ratios_by_loss, load_model, merge_sensitive, save_model, sensitivity

place = paddle.CPUPlace()


def image_classification(image_shape: List[int], class_dim: int) -> Tuple[Any, ...]:
    """What ``slim.models.image_classification("MobileNet", ...)`` gave; at a quarter of the width."""
    train_program, startup_program = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(train_program, startup_program):
        image = paddle.static.data(name="image", shape=[None, *image_shape], dtype="float32")
        label = paddle.static.data(name="label", shape=[None, 1], dtype="int64")
        out = networks.mobile_net(image, 0.25, class_dim)
        cost = paddle.nn.functional.cross_entropy(input=out, label=label)
        avg_cost = paddle.mean(x=cost)
        acc_top1 = paddle.metric.accuracy(input=out, label=label, k=1)
        acc_top5 = paddle.metric.accuracy(input=out, label=label, k=5)
        val_program = train_program.clone(for_test=True)
        opt = paddle.optimizer.Momentum(learning_rate=0.01, momentum=0.9)
        opt.minimize(avg_cost)
    exe = paddle.static.Executor(place)
    exe.run(startup_program)
    return exe, train_program, val_program, (image, label), (acc_top1.name, acc_top5.name, avg_cost.name, out.name)


def reader(batches: int = 2) -> Any:
    random = np.random.RandomState(0)
    for _ in range(batches):
        label = random.randint(0, 10, (16, 1)).astype("int64")
        image = random.rand(16, 1, 28, 28).astype("float32") * 0.1 + label.reshape(-1, 1, 1, 1) / 10
        yield {"image": image.astype("float32"), "label": label}


@pytest.fixture(autouse=True)
def _static(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)
    paddle.seed(1)
    with slim.legacy_ir(), paddle.static.scope_guard(paddle.static.Scope()), paddle.utils.unique_name.guard():
        yield


def test_pruning_tutorial() -> None:
    exe, train_program, _val_program, _inputs, outputs = image_classification([1, 28, 28], 10)
    FLOPs = slim.analysis.flops(train_program)
    pruner = slim.prune.Pruner()
    pruned_program, _, _ = pruner.prune(
        train_program,
        paddle.static.global_scope(),
        params=["conv2_1_sep_weights", "conv2_2_sep_weights"],
        ratios=[0.33] * 2,
        place=place,
    )
    # 16 and 32 filters become 11 and 21: 1x1 at 14x14 and 7x7, the depthwise ones behind and the next 1x1.
    removed = 14 * 14 * 8 * 5 + 7 * 7 * (9 * 5 + 16 * 32 - 11 * 21 + 9 * 11 + 32 * 11)
    assert slim.analysis.flops(pruned_program) == FLOPs - removed
    losses = []
    for data in list(reader(1)) * 16:
        _acc1, _acc5, loss = exe.run(pruned_program, feed=data, fetch_list=list(outputs[:3]))
        losses.append(float(loss))
    assert np.isfinite(losses).all() and losses[-1] < losses[0]


def test_demo_prune(tmp_path: Path) -> None:
    exe, train_program, val_program, _, (acc_top1, acc_top5, avg_cost, out) = image_classification([1, 28, 28], 10)
    params = [p.name for p in train_program.global_block().all_parameters() if "_sep_weights" in p.name]
    base = flops(train_program)
    pruner = Pruner("l1_norm")
    pruned_val_program, _, _ = pruner.prune(
        val_program, paddle.static.global_scope(), params=params, ratios=[0.5] * len(params), place=place,
        only_graph=True,
    )  # fmt: skip
    pruned_program, _, _ = pruner.prune(
        train_program, paddle.static.global_scope(), params=params, ratios=[0.5] * len(params), place=place
    )
    assert flops(pruned_program) == flops(pruned_val_program) < 0.4 * base
    for data in reader():
        exe.run(pruned_program, feed=data, fetch_list=[avg_cost, acc_top1, acc_top5])
    save_model(exe, pruned_val_program, "models/0")
    (data,) = reader(1)
    (expected,) = exe.run(pruned_val_program, feed=data, fetch_list=[out])

    # demo/prune/eval.py, another process
    with paddle.static.scope_guard(paddle.static.Scope()), paddle.utils.unique_name.guard():
        exe, _, val_program, _, (*_, out) = image_classification([1, 28, 28], 10)
        load_model(exe, val_program, "models/0")
        (found,) = exe.run(val_program, feed=data, fetch_list=[out])
    np.testing.assert_array_equal(found, expected)

    # paddle.static.save_inference_model of the pruned program, to any exporter
    block = pruned_val_program.global_block()
    paddle.static.save_inference_model(
        "infer_models/0", [block.var("image")], [block.var(out)], exe, program=pruned_val_program
    )
    model = slim.Model.load("infer_models/0")
    assert model.params["conv2_1_sep_weights"].shape == (8, 8, 1, 1)

    # an inference program, with its feed and fetch ops
    with paddle.static.scope_guard(paddle.static.Scope()):
        program, (feed,), fetches = paddle.static.load_inference_model("infer_models/0", exe)
        (whole,) = exe.run(program, feed={feed: data["image"]}, fetch_list=fetches)
        pruner = Pruner("geometry_median")
        program, _, _ = pruner.prune(program, paddle.static.global_scope(), ["conv5_1_sep_weights"], [0.25], place)
        (found,) = exe.run(program, feed={feed: data["image"]}, fetch_list=fetches)
        assert program.global_block().var("conv5_1_sep_weights").shape == (48, 64, 1, 1)
    assert found.shape == whole.shape and np.isfinite(found).all()


def test_demo_sensitive() -> None:
    exe, _, val_program, _, (_, _, avg_cost, _) = image_classification([1, 28, 28], 10)

    def test(program: Any) -> float:
        return -float(np.mean([exe.run(program, feed=data, fetch_list=[avg_cost])[0] for data in reader(1)])) + 10

    params = [
        param.name for param in val_program.global_block().all_parameters()
        if "weights" in param.name and ("conv2" in param.name or "fc7" in param.name)
    ]  # fmt: skip
    with pytest.warns(UserWarning, match="'fc7_weights' cannot be pruned"):
        sensitivity(
            val_program, place, params, test, sensitivities_file="sensitivities_0.data", pruned_ratios=[0.2, 0.4]
        )
        sensitivity(
            val_program, place, params, test, sensitivities_file="sensitivities_1.data", pruned_ratios=[0.6, 0.8]
        )
    sens = merge_sensitive(["./sensitivities_0.data", "./sensitivities_1.data"])
    assert all(sorted(points) == [0.2, 0.4, 0.6, 0.8] for points in sens.values())
    ratios = get_ratios_by_loss(sens, 0.01)
    assert set(ratios) == {n + "_weights" for n in ("conv2_1_dw", "conv2_1_sep", "conv2_2_dw", "conv2_2_sep")}
    pruner = Pruner()
    pruner.prune(val_program, paddle.static.global_scope(), list(ratios), list(ratios.values()))
    assert pruner.plan is not None


def test_prune_api_rst() -> None:
    main_program = paddle.static.Program()
    startup_program = paddle.static.Program()
    with paddle.static.program_guard(main_program, startup_program):
        input = paddle.static.data(name="image", shape=[None, 3, 16, 16])
        networks.residual(input)
    exe = paddle.static.Executor(place)
    scope = paddle.static.Scope()
    exe.run(startup_program, scope=scope)
    pruner = Pruner(criterion="bn_scale", idx_selector="optimal_threshold")
    with pytest.warns(UserWarning, match="'conv4_weights' stays whole"):
        main_program, _, _ = pruner.prune(
            main_program,
            scope,
            params=["conv4_weights"],
            ratios=[0.5],
            place=place,
            lazy=False,
            only_graph=False,
            param_backup=False,
            param_shape_backup=False,
        )
    shapes = {p.name: p.shape for p in main_program.global_block().all_parameters() if "weights" in p.name}
    # all scales are 1, so none is below the threshold: PaddleSlim's rule
    assert shapes["conv4_weights"] == (8, 8, 3, 3)
    main_program, _, _ = Pruner().prune(main_program, scope, params=["conv4_weights"], ratios=[0.5], place=place)
    shapes = {p.name: p.shape for p in main_program.global_block().all_parameters() if "weights" in p.name}
    assert shapes == {
        "conv1_weights": (4, 3, 3, 3), "conv2_weights": (4, 4, 3, 3), "conv3_weights": (8, 4, 3, 3),
        "conv4_weights": (4, 8, 3, 3), "conv5_weights": (8, 4, 3, 3), "conv6_weights": (8, 8, 3, 3),
    }  # fmt: skip
