"""Every pruning call of PaddleOCR, PaddleClas, PaddleDetection, PaddleSeg and PaddleX on layers, as they write it."""

from __future__ import annotations

import copy
import importlib
import os
from functools import partial
from pathlib import Path
from typing import Any, Dict, List

import numpy as np
import paddle
import pytest
from client_networks import Classifier, Detector, Segmenter, TextDetector, enliven
from paddle import nn
from paddle.utils import try_import
from under_the_alias import under_the_alias  # noqa: F401  (a fixture)

from slimkit import Model

pytestmark = pytest.mark.usefixtures("under_the_alias")
SHAPE = [1, 3, 32, 32]


@pytest.fixture(autouse=True)
def _quiet_flops(monkeypatch: pytest.MonkeyPatch) -> None:
    """``paddle.flops``, whose last step numpy 2.4 refuses on any network."""
    module = importlib.import_module("paddle.hapi.dynamic_flops")
    monkeypatch.setattr(module, "int", lambda value: int(np.asarray(value).item()), raising=False)
    paddle.seed(0)


def names_of(net: nn.Layer) -> List[str]:
    return [param.name for param in net.parameters()]


def train_step(net: nn.Layer, loss: Any) -> None:
    """One step; every parameter has a gradient of its shape, and most move."""
    optimizer = paddle.optimizer.Momentum(1e-3, 0.9, parameters=net.parameters())
    trained = [(value, value.numpy().copy()) for value in net.parameters() if not value.stop_gradient]
    net.train()
    loss(net).backward()
    assert all(value.grad.shape == value.shape for value, _ in trained)
    optimizer.step()
    optimizer.clear_grad()
    assert np.mean([(value.numpy() != before).any() for value, before in trained]) > 0.7
    net.eval()


# ---------------------------------------------------------------------------------------- PaddleOCR


def test_paddleocr_sensitivity_anal_and_export_prune_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """deploy/slim/prune/sensitivity_anal.py, then export_prune_model.py, which builds the network anew."""
    monkeypatch.chdir(tmp_path)
    x = paddle.randn(SHAPE)
    with paddle.utils.unique_name.guard():
        model = enliven(TextDetector())
    model.eval()
    expected = model(x)["maps"]

    def eval_fn(model: nn.Layer) -> float:
        model.eval()
        metric = {"hmean": 2 - float(((model(x)["maps"] - expected) ** 2).mean())}
        model.train()
        return metric["hmean"]

    flops = paddle.flops(model, SHAPE)
    from paddleslim.dygraph import FPGMFilterPruner
    from paddleslim.prune import load_sensitivities

    model.train()
    pruner = FPGMFilterPruner(model, SHAPE)
    names = names_of(model)
    params_sensitive = pruner.sensitive(
        eval_func=partial(eval_fn, model),
        sen_file="./sen.pickle",
        skip_vars=["conv2d_1.w_0", "conv2d_transpose_2.w_0", "conv2d_transpose_3.w_0"],
    )
    assert params_sensitive and not {"conv2d_1.w_0"} & set(params_sensitive)
    assert load_sensitivities("./sen.pickle") == params_sensitive
    params_sensitive = pruner._get_ratios_by_loss(params_sensitive, loss=0.02)
    for key in params_sensitive.keys():
        assert 0 <= params_sensitive[key] < 1
    plan = pruner.prune_vars(params_sensitive, [0])
    assert 0 < plan.pruned_flops < 1 and paddle.flops(model, SHAPE) < flops
    assert names_of(model) == names
    train_step(model, lambda net: ((net(x)["maps"] - 0.5) ** 2).mean())
    model.eval()
    paddle.save(model.state_dict(), "best_accuracy.pdparams")

    # export_prune_model.py: the same network built anew, pruned from the file, then the checkpoint
    with paddle.utils.unique_name.guard():
        again = TextDetector()
    again.train()
    pruner = FPGMFilterPruner(again, SHAPE)
    params_sensitive = pruner.sensitive(
        eval_func=lambda: pytest.fail("what is in the file is not measured again"),
        sen_file="./sen.pickle",
        skip_vars=["conv2d_1.w_0", "conv2d_transpose_2.w_0", "conv2d_transpose_3.w_0"],
    )
    params_sensitive = pruner._get_ratios_by_loss(params_sensitive, loss=0.02)
    pruner.prune_vars(params_sensitive, [0])
    again.set_state_dict(paddle.load("best_accuracy.pdparams"))
    again.eval()
    np.testing.assert_array_equal(again(x)["maps"].numpy(), model(x)["maps"].numpy())

    from paddle.jit import to_static

    infer_shape = [3, -1, -1]
    again = to_static(again, input_spec=[paddle.static.InputSpec(shape=[None, *infer_shape], dtype="float32")])
    paddle.jit.save(again, "./inference")
    (found,) = Model.load("./inference").run([x.numpy()])
    np.testing.assert_allclose(found, model(x)["maps"].numpy(), atol=1e-5)


