"""The calls as PaddleOCR, PaddleClas, PaddleSeg and PaddleDetection make them, on slimkit's own names."""

from __future__ import annotations

import importlib
import sys
import types
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from detectors import build, import_ppdet
from paddle import nn
from paddle.vision import models
from small_layers import Detector, enliven

import slimkit.analysis
import slimkit.dygraph
from slimkit.prune.sensitivity import Sensitivities


def paddle_flops(net: nn.Layer, shape: list, monkeypatch: Any) -> int:
    """``paddle.flops``, whose last step numpy 2.4 refuses on any network."""
    module = importlib.import_module("paddle.hapi.dynamic_flops")
    monkeypatch.setattr(module, "int", lambda value: int(np.asarray(value).item()), raising=False)
    return int(paddle.flops(net, shape))


def test_paddleocr(tmp_path: Path, monkeypatch: Any) -> None:
    """deploy/slim/prune/sensitivity_anal.py: sensitivities, and 10% of whatever is not transposed or linear."""
    model = enliven(Detector())
    x = paddle.randn([1, 3, 32, 32])
    expected = model(x)["maps"]
    before = paddle_flops(model, [1, 3, 32, 32], monkeypatch)
    pruner = slimkit.dygraph.FPGMFilterPruner(model, [1, 3, 32, 32])

    def eval_fn() -> float:
        model.eval()
        metric = 1 - float(((model(x)["maps"] - expected) ** 2).mean())
        model.train()
        return metric

    sen_file = str(tmp_path / "sen.pickle")
    found = pruner.sensitive(
        eval_func=eval_fn, sen_file=sen_file, skip_vars=["conv2d_57.w_0", "conv2d_transpose_2.w_0"]
    )
    assert len(found) >= 3 and Sensitivities.load(sen_file).as_dict() == found
    assert not any("transpose" in name for name in found)
    ratios = pruner._get_ratios_by_loss(found, loss=0.02)
    plan = pruner.prune_vars(ratios, [0])
    assert plan.pruned_flops > 0 and paddle_flops(model, [1, 3, 32, 32], monkeypatch) < before
    plan.restore(model)

    params = {}
    for param in model.parameters():
        if "transpose" not in param.name and "linear" not in param.name:
            params[param.name] = 0.1
    with pytest.warns(UserWarning, match="were not pruned"):
        plan = pruner.prune_vars(params, [0])
    assert 0.05 < plan.pruned_flops < 0.35 and paddle_flops(model, [1, 3, 32, 32], monkeypatch) < before
    model.train()
    model(x)["maps"].mean().backward()


def test_paddleclas() -> None:
    """ppcls/arch/slim/prune.py: the model holds its pruner, every convolution by one ratio, back to train mode."""
    model = models.mobilenet_v1(scale=0.25)
    shape = [1, 3, 32, 32]
    flops = slimkit.analysis.dygraph_flops(model, shape)
    model.pruner = slimkit.dygraph.L1NormFilterPruner(model, shape)
    model.eval()
    params = []
    for sublayer in model.sublayers():
        for param in sublayer.parameters(include_sublayers=False):
            if isinstance(sublayer, nn.Conv2D):
                params.append(param.name)
    plan = model.pruner.prune_vars(dict.fromkeys(params, 0.3), [0])
    left = slimkit.analysis.dygraph_flops(model, shape)
    assert plan.pruned_flops == pytest.approx(1 - left / flops, abs=0.05) and plan.pruned_flops > 0.4
    model.train()
    model(paddle.randn([2, 3, 32, 32])).mean().backward()
    paddle.summary(model, (1, 3, 32, 32))


def test_paddleseg(tmp_path: Path) -> None:
    """slim/prune/prune.py: an optimizer that exists already, sensitivities, a fraction of FLOPs, training, export."""
    first, second = nn.Conv2D(3, 16, 3, padding=1), nn.Conv2D(16, 16, 3, padding=1)
    body = [first, nn.BatchNorm2D(16), nn.ReLU(), second, nn.BatchNorm2D(16), nn.ReLU()]
    net = enliven(nn.Sequential(*body, nn.Conv2D(16, 4, 1)))
    optimizer = paddle.optimizer.Momentum(0.01, parameters=net.parameters())
    x = paddle.randn([1, 3, 16, 16])
    expected = net(x)

    def step() -> None:
        net.train()
        net(x).mean().backward()
        optimizer.step()
        optimizer.clear_grad()
        net.eval()

    step()
    pruner = slimkit.dygraph.L1NormFilterPruner(net, [1, 3, 16, 16], opt=optimizer)
    sen_file = str(tmp_path / "sen.pickle")
    pruner.sensitive(eval_func=lambda: 2 - float(((net(x) - expected) ** 2).mean()), sen_file=sen_file)
    plan = pruner.sensitive_prune(0.4)
    assert 0.4 <= plan.pruned_flops < 0.5
    step()
    net.forward = paddle.jit.to_static(net.forward, input_spec=[paddle.static.InputSpec([None, 3, None, None])])
    paddle.jit.save(net, str(tmp_path / "model"))
    np.testing.assert_allclose(paddle.jit.load(str(tmp_path / "model"))(x).numpy(), net(x).numpy(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "criterion"), [("picodet", "fpgm"), ("yolov3", "l1_norm")])
def test_paddledetection(paddledet_package: Path, monkeypatch: Any, name: str, criterion: str) -> None:
    """ppdet/slim/prune.py itself, with ``paddleslim`` standing for slimkit."""
    alias = types.ModuleType("paddleslim")
    alias.dygraph, alias.analysis = slimkit.dygraph, slimkit.analysis  # type: ignore[attr-defined]
    for key, module in (("", alias), (".dygraph", slimkit.dygraph), (".analysis", slimkit.analysis)):
        monkeypatch.setitem(sys.modules, "paddleslim" + key, module)
    for workspace in import_ppdet(paddledet_package):
        prune = importlib.import_module("ppdet.slim.prune")
        net = enliven(build(workspace, name))
        convolutions = [part.weight for part in net.sublayers() if isinstance(part, nn.Conv2D)]
        sizes = [weight.shape[0] for weight in convolutions]
        names = [weight.name for weight in convolutions[:40:3]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prune.Pruner(criterion, names, [0.3] * len(names))(net)
        assert sum(weight.shape[0] < size for weight, size in zip(convolutions, sizes)) >= len(names)
        side = [320.0, 320.0]
        inputs = {"image": paddle.randn([1, 3, 320, 320]), "im_shape": paddle.to_tensor([side]),
                  "scale_factor": paddle.ones([1, 2])}  # fmt: skip
        found = net(inputs)
        assert found["bbox"].shape[1] == 6 and np.isfinite(found["bbox"].numpy()).all()
