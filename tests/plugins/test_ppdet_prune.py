"""PaddleDetection's package prunes PicoDet and YOLOv3-MobileNetV3, alone and before quantization, and exports them."""

from __future__ import annotations

import importlib
import types
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import paddle
import pytest
from coco_data import make_coco
from comparing import assert_close
from paddle import nn
from ppdet_run import QUANT, Package, comparable, config_file, feed_of, imported, program_outputs

from slimkit.deploy import lite
from slimkit.ir import Model

SIDE = 64


@pytest.fixture(scope="module")
def data(tmp_path_factory: Any) -> Path:
    return make_coco(tmp_path_factory.mktemp("coco"), train=2, val=2, side=SIDE)


@pytest.fixture(scope="module")
def package(paddledet_package: Path) -> Iterator[Package]:
    with imported(paddledet_package) as found:
        yield found


@pytest.fixture(autouse=True)
def small_inputs(package: Package, monkeypatch: Any) -> None:
    """ppdet's pruners run a network on 640 x 640 pixels, whatever its config says; here on the config's."""
    small = {"ones": lambda shape, dtype: paddle.ones([SIDE if side == 640 else side for side in shape], dtype)}
    small["full"] = lambda shape, value, dtype: paddle.full(shape, SIDE if value == 640 else value, dtype)
    monkeypatch.setattr(importlib.import_module("ppdet.slim.prune"), "paddle", types.SimpleNamespace(**small))


@pytest.fixture
def made(package: Package, data: Path, tmp_path: Path, request: Any) -> Tuple[str, Path, List[str], int]:
    """A detector: its name, config, the names of convolutions to prune, and its number of parameters."""
    name = request.param
    config = config_file(tmp_path, name, data, SIDE)
    net = package.random(config, feed_of(data, SIDE, 2))
    pointwise = [
        layer.weight.name
        for layer in net.backbone.sublayers()
        if isinstance(layer, nn.Conv2D) and layer._groups == 1 and layer._kernel_size == [1, 1]
    ]
    return name, config, pointwise[2:12:2], sum(p.size for p in net.parameters())


def pruning(config: Path, kind: str, names: List[str], criterion: str) -> Dict[str, Any]:
    settings = {"criterion": criterion, "pruned_params": names, "pruned_ratios": [0.3] * len(names)}
    if kind == "PrunerQAT":
        settings.update(quant_config=QUANT, print_qat_model=False, print_prune_params=False)
    return {"slim": kind, kind: settings, "pretrain_weights": str(config.parent / "random.pdparams")}


BOTH = pytest.mark.parametrize("made", [pytest.param("yolov3", marks=pytest.mark.slow), "picodet"], indirect=True)


@BOTH
def test_pruner(package: Package, made: Any, data: Path):
    """Trained and exported with filters gone, in Paddle 3's format and in the one that Paddle-Lite reads."""
    name, config, names, parameters = made
    slim = pruning(config, "Pruner", names, "l1_norm" if name == "yolov3" else "fpgm")
    trainer = package.train(config, slim)
    trained = str(config.parent / "output" / f"{name}_pruner" / "model_final.pdparams")
    package.export(config, config.parent / "inf", slim, weights=trained)
    prefix = config.parent / "inf" / f"{name}_pruner" / "model"
    assert prefix.with_suffix(".json").is_file() and prefix.with_suffix(".pdmodel").is_file()
    assert sum(p.size for p in trainer.model.parameters()) < parameters
    feed = feed_of(data, SIDE)
    trainer.model.eval()
    found = program_outputs(prefix, feed)
    assert_close(found, comparable(trainer.model, feed))
    whole = Model.load(prefix.with_suffix(".json"))
    assert_close(whole.run({key: feed[key] for key in whole.feeds}), found[2:])
    if not lite.ARM.available():
        assert lite.ARM.export(prefix, prefix.parent / "arm").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("made", ["yolov3", "picodet"], indirect=True)
def test_pruner_then_qat(package: Package, made: Any, data: Path):
    """PaddleDetection's issue 6748: exporting such a model failed."""
    name, config, names, _ = made
    slim = pruning(config, "PrunerQAT", names, "fpgm")
    trainer = package.train(config, slim)
    trained = str(config.parent / "output" / f"{name}_prunerqat" / "model_final.pdparams")
    package.export(config, config.parent / "inf", slim, weights=trained)
    trainer.model.eval()
    feed = feed_of(data, SIDE)
    found = program_outputs(config.parent / "inf" / f"{name}_prunerqat" / "model", feed)
    assert_close(found, comparable(trainer.model, feed))


@pytest.mark.parametrize("made", ["picodet"], indirect=True)
def test_unstructured_pruner(package: Package, made: Any):
    """The trainer's loop with ``UnstructuredPruner``: what is saved has three quarters of zeros in 1x1 convolutions."""
    config = made[1]
    settings = {"stable_epochs": 0, "pruning_epochs": 2, "tunning_epochs": 1, "pruning_steps": 2, "ratio": 0.75,
                "initial_ratio": 0.15, "prune_params_type": "conv1x1_only"}  # fmt: skip
    trainer = package.train(config, {"slim": "UnstructuredPruner", "UnstructuredPruner": settings}, epoch=3,
                            pretrain_weights=str(config.parent / "random.pdparams"))  # fmt: skip
    points = [v.numpy() for v in trainer.model.parameters() if v.ndim == 4 and v.shape[2:] == [1, 1]]
    assert points and all(abs((array == 0).sum() - 0.75 * array.size) <= 1 for array in points)