def test_paddleocr_fixed_ratio() -> None:
    """sensitivity_anal.py without analysis: a tenth of whatever is not transposed or linear, biases and norms too."""
    from paddleslim.dygraph import FPGMFilterPruner

    model = enliven(TextDetector())
    before = paddle.flops(model, SHAPE)
    model.train()
    pruner = FPGMFilterPruner(model, SHAPE)
    params_sensitive = {}
    for param in model.parameters():
        if "transpose" not in param.name and "linear" not in param.name:
            params_sensitive[param.name] = 0.1
    plan = pruner.prune_vars(params_sensitive, [0])
    after = paddle.flops(model, SHAPE)
    assert 0.03 < plan.pruned_flops < 0.35 and after < 0.97 * before
    assert {"conv2d", "batch_norm2d"} <= {name.rsplit("_", 2)[0] for name in params_sensitive}  # asked for all
    train_step(model, lambda net: ((net(paddle.randn([2, 3, 32, 32]))["maps"] - 0.5) ** 2).mean())
    assert model(paddle.randn([1, 3, 48, 64]))["maps"].shape == [1, 1, 48, 64]


# --------------------------------------------------------------------------------------- PaddleClas


@pytest.mark.parametrize("name", ["fpgm", "l1_norm"])
def test_paddleclas_prune_model(name: str) -> None:
    """ppcls/arch/slim/prune.py: the model holds its pruner; deepcopy as engine.py's export does."""
    import paddleslim

    model = enliven(Classifier())
    config: Dict[str, Any] = {
        "Slim": {"prune": {"name": name, "pruned_ratio": 0.3}}, "Global": {"image_shape": [3, 32, 32]}
    }  # fmt: skip
    names = names_of(model)
    if name == "fpgm":
        model.pruner = paddleslim.dygraph.FPGMFilterPruner(model, [1] + config["Global"]["image_shape"])
    else:
        model.pruner = paddleslim.dygraph.L1NormFilterPruner(model, [1] + config["Global"]["image_shape"])
    from paddleslim.analysis import dygraph_flops as flops

    before = flops(model, [1] + config["Global"]["image_shape"]) / 1e9
    model.eval()
    params = []
    for sublayer in model.sublayers():
        for param in sublayer.parameters(include_sublayers=False):
            if isinstance(sublayer, paddle.nn.Conv2D):
                params.append(param.name)
    ratios = {}
    for param in params:
        ratios[param] = config["Slim"]["prune"]["pruned_ratio"]
    plan = model.pruner.prune_vars(ratios, [0])
    after = flops(model, [1] + config["Global"]["image_shape"]) / 1e9
    assert f"{plan.pruned_flops}" and plan.pruned_flops == pytest.approx(1 - after / before, abs=0.03)
    assert 0.3 < plan.pruned_flops < 0.6 and names_of(model) == names
    for param in model.parameters():
        if "conv2d" in param.name:
            assert param.shape[0] > 0
    train_step(model, lambda net: net(paddle.randn([4, 3, 32, 32])).square().mean())
    x = paddle.randn(SHAPE)
    copied = copy.deepcopy(model)
    np.testing.assert_array_equal(copied(x).numpy(), model(x).numpy())
    paddle.summary(model, (1, 3, 32, 32))
    assert paddle.flops(model, SHAPE) > 0


