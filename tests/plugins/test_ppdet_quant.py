"""PaddleDetection's package quantizes YOLOv3-MobileNetV3 and PicoDet, trained and after training, and deploys them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterator, List

import numpy as np
import paddle
import pytest
from coco_data import make_coco
from comparing import assert_close
from ppdet_run import QUANT, Package, comparable, config_file, feed_of, imported, program_outputs

from slimkit.cli import main
from slimkit.deploy import lite, paddle_inference
from slimkit.deploy.inspect import inspect
from slimkit.ir import Model

SIDE = 64
#: Convolutions that are quantized: all but YOLOv3's three output layers, which ppdet marks ``skip_quant``.
LAYERS = {"yolov3": 82, "picodet": 98}
HIST = {"activation_quantizer": "HistQuantizer", "upsample_bins": 127, "hist_percent": 0.999}


@pytest.fixture(scope="module")
def data(tmp_path_factory: Any) -> Path:
    return make_coco(tmp_path_factory.mktemp("coco"), train=4, val=4, side=SIDE)


@pytest.fixture(scope="module")
def package(paddledet_package: Path) -> Iterator[Package]:
    with imported(paddledet_package) as found:
        yield found


@pytest.fixture(scope="module")
def configs(package: Package, data: Path, tmp_path_factory: Any) -> Dict[str, Path]:
    """Name -> its config; ``random.pdparams`` is beside it."""
    found = {}
    for name in LAYERS:
        found[name] = config_file(tmp_path_factory.mktemp(name), name, data, SIDE)
        package.random(found[name], feed_of(data, SIDE, 4))
    return found


def check_deployed(prefix: Path, feed: Dict[str, np.ndarray], layers: int) -> None:
    """``slimkit export``: all quantized convolutions run in int8 on Paddle Inference, and opt takes the model."""
    out = prefix.parent / "deployed"
    with_lite = lite.ARM.available() is None
    assert main(["export", str(prefix.parent), str(out), "--to", "paddle,lite-arm" if with_lite else "paddle"]) == 0
    deployed = out / "paddle" / "model"
    expected = Model.load(prefix).run(given(prefix, feed))
    with paddle_inference.open_session() as session:
        for mode in ("plain", "int8"):
            paddle_inference.load(session, mode, deployed, mode)
            close(session.run(mode, given(prefix, feed)), expected)
    assert paddle_inference.executed_precision(deployed, given(prefix, feed))["int8"] == layers
    if with_lite:
        sizes = [sum(file.stat().st_size for file in out.rglob(ending)) for ending in ("*.nb", "*.pdiparams")]
        assert 0 < sizes[0] < 1.3 * sizes[1]


def given(prefix: Path, feed: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
    return {name: feed[name] for name in Model.load(prefix).feeds}


def close(found: List[np.ndarray], expected: List[np.ndarray]) -> None:
    """Which of nearly equal boxes suppression keeps may differ; the scores of those kept, in order, do not."""
    scores, wanted = (np.sort(boxes[:, 1])[::-1] for boxes in (found[0], expected[0]))
    assert found[1].sum() == len(scores)
    count = min(len(scores), len(wanted))
    assert count > 0.9 * max(len(scores), len(wanted))
    assert np.abs(scores[:count] - wanted[:count]).mean() < 0.05


@pytest.mark.parametrize("name", LAYERS)
def test_qat_with_pact(package: Package, configs: Dict[str, Path], data: Path, name: str):
    """tools/train.py and tools/export_model.py with --slim_config: the export is the trained network, bit for bit."""
    config, feed = configs[name], feed_of(data, SIDE)
    settings = {"quant_config": QUANT, "print_model": False}
    slim = {"slim": "QAT", "QAT": settings, "pretrain_weights": str(config.parent / "random.pdparams")}
    trainer = package.train(config, slim)
    trained = str(config.parent / "output" / f"{name}_qat" / "model_final.pdparams")
    exported = package.export(config, config.parent / "inf", slim, weights=trained)
    prefix = config.parent / "inf" / f"{name}_qat" / "model"
    trainer.model.eval()
    simulated = program_outputs(prefix, feed)
    assert_close(simulated, comparable(trainer.model, feed))
    assert_close(simulated, comparable(exported.model, feed))
    assert paddle.in_dynamic_mode()
    check_deployed(prefix, feed, LAYERS[name])


@pytest.mark.parametrize("name", [pytest.param("yolov3", marks=pytest.mark.slow), "picodet"])
def test_ptq(package: Package, configs: Dict[str, Path], data: Path, name: str):
    """tools/post_quant.py: the export is near the float network."""
    config, feed = configs[name], feed_of(data, SIDE)
    weights = str(config.parent / "random.pdparams")
    slim = {"slim": "PTQ", "PTQ": {"ptq_config": HIST, "quant_batch_num": 1, "fuse": True}, "weights": weights}
    trainer = package.post_quant(config, config.parent / "ptq", slim)
    prefix = config.parent / "ptq" / f"{name}_ptq" / "model"
    found = program_outputs(prefix, feed)
    for got, expected in zip(found[:2], comparable(trainer.model, feed)):
        assert (got * expected).sum() > 0.999 * np.sqrt((got**2).sum() * (expected**2).sum())
    assert len(inspect(prefix).to_dict()["quantized"]) == LAYERS[name]
    if name == "yolov3":  # picodet's, of the same form, are deployed above; a clone's tests do both
        check_deployed(prefix, feed, LAYERS[name])
