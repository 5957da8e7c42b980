from __future__ import annotations

import json

import numpy as np
import pytest

from slimkit.deploy import inspect, model_size
from slimkit.errors import ModelError

from .conftest import INPUT, SECOND, SHAPE, WEIGHT
from .programs import Builder


def test_float_model(models):
    found = inspect(models["float"])
    assert found.format == "legacy"
    assert [(t.name, t.dtype, t.shape) for t in found.feeds] == [("x", "float32", SHAPE)]
    assert [t.name for t in found.fetches] == ["out"]
    assert found.ops == {"conv2d": 2, "hard_swish": 1}
    assert found.parameters == WEIGHT.size + SECOND.size and found.parameter_bytes == {"float32": 4 * found.parameters}
    assert found.quantized == found.left_float == []
    assert found.size_bytes == sum(found.files.values()) == model_size(models["float"]).total


def test_onnx_format(models):
    found = inspect(models["onnx"])
    assert found.format == "legacy-onnx"
    layers = [(q.op, q.weight, q.activation_bits, q.weight_bits, q.scheme) for q in found.quantized]
    assert layers == [("conv2d", "w", 8, 8, "per channel"), ("conv2d", "v", 8, 8, "per channel")]
    assert found.parameter_bytes["int8"] == WEIGHT.size + SECOND.size
    assert found.left_float == []


def test_old_format(models):
    found = inspect(models["old"])
    assert found.format == "legacy-old"
    assert [(q.weight, q.activation_bits, q.weight_bits, q.scheme) for q in found.quantized] == [
        ("w", 8, 8, "per channel")
    ]


def test_what_stayed_float_and_why(tmp_path):
    builder = Builder()
    y = builder.conv(builder.qdq("x", 3.0, "a"), builder.weight(WEIGHT, "w"), "y")
    y = builder.conv(y, builder.weight(SECOND, "v"), "z")
    y = builder.conv(y, builder.param("f", SECOND), "u")
    y = builder.conv(y, builder.param("t", SECOND), "out", type_="conv2d_transpose")
    found = inspect(builder.save(tmp_path / "m", SHAPE, y))
    reasons = {item.weight: item.reason for item in found.left_float}
    assert set(reasons) == {"v", "f", "t"}
    assert "computed in float" in reasons["v"] and "skip rule" in reasons["f"] and "no int8 kernel" in reasons["t"]


def test_four_bits(models):
    assert inspect(models["four_bits"]).quantized[0].activation_bits == 4


def test_report_is_json(models):
    assert json.loads(json.dumps(inspect(models["onnx"]).to_dict()))["format"] == "legacy-onnx"


def test_pir_program(tmp_path):
    paddle = pytest.importorskip("paddle")
    layer = paddle.nn.Sequential(paddle.nn.Conv2D(4, 2, 3), paddle.nn.ReLU())
    layer.eval()
    spec = [paddle.static.InputSpec(SHAPE, "float32", "x")]
    paddle.jit.save(layer, str(tmp_path / "m"), input_spec=spec)
    found = inspect(tmp_path / "m.json")
    assert found.format == "pir" and found.ops["conv2d"] == 1 and found.parameters == 2 * 4 * 9 + 2
    assert found.feeds[0].shape == SHAPE


@pytest.mark.parametrize("content", [b"", b"\x00nothing of the kind", b"{}"])
def test_what_is_no_program(tmp_path, content):
    (tmp_path / "m.pdmodel").write_bytes(content)
    (tmp_path / "m.pdiparams").write_bytes(b"")
    with pytest.raises(ModelError, match=r"m\.pdmodel"):
        inspect(tmp_path / "m")


def test_paths(models, tmp_path):
    with pytest.raises(ModelError, match="nowhere"):
        inspect(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="no parameters"):
        (tmp_path / "alone.pdmodel").write_bytes(b"x")
        inspect(tmp_path / "alone")
    with pytest.raises(ModelError, match="should hold one model"):
        inspect(models["float"].rsplit("/", 1)[0])
    assert inspect(models["float"] + ".pdmodel").path == inspect(models["float"]).path


def test_folder_with_one_model(models, tmp_path):
    for suffix in (".pdmodel", ".pdiparams"):
        (tmp_path / f"only{suffix}").write_bytes(open(models["float"] + suffix, "rb").read())
    assert inspect(tmp_path).ops == inspect(models["float"]).ops
    assert np.isfinite(INPUT).all()
