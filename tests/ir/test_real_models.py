"""Real models: PP-OCR taken to PIR and back, PaddleDetection's detectors."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Iterator, Tuple

import numpy as np
import paddle
import pytest
from comparing import assert_close, tensors
from detectors import CONFIGS, Head, build, import_ppdet, input_spec

from slimkit.deploy import lite
from slimkit.ir import Model, convert, from_pir, legacy_ir
from slimkit.ir.params_file import write_combined

#: A clone of PaddleDetection's repository; its newest code traces with non-maximum suppression.
CLONE = os.environ.get("SLIMKIT_PADDLEDETECTION")

OCR = {
    "ch_ppocr_mobile_v2_cls_infer": (2, 3, 48, 192),
    "ch_PP-OCRv4_det_infer": (1, 3, 128, 160),
    "ch_PP-OCRv4_rec_infer": (2, 3, 48, 160),
}


@pytest.mark.parametrize("name", OCR)
def test_ppocr_to_pir_and_back(rapidocr_models: Path, tmp_path: Path, name: str):
    """Paddle's own translator takes the legacy program to PIR, slimkit's takes it back: the same model."""
    model = Model.load(rapidocr_models / name)
    program = paddle.pir.translate_to_pir(model.program.desc)
    last = program.global_block().ops[-1].result(0)
    back = from_pir(program, dict(model.params), [last])
    feed = [np.random.RandomState(0).uniform(-1, 1, OCR[name]).astype("float32")]
    expected = model.run(feed)
    assert_close(back.run(feed), expected)
    back.save(tmp_path / "m")
    assert_close(Model.load(tmp_path).run(feed), expected)
    before, after = model.op_counts(), back.op_counts()
    for kind in ("conv2d", "depthwise_conv2d", "matmul_v2", "batch_norm", "elementwise_add", "hard_swish"):
        assert after.get(kind) == before.get(kind), kind


@pytest.mark.parametrize("name", OCR)
def test_ppocr_json_is_converted(rapidocr_models: Path, tmp_path: Path, name: str):
    """A real model as Paddle 3 writes it, ``.json`` and parameters, becomes a legacy pair with the same results."""
    model = Model.load(rapidocr_models / name)
    with legacy_ir():
        whole = paddle.static.Program.parse_from_string((rapidocr_models / name / "inference.pdmodel").read_bytes())
    paddle.base.core.serialize_pir_program(paddle.pir.translate_to_pir(whole.desc), str(tmp_path / "v5.json"))
    write_combined(tmp_path / "v5.pdiparams", dict(model.params))
    written = convert(tmp_path / "v5.json", f"{tmp_path}/out/")
    assert written == tmp_path / "out" / "v5.pdmodel"
    converted = Model.load(written)
    assert (converted.feeds, converted.fetches) == (model.feeds, model.fetches)
    feed = [np.random.RandomState(0).uniform(-1, 1, OCR[name]).astype("float32")]
    assert_close(converted.run(feed), model.run(feed))


@pytest.mark.lite
@pytest.mark.parametrize("name", OCR)
def test_converted_ppocr_runs_on_paddle_lite(rapidocr_models: Path, tmp_path: Path, name: str):
    """opt accepts the round-tripped model for ARM and x86, and Paddle-Lite on x86 computes what Paddle does."""
    reason = lite.X86.available()
    if reason:
        pytest.skip(reason)
    model = Model.load(rapidocr_models / name)
    program = paddle.pir.translate_to_pir(model.program.desc)
    back = from_pir(program, dict(model.params), [program.global_block().ops[-1].result(0)])
    back.save(tmp_path / "m")
    assert lite.ARM.export(tmp_path / "m", tmp_path / "arm").is_file()
    exported = lite.X86.export(tmp_path / "m", tmp_path / "x86")
    feed = {"x": np.random.RandomState(0).uniform(-1, 1, OCR[name]).astype("float32")}
    (found,) = lite.X86.run(exported, [feed])
    assert_close([np.asarray(array) for array in found], model.run(feed))


@pytest.fixture(scope="module", params=["released", "newest"])
def ppdet(request: Any) -> Iterator[Tuple[str, Any]]:
    """One version at a time: both are called ``ppdet``."""
    if request.param == "released":
        root = request.getfixturevalue("paddledet_package")
    elif CLONE:
        root = Path(CLONE)
    else:
        pytest.skip("SLIMKIT_PADDLEDETECTION names no clone of PaddleDetection's repository")
    for workspace in import_ppdet(root):
        yield request.param, workspace


def feed_of(side: int) -> dict:
    image = np.random.RandomState(0).randn(1, 3, side, side).astype("float32")
    return {
        "image": image,
        "im_shape": np.array([[side, side]], "float32"),
        "scale_factor": np.ones((1, 2), "float32"),
    }


def check(net: Any, side: int) -> list:
    model = Model.from_layer(net, input_spec(side))
    feed = feed_of(side)
    found = model.run(feed)
    assert_close(found, tensors(net({name: paddle.to_tensor(array) for name, array in feed.items()})))
    return found


@pytest.mark.parametrize("name", CONFIGS)
def test_detector(ppdet: Tuple[str, Any], name: str):
    """The released package is carried up to the head (its suppression is older than PIR), the newest code whole."""
    version, workspace = ppdet
    paddle.seed(0)
    net = build(workspace, name)
    if version == "released":
        net = Head(net)
        net.eval()
        check(net, 320 if name == "picodet" else 128)
        return
    boxes, counts = check(net, 320)
    assert boxes.shape[1] == 6
    assert len(boxes) == counts.sum()
