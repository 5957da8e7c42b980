"""Weights as integers: small files that compute the dequantized weights."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from grids import symmetric
from small_programs import Net, mobile_net, random

from slimkit.deploy import paddle_inference
from slimkit.errors import ConfigError, ModelError
from slimkit.ir import Model
from slimkit.quant import load_quantized, quant_post_dynamic, quantize_weights

IMAGES = random(0, 4, 3, 8, 8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A float model."""
    folder = tmp_path_factory.mktemp("models")
    mobile_net(train=False).model(["x"], ["logits"]).save(folder / "float" / "inference")
    return folder


def test_the_arguments_are_paddleslims():
    found = {k: p.default for k, p in inspect.signature(quant_post_dynamic).parameters.items()}
    assert list(found) == [
        *("model_dir", "save_model_dir", "model_filename", "params_filename", "save_model_filename"),
        *("save_params_filename", "quantizable_op_type", "weight_bits", "generate_test_model"),
    ]
    assert (found["save_model_filename"], found["save_params_filename"]) == ("model.pdmodel", "model.pdiparams")
    assert list(found["quantizable_op_type"]) == ["conv2d", "mul"] and found["weight_bits"] == 8


@pytest.mark.parametrize("bits, dtype", [(8, np.int8), (16, np.int16)])
def test_the_dequantized_weights_are_computed(folder, tmp_path, bits, dtype):
    source = folder / "float"
    quant_post_dynamic(
        str(source), str(tmp_path), "inference.pdmodel", "inference.pdiparams", weight_bits=bits,
        save_model_filename="m.pdmodel", quantizable_op_type=["conv2d", "depthwise_conv2d", "mul"],
        generate_test_model=True,
    )  # fmt: skip
    stored, test = (Model.load(tmp_path / kind / "m") for kind in ("quantized_model", "test_model"))
    whole = Model.load(source)
    axes = {"stem.w": 0, "dw.w": 0, "se.reduce.w": 0, "se.expand.w": 0, "project.w": 0, "fc.w": 1}
    for name, axis in axes.items():
        assert stored.params[name].dtype == dtype
        value = whole.params[name]
        others = tuple(d for d in range(value.ndim) if d != axis)
        on_grid = symmetric(value, np.abs(value).max(others, keepdims=True), bits)
        np.testing.assert_allclose(test.params[name], on_grid, rtol=1e-6, atol=2e-7)
    wanted = test.run([IMAGES])[0]
    np.testing.assert_allclose(stored.run([IMAGES])[0], wanted, rtol=1e-5, atol=1e-5)
    assert np.abs(wanted - whole.run([IMAGES])[0]).max() > (1e-3 if bits == 8 else 1e-7)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["quantized_model", "test_model"]


@pytest.mark.parametrize("bits, most", [(8, 0.27), (16, 0.52)])
def test_the_file_is_small(tmp_path, bits, most):
    net = Net()
    net.linear(net.data("x", [-1, 200]), random(1, 200, 100), "y")
    net.model(["x"], ["y"]).save(tmp_path / "float")
    quant_post_dynamic(str(tmp_path / "float"), str(tmp_path), None, None, weight_bits=bits, generate_test_model=True)
    stored, plain = (tmp_path / f"{kind}_model" / "model.pdiparams" for kind in ("quantized", "test"))
    assert stored.stat().st_size < most * plain.stat().st_size


@pytest.mark.parametrize("int8", [True, False])
def test_paddle_inference_runs_it(folder, tmp_path, int8):
    quant_post_dynamic(str(folder / "float"), str(tmp_path), None, None, generate_test_model=True)
    ((found,),) = paddle_inference.run(tmp_path / "quantized_model" / "model", [[IMAGES]], int8=int8)
    wanted = Model.load(tmp_path / "test_model").run([IMAGES])[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_paddle_inference_int8_takes_square_matrices(tmp_path):
    """Whose scales its int8 mode would read along the other axis."""
    net, x = Net(), random(3, 5, 8)
    net.linear(net.data("x", [-1, 8]), random(1, 8, 8) * np.exp(random(2, 8)), "y", trans_x=False, trans_y=False)
    net.model(["x"], ["y"]).save(tmp_path / "float")
    quant_post_dynamic(str(tmp_path / "float"), str(tmp_path), None, None, generate_test_model=True)
    ((found,),) = paddle_inference.run(tmp_path / "quantized_model" / "model", [[x]], int8=True)
    np.testing.assert_allclose(found, Model.load(tmp_path / "test_model").run([x])[0], rtol=1e-4, atol=1e-4)


def test_as_paddleslim(peers, reference, tmp_path):
    """PaddleSlim's own test model computes the same; its file of integers loads with the same grids."""
    types = ["conv2d", "depthwise_conv2d"]
    quant_post_dynamic(
        str(peers), str(tmp_path), "float.pdmodel", "float.pdiparams", quantizable_op_type=types
    )
    model = Model.load(tmp_path / "quantized_model")
    np.testing.assert_allclose(model.run([reference["x"]])[0], reference["dynamic_8"], atol=2e-6)
    ours, theirs = load_quantized(tmp_path / "quantized_model"), load_quantized(peers / "dynamic_8")
    assert set(ours.table.params) == set(theirs.table.params)
    for key, params in theirs.table.params.items():
        np.testing.assert_allclose(ours.table.params[key].scale, params.scale, rtol=1e-6)
        np.testing.assert_allclose(ours.model.params[key], theirs.model.params[key], rtol=1e-6, atol=1e-9)


def test_per_tensor_and_shared_weights():
    net = Net()
    x, w = net.data("x", [-1, 4]), net.param("w", random(1, 4, 4))
    net.op("matmul_v2", {"Out": "a"}, {"trans_x": False, "trans_y": False}, X=x, Y=w)
    net.op("elementwise_add", {"Out": "y"}, {"axis": -1}, X="a", Y=w)  # reads the weight as it is
    found = quantize_weights(net.model(["x"], ["y"]), ["mul"], weight_quantize_type="abs_max")
    assert found.table.params["w"].axis is None
    np.testing.assert_array_equal(found.model.params["w"], random(1, 4, 4))


def test_what_is_refused(folder, tmp_path):
    source = str(folder / "float")
    for settings, sentence in (
        ({"save_model_dir": None}, "save_model_dir = None is no path"),
        ({"quantizable_op_type": "conv2d"}, "'conv2d' is no list of names"),
        ({"quantizable_op_type": []}, "is empty; name some of conv2d"),
    ):
        where = {"model_dir": source, "save_model_dir": str(tmp_path), "model_filename": None}
        with pytest.raises(ConfigError, match=sentence):
            quant_post_dynamic(**{**where, "params_filename": None, **settings})
    with pytest.raises(ConfigError, match=r"weight_bits = 4.*8 or 16"):
        quant_post_dynamic(source, str(tmp_path), None, None, weight_bits=4)
    with pytest.raises(ConfigError, match=r"'pool2d' has no weight.*conv2d"):
        quant_post_dynamic(source, str(tmp_path), None, None, quantizable_op_type=["pool2d"])
    with pytest.raises(ModelError, match=r"no conv2d_transpose"):
        quant_post_dynamic(source, str(tmp_path), None, None, quantizable_op_type=["conv2d_transpose"])
    assert not list(tmp_path.iterdir())