# ---------------------------------------------------------------------------------- PaddleDetection


@pytest.mark.parametrize("criterion", ["fpgm", "l1_norm"])
def test_paddledetection_pruner(criterion: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """ppdet/slim/prune.py: a list of one dict of tensors, of which forward reads two."""
    model = enliven(Detector())
    model.eval()
    paddleslim = try_import("paddleslim")
    from paddleslim.analysis import dygraph_flops as flops

    input_spec = [{
        "image": paddle.ones(shape=[1, 3, 64, 64], dtype="float32"),
        "im_shape": paddle.full([1, 2], 64, dtype="float32"),
        "scale_factor": paddle.ones(shape=[1, 2], dtype="float32"),
    }]  # fmt: skip
    ori_flops = flops(model, input_spec) / (1000**3)
    assert ori_flops > 0
    if criterion == "fpgm":
        pruner = paddleslim.dygraph.FPGMFilterPruner(model, input_spec)
    elif criterion == "l1_norm":
        pruner = paddleslim.dygraph.L1NormFilterPruner(model, input_spec)
    names, shapes = names_of(model), {p.name: p.shape[0] for p in model.parameters()}
    pruned_params = [model.backbone[0].conv.weight.name, model.neck.conv.weight.name]
    pruned_ratios = [float(n) for n in ["0.25", 0.5]]
    ratios = {}
    for i, param in enumerate(pruned_params):
        ratios[param] = pruned_ratios[i]
    pruner.prune_vars(ratios, [0])
    pruned_flops = flops(model, input_spec) / (1000**3)
    assert 0.1 < (ori_flops - pruned_flops) / ori_flops < 0.6
    sizes = {p.name: p.shape[0] for p in model.parameters()}
    assert [sizes[n] / shapes[n] for n in pruned_params] == [0.75, 0.5] and names_of(model) == names
    data = {**input_spec[0], "gt": paddle.ones([1, 5, 16, 16])}
    train_step(model, lambda net: net(data)["loss"])
    assert model(input_spec[0])["bbox"].shape == [1, 256, 4]


# ---------------------------------------------------------------------------------------- PaddleSeg


def test_paddleseg_prune(tmp_path: Path) -> None:
    """deploy/slim/prune/prune.py: sensitivities, a fraction of FLOPs, retraining, export of a wrapped forward."""
    from paddleslim.analysis import dygraph_flops
    from paddleslim.dygraph import L1NormFilterPruner

    net = enliven(Segmenter())
    images = paddle.randn([2, 3, 32, 32])
    net.eval()
    truth = net(images)[0]

    def eval_fn(net: nn.Layer, eval_dataset: Any, num_workers: int) -> float:
        net.eval()
        return 2 - float(((net(eval_dataset)[0] - truth) ** 2).mean())

    sample_shape = [1, *images[0].shape]
    sen_file = os.path.join(str(tmp_path), "sen.pickle")
    pruner = L1NormFilterPruner(net, sample_shape)
    pruner.sensitive(eval_func=partial(eval_fn, net, images, 0), sen_file=sen_file)
    assert os.path.getsize(sen_file) > 0
    flops = dygraph_flops(net, sample_shape)
    skips = []
    for param in net.parameters():
        if param.shape[0] <= 8:
            skips.append(param.name)
    assert skips  # the last convolution's
    pruner.sensitive_prune(0.3, skip_vars=skips)
    pruned = dygraph_flops(net, sample_shape)
    assert 0.25 < 1 - pruned / flops < 0.5
    train_step(net, lambda net: (net(images)[0] ** 2).mean())

    def export_model(net: nn.Layer, save_dir: str) -> None:
        net.forward = paddle.jit.to_static(net.forward)
        input_shape = sample_shape
        input_var = paddle.ones(input_shape)
        net(input_var)
        save_path = os.path.join(save_dir, "model")
        paddle.jit.save(net, save_path, input_spec=[input_var])

    expected = net(images[:1])[0].numpy()
    export_model(net, str(tmp_path))
    (found,) = Model.load(str(tmp_path / "model")).run([images[:1].numpy()])
    np.testing.assert_allclose(found, expected, atol=1e-5)


# ------------------------------------------------------------------------------------------ PaddleX


def test_paddlex_prune(tmp_path: Path) -> None:
    """paddlex/cv/models/base.py and utils/slim.py: names by attributes, ratios kept for the pruned model's loading."""
    import paddleslim
    from paddleslim import FPGMFilterPruner, L1NormFilterPruner
    from paddleslim.analysis import flops

    FILTER_DIM = paddleslim.dygraph.prune.filter_pruner.FILTER_DIM
    assert FPGMFilterPruner is paddleslim.dygraph.FPGMFilterPruner

    def sensitive_prune(pruner: Any, pruned_flops: float, skip_vars: List[str] = [], align: Any = None) -> Any:  # noqa: B006
        for layer in pruner.model.sublayers():
            if isinstance(layer, paddle.nn.layer.conv.Conv2D) and layer._groups > 1:
                for param in layer.parameters(include_sublayers=False):
                    skip_vars.append(param.name)
        pruner.restore()
        ratios, pruned_flops = pruner.get_ratios_by_sensitivity(
            pruned_flops, align=align, dims=FILTER_DIM, skip_vars=skip_vars
        )
        pruner.plan = pruner.prune_vars(ratios, FILTER_DIM)
        pruner.plan._pruned_flops = pruned_flops
        return pruner.plan, ratios

    x = paddle.randn([4, 3, 32, 32])
    with paddle.utils.unique_name.guard():
        net = enliven(Classifier())
    net.eval()
    truth = net(x)
    net.train()
    pruner = L1NormFilterPruner(net, inputs=SHAPE)

    def metric() -> float:
        net.eval()
        return 2 - float(((net(x) - truth) ** 2).mean())

    pruner.sensitive(eval_func=metric, sen_file=str(tmp_path / "model.sensi.data"))
    pre_pruning_flops = flops(net, pruner.inputs)
    plan, pruning_ratios = sensitive_prune(pruner, 0.2)
    post_pruning_flops = flops(net, pruner.inputs)
    assert 0.2 <= plan.pruned_flops == pytest.approx(1 - post_pruning_flops / pre_pruning_flops, abs=0.02)
    train_step(net, lambda net: net(x).square().mean())
    paddle.save(net.state_dict(), str(tmp_path / "model.pdparams"))

    # paddlex.load_model
    pruning_info = {
        "pruner": pruner.__class__.__name__, "pruning_ratios": pruning_ratios, "pruner_inputs": pruner.inputs
    }  # fmt: skip
    with paddle.utils.unique_name.guard():
        loaded = Classifier()
    loaded.pruner = getattr(paddleslim, pruning_info["pruner"])(loaded, inputs=pruning_info["pruner_inputs"])
    loaded.pruner.prune_vars(
        ratios=pruning_info["pruning_ratios"], axis=paddleslim.dygraph.prune.filter_pruner.FILTER_DIM
    )
    loaded.set_state_dict(paddle.load(str(tmp_path / "model.pdparams")))
    loaded.eval()
    np.testing.assert_array_equal(loaded(x).numpy(), net(x).numpy())
