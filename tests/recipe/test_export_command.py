"""``slimkit export``: every runtime's file from a quantized or a float model, and one sentence when it cannot be."""

from __future__ import annotations

import re

import numpy as np
import pytest
from small_programs import Net, random

from slimkit.cli import main
from slimkit.deploy import paddle_inference
from slimkit.deploy.lite import X86
from slimkit.errors import ConfigError, RuntimeUnavailableError
from slimkit.ir import Model
from slimkit.quant import export_program, post_training_quantize
from slimkit.quant.load_quantized import is_quantized, load_quantized
from slimkit.quant.quantized import Quantized
from slimkit.quant.table import QuantTable
from slimkit.recipe import exporters
from slimkit.recipe.exporters import EXPORTERS, export_for, files_of


@pytest.mark.parametrize("name", ["post_old", "dygraph_old"])
def test_paddle_forms(peers, reference, tmp_path, name):
    quantized = load_quantized(peers / name)
    for runtime, marks in {"paddle": "assign", "paddle-onnx": "dequantize_linear", "paddle-old": "fake_"}.items():
        written = export_for(runtime, quantized, tmp_path / runtime, "cls")
        assert written == tmp_path / runtime / "cls.pdmodel"
        assert set(files_of(written)) == {"cls.pdmodel", "cls.pdiparams"}
        model = Model.load(written)
        assert any(op.startswith(marks) for op in model.op_counts())
        np.testing.assert_allclose(model.run([reference["x"]])[0], reference[name], atol=2e-6)


def test_paddle_int8_of_a_product_over_more_than_rows(tmp_path):
    """Its int8 reads the weight scales along the wrong axis: the weight stays integers, the activation float."""
    net, x = Net(), random(1, 2, 6, 8)
    weight = random(2, 8, 12) * np.exp(random(3, 12))
    net.linear(net.relu(net.data("x", [-1, 6, 8]), "a"), weight, "y", trans_x=False, trans_y=False)
    net.add("y", net.param("b", random(4, 12)), "z")
    made = post_training_quantize(net.model(["x"], ["z"]), [{"x": x}], ("paddle-onnx",)).quantized["paddle-onnx"]
    written = export_for("paddle", made, tmp_path)
    ((found,),) = paddle_inference.run(written, [[x]], int8=True)
    (wanted,) = export_program(made.model, made.table).run([x])
    assert np.linalg.norm(found - wanted) < 0.02 * np.linalg.norm(wanted)
    assert Model.load(written).params["y.w"].dtype == np.int8


def test_onnx(peers, reference, tmp_path):
    """ONNX Runtime moves some grids to where it computes in integers; weights alone are the same."""
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("paddle2onnx")
    for name in ("post_onnx", "aware_old", "dygraph_onnx", "dynamic_8"):
        written = export_for("onnx", load_quantized(peers / name), tmp_path, name)
        session = ort.InferenceSession(str(written), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {session.get_inputs()[0].name: reference["x"]})
        error, effect = (np.linalg.norm(other - reference[name]) for other in (found, reference["float"]))
        assert error < (1e-5 if name == "dynamic_8" else 0.7 * effect), name


@pytest.mark.lite
def test_lite(peers, reference, tmp_path):
    missing = X86.available()
    if missing:
        pytest.skip(missing)
    quantized = load_quantized(peers / "post_old")
    for runtime in ("lite-arm", "lite-x86"):
        written = export_for(runtime, quantized, tmp_path / runtime)
        assert written.name == "model.nb" and files_of(written) == {"model.nb": written.stat().st_size}
    ((found,),) = X86.run(written, [[reference["x"]]])
    assert np.abs(found - reference["post_old"]).max() < 0.05


def _file_for_paddle(folder):
    """A file for oneDNN, with a sum and a pool, whose attributes at their defaults are left out."""
    net = Net()
    net.data("x", [-1, 4, 8, 8])
    net.add(net.conv("x", random(1, 4, 4, 1, 1), "a"), net.conv("x", random(2, 4, 4, 1, 1), "b"), "c")
    pool = {"pooling_type": "max", "ksize": [2, 2], "strides": [2, 2], "paddings": [0, 0]}
    net.conv(net.op("pool2d", {"Out": "d"}, pool, X="c"), random(3, 2, 4, 1, 1), "y")
    feed = random(4, 4, 4, 8, 8)
    result = post_training_quantize(net.model(["x"], ["y"]), [{"x": feed}], ("paddle",))
    path = export_for("paddle", result.quantized["paddle"], folder)
    return path, feed, Model.load(path).run([feed])[0]


