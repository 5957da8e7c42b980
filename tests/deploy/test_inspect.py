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


@pytest.fixture
def onnx_file(tmp_path):
    """Conv on grids -> Relu -> Q -> DQ -> MatMul of a float weight; a Conv whose result has no grid."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    def grid(name, x, y, weight=False):
        kind = ["DequantizeLinear"] if weight else ["QuantizeLinear", "DequantizeLinear"]
        steps = [x, *([] if weight else [f"{name}.q"]), y]
        zero = "z.w" if weight else "z"
        scale = "s.w" if weight else "s"
        axis = {"axis": 0} if weight else {}
        return [helper.make_node(k, [steps[i], scale, zero], [steps[i + 1]], **axis) for i, k in enumerate(kind)]

    values = {
        "s": np.array(0.1, "float32"), "z": np.array(128, "uint8"), "s.w": np.full(2, 0.1, "float32"),
        "z.w": np.zeros(2, "int8"), "w": np.ones((2, 2, 1, 1), "int8"), "m": np.ones((4, 3), "float32"),
    }  # fmt: skip
    nodes = [
        *grid("a", "x", "xd"), *grid("w", "w", "wd", weight=True), helper.make_node("Conv", ["xd", "wd"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]), *grid("b", "r", "rd"),
        helper.make_node("Conv", ["rd", "wd"], ["d"]), helper.make_node("MatMul", ["d", "m"], ["y"]),
    ]  # fmt: skip
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 2, 4, s]) for n, s in (("x", 4), ("y", 3))]
    constants = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)]), str(tmp_path / "m.onnx"))
    return tmp_path / "m.onnx"


def test_onnx_file(onnx_file):
    found = inspect(onnx_file)
    assert found.format == "onnx-qdq" and found.feeds[0].shape == [-1, 2, 4, 4] and found.feeds[0].dtype == "float32"
    layers = [(q.op, q.weight, q.activation_bits, q.weight_bits, q.scheme) for q in found.quantized]
    assert layers == [("Conv", "w", 8, 8, "per channel")] * 2
    assert [(left.op, left.weight) for left in found.left_float] == [("Conv", "w"), ("MatMul", "m")]
    assert "its result lies on no grid" in found.left_float[0].reason
    assert found.size_bytes == onnx_file.stat().st_size and inspect(onnx_file.parent).path == found.path
    assert inspect(str(onnx_file)[: -len(".onnx")]).path == found.path


def test_onnx_layers_left_float_are_named(onnx_file, capsys):
    from slimkit.cli import main

    assert main(["inspect", str(onnx_file)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "MatMul 1 it was left out when the model was quantized m" in printed


def test_what_is_no_onnx(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match=r"m\.onnx is not an ONNX model"):
        inspect(tmp_path / "m.onnx")
    (tmp_path / "m.onnx").write_bytes(b"")
    with pytest.raises(ModelError, match=r"m\.onnx is empty"):
        inspect(tmp_path / "m")
