"""Pruned physically or masked with zeros: every network gives the same results, whatever goes."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Iterator, List

import numpy as np
import paddle
import paddle.vision.models
import pytest
from detectors import CONFIGS, Head, build, import_ppdet, input_spec
from plans import check_shapes, error_of, random_plan
from zoo import FAST, OCR, SLOW, Network, classifier, enliven, layer_network, ocr

from slimkit.deploy import paddle_inference
from slimkit.ir import Model
from slimkit.prune import find_groups, prune_model

#: What float summation in another order may change, relative to the largest result (or 1).
LIMIT = 1e-5
FEW, MANY = 2, 20

#: A clone of PaddleDetection's repository; its newest code traces with non-maximum suppression.
CLONE = os.environ.get("SLIMKIT_PADDLEDETECTION")
LONG = [pytest.mark.slow, pytest.mark.timeout(3600)]
CASES = [
    *(pytest.param(name, FEW, id=name) for name in FAST),
    *(pytest.param(name, MANY, id=f"{name}-{MANY}", marks=LONG) for name in (*FAST, *SLOW)),
]


def compare(network: Network, count: int, name: str, least: float = 0.02) -> None:
    """Compares random plans, among them extreme ones.

    Args:
        network: with live weights.
        count: number of plans.
        name: of the network, for the record of what was measured.
        least: how much of the results a plan must change, relative to the largest.
    """
    groups = find_groups(network.model)
    assert groups.prunable
    before = network.run(network.model)
    errors: List[float] = []
    for seed in range(count):
        plan = random_plan(groups, seed)
        pruned = prune_model(network.model, plan)
        error, after = error_of(network, pruned, plan)
        errors.append(error)
        assert error <= LIMIT, f"plan {seed} of {name}: {error}"
        for array, old in zip(after, before):
            assert array.shape == old.shape
            assert np.abs(array).max() > 0
        changed = max(np.abs(a - o).max() / max(np.abs(o).max(), 1e-12) for a, o in zip(after, before))
        assert changed > least, f"plan {seed} of {name} changes nothing"
        if seed == count - 1:
            check_shapes(network, pruned)
    _record(name, errors)


def _record(name: str, errors: List[float]) -> None:
    """Appends what was measured to the file that ``SLIMKIT_PRUNE_ERRORS`` names, if any."""
    path = os.environ.get("SLIMKIT_PRUNE_ERRORS")
    if path:
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"network": name, "plans": len(errors), "worst": max(errors)}) + "\n")


def test_every_network_of_the_zoo_is_compared():
    models = paddle.vision.models
    assert {n for n in models.__all__ if n[0].islower()} | {"LeNet"} == {*FAST, *SLOW}


@pytest.mark.parametrize(("name", "count"), CASES)
def test_classifier(name: str, count: int):
    compare(classifier(name), count, name)


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", OCR)
def test_ppocr(rapidocr_models: Path, name: str, count: int):
    compare(ocr(rapidocr_models / name), count, name)


@pytest.fixture(scope="module")
def ppdet(paddledet_package: Path) -> Iterator[Any]:
    yield from import_ppdet(paddledet_package)


@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CONFIGS)
def test_detector(ppdet: Any, name: str, count: int):
    """Up to the outputs of the head: what follows has no parameters."""
    shape = (1, 3, 64, 64)

    def make() -> Any:
        net = Head(build(ppdet, name))
        net.forward = _image_only(net)
        return net

    compare(layer_network(make, shape), count, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_whole_detector(name: str):
    """With suppression of boxes, in the newest code; boxes and scores are compared before it, where none can flip."""
    if not CLONE:
        pytest.skip("SLIMKIT_PADDLEDETECTION names no clone of PaddleDetection's repository")
    side = 320 if name == "picodet" else 128
    x = np.random.RandomState(0).randn(1, 3, side, side).astype("float32")
    feed = {"image": x, "im_shape": np.array([[side, side]], "float32"), "scale_factor": np.ones((1, 2), "float32")}
    for workspace in import_ppdet(Path(CLONE)):
        paddle.seed(0)
        net = enliven(build(workspace, name), [{key: paddle.to_tensor(array) for key, array in feed.items()}])
        model = Model.from_layer(net, input_spec(side))
    (nms,) = [op for op in model.program.global_block().ops if "nms" in op.type]
    network = Network(model, {key: feed[key] for key in model.feeds}, (*nms.input("BBoxes"), *nms.input("Scores")))
    compare(network, MANY, f"{name} with suppression")
    boxes, counts = prune_model(model, random_plan(find_groups(model), 0)).run(network.feed)
    assert boxes.shape == (int(counts.sum()), 6)


def _image_only(net: Any) -> Any:
    head = type(net).forward
    return lambda x: head(net, {"image": x})


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "shufflenet_v2_x0_25", "ch_PP-OCRv4_rec_infer"])
def test_saved_and_served(rapidocr_models: Path, tmp_path: Path, name: str):
    """A pruned network is saved, loaded, and run by Paddle Inference with the same results."""
    network = ocr(rapidocr_models / name) if name in OCR else classifier(name)
    plan = random_plan(find_groups(network.model), 3)
    pruned = prune_model(network.model, plan)
    expected = pruned.run(network.feed)
    path = pruned.save(tmp_path / "pruned" / "inference")
    whole = network.model.save(tmp_path / "whole" / "inference")
    sizes = [file.with_suffix(".pdiparams").stat().st_size for file in (path, whole)]
    assert sizes[0] < 0.8 * sizes[1]
    for array, again in zip(expected, Model.load(path).run(network.feed)):
        np.testing.assert_array_equal(array, again)
    (served,) = paddle_inference.run(path, [network.feed], mode="plain")  # oneDNN approximates some functions
    for array, found in zip(expected, served):
        np.testing.assert_allclose(found, array, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(array).max()))