def test_a_file_for_paddle_goes_to_onnx(tmp_path):
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("paddle2onnx")
    path, feed, expected = _file_for_paddle(tmp_path / "paddle")
    session = ort.InferenceSession(str(export_for("onnx", load_quantized(path), tmp_path / "onnx")))
    assert np.abs(session.run(None, {"x": feed})[0] - expected).max() < 0.02 * np.abs(expected).max()


@pytest.mark.lite
def test_a_file_for_paddle_goes_to_lite(tmp_path):
    if X86.available() is not None:
        pytest.skip(X86.available())
    path, feed, expected = _file_for_paddle(tmp_path / "paddle")
    nb = export_for("lite-x86", load_quantized(path), tmp_path / "lite-x86")
    ((result,),) = X86.run(nb, [[feed]])
    assert np.abs(result - expected).max() < 0.1 * np.abs(expected).max()


def test_float_models_go_through(peers, reference, tmp_path):
    quantized = Quantized(Model.load(peers / "float"), QuantTable())
    model = Model.load(export_for("paddle", quantized, tmp_path))
    assert not is_quantized(model)
    np.testing.assert_allclose(model.run([reference["x"]])[0], reference["float"], atol=1e-6)


def test_the_command(peers, tmp_path, capsys):
    assert main(["export", str(peers / "dynamic_8"), str(tmp_path), "--to", "paddle-onnx,paddle-old,paddle-onnx"]) == 0
    out = capsys.readouterr().out
    assert "5 8-bit weights, 0 activation grids; quantized: conv2d 4, depthwise_conv2d 1" in out
    assert "float    conv2d_transpose 1: not quantized in the model read" in out
    assert out.count("written  paddle-onnx:") == 1 and "model.pdiparams" in out and "kB" in out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["paddle-old", "paddle-onnx"]
    assert main(["export", str(peers / "float.pdmodel"), str(tmp_path / "f"), "--to", "paddle"]) == 0
    assert "a float model" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (["float.pdmodel", "--to", "onx"], r"no runtime 'onx' to export to.*did you mean 'onnx'"),
        (["float.pdmodel", "--to", ","], r"--to names no runtime; allowed are paddle, "),
        (["nothing", "--to", "paddle"], r"no model at"),
    ],
)
def test_one_sentence_and_nothing_written(peers, tmp_path, capsys, arguments, sentence):
    model, *rest = arguments
    assert main(["export", str(peers / model), str(tmp_path / "out"), *rest]) == 2
    err = capsys.readouterr().err
    assert err.startswith("slimkit: ") and err.count("\n") == 1 and re.search(sentence, err)
    assert not (tmp_path / "out").exists()


def test_missing_packages_are_told_before_anything_is_written(peers, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SLIMKIT_LITE_PYTHON", str(tmp_path / "no-python"))
    assert main(["export", str(peers / "float"), str(tmp_path / "out"), "--to", "paddle,lite-arm"]) == 2
    assert "lite-install" in capsys.readouterr().err and not (tmp_path / "out").exists()
    row = exporters.EXPORTERS["onnx"]
    gone = exporters.Exporter(row.write, row.title, lambda: "Exporting to ONNX needs onnx.")
    monkeypatch.setitem(exporters.EXPORTERS, "onnx", gone)
    with pytest.raises(RuntimeUnavailableError, match="needs onnx"):
        export_for("onnx", Quantized(Model.load(peers / "float"), QuantTable()), tmp_path)


def test_unknown_runtime(peers, tmp_path):
    with pytest.raises(ConfigError, match=r"'tpu'.*paddle, paddle-old, paddle-onnx, onnx, lite-arm, lite-x86"):
        export_for("tpu", Quantized(Model.load(peers / "float"), QuantTable()), tmp_path)
    assert next(iter(EXPORTERS)) == "paddle"
