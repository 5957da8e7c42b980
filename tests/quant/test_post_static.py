"""PaddleSlim's ``quant_post_static``: its arguments, its three kinds of data, its files."""

from __future__ import annotations

import inspect

import numpy as np
import paddle
import pytest
from small_programs import mobile_net, random

from slimkit.errors import ConfigError, DataError, ModelError
from slimkit.ir import Model
from slimkit.quant import load_quantized, quant_post_static
from slimkit.quant.calibration_data import CalibrationFeeds

IMAGES = random(0, 12, 3, 8, 8)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("float")
    mobile_net(train=False).model(["x"], ["logits"]).save(folder / "inference")
    return str(folder)


def _executor():
    return paddle.static.Executor(paddle.CPUPlace())


def test_the_arguments_are_paddleslims():
    """Names, order and defaults of PaddleSlim 2.6."""
    found = {k: p.default for k, p in inspect.signature(quant_post_static).parameters.items()}
    ops = ("conv2d", "depthwise_conv2d", "conv2d_transpose", "mul", "matmul", "matmul_v2")
    assert list(found.items()) == [
        *((name, inspect.Parameter.empty) for name in ("executor", "model_dir", "quantize_model_path")),
        *((name, None) for name in ("batch_generator", "sample_generator", "data_loader")),
        *((name, None) for name in ("model_filename", "params_filename")),
        ("save_model_filename", "model.pdmodel"),
        ("save_params_filename", "model.pdiparams"),
        *(("batch_size", 1), ("batch_nums", None), ("scope", None), ("algo", "hist"), ("round_type", "round")),
        *(("hist_percent", 0.9999), ("bias_correction", False), ("quantizable_op_type", ops)),
        *(("is_full_quantize", False), ("weight_bits", 8), ("activation_bits", 8)),
        ("activation_quantize_type", "range_abs_max"),
        ("weight_quantize_type", "channel_wise_abs_max"),
        *(("optimize_model", False), ("onnx_format", True), ("skip_tensor_list", None), ("deploy_backend", None)),
    ]


# ------------------------------------------------------------------------------------------- data


class _Images(paddle.io.Dataset):
    def __getitem__(self, index):
        return IMAGES[index], index  # with a label

    def __len__(self):
        return len(IMAGES)


def _batches():
    return (IMAGES[i : i + 4] for i in range(0, 12, 4))


KINDS = {
    "samples as tuples": {"sample_generator": lambda: ((image,) for image in IMAGES), "batch_size": 4},
    "samples as arrays": {"sample_generator": lambda: iter(IMAGES), "batch_size": 4},
    "samples as dicts": {"sample_generator": lambda: ({"x": image.tolist()} for image in IMAGES), "batch_size": 4},
    "samples flattened, with labels": {
        "sample_generator": lambda: ((image.reshape(-1), 7) for image in IMAGES), "batch_size": 4,
    },
    "samples that are batches": {"sample_generator": lambda: (image[None] for image in IMAGES), "batch_size": 4},
    "samples of many images": {"sample_generator": lambda: _batches(), "batch_size": 1},
    "samples with labels": {"sample_generator": lambda: ([image, 7] for image in IMAGES), "batch_size": 5},
    "batches as lists": {"batch_generator": lambda: ([batch] for batch in _batches())},
    "batches as arrays": {"batch_generator": _batches},
    "batches of tensors": {"batch_generator": lambda: ({"x": paddle.to_tensor(batch)} for batch in _batches())},
    "a DataLoader": {"data_loader": paddle.io.DataLoader(_Images(), batch_size=4)},
    "a Dataset": {"sample_generator": _Images(), "batch_size": 4},
    "a list": {"data_loader": [{"x": batch, "label": 1} for batch in _batches()]},
    "a static DataLoader's dicts": {"data_loader": [[{"x": batch}] for batch in _batches()]},
    "a generator": {"data_loader": _batches()},
    "float64": {"data_loader": lambda: (batch.astype("float64") for batch in _batches())},
}


@pytest.fixture(scope="module")
def reference(source, tmp_path_factory):
    out = tmp_path_factory.mktemp("reference")
    quant_post_static(_executor(), source, str(out), data_loader=[IMAGES[i : i + 4] for i in range(0, 12, 4)])
    return load_quantized(out).table


@pytest.mark.parametrize("kind", KINDS)
def test_all_kinds_of_data(source, tmp_path, reference, kind):
    quant_post_static(_executor(), source, str(tmp_path), **KINDS[kind])
    found = load_quantized(tmp_path).table
    assert found.params.keys() == reference.params.keys()
    for key, params in found.params.items():
        np.testing.assert_allclose(params.scale, reference.params[key].scale, rtol=2e-3)  # a batch of 5 bins otherwise


def test_a_data_loader_goes_before_the_others(source):
    """PaddleSlim's own test gives a sample_generator and a data_loader."""
    with pytest.warns(UserWarning, match="sample_generator is not read"):
        feeds = CalibrationFeeds(Model.load(source), sample_generator=lambda: 1 / 0, data_loader=[IMAGES])
    assert [feed["x"].shape for feed in feeds] == [IMAGES.shape]


def test_batch_nums_and_dtypes(source):
    model = Model.load(source)
    feeds = CalibrationFeeds(model, data_loader=lambda: (b.astype("float64") for b in _batches()), batch_nums=2)
    taken = list(feeds)
    assert [feed["x"].shape for feed in taken] == [(4, 3, 8, 8)] * 2 and taken[0]["x"].dtype == np.float32
    assert len(list(feeds)) == 2  # again
    rest = CalibrationFeeds(model, sample_generator=lambda: iter(IMAGES), batch_size=5)
    assert [len(feed["x"]) for feed in rest] == [5, 5, 2]
    once = CalibrationFeeds(model, data_loader=_batches())
    assert [len(list(once)) for _ in range(3)] == [3, 3, 3]  # a generator object is remembered


# ------------------------------------------------------------------------------------------- files and settings


def test_files_and_formats(source, tmp_path):
    files = {"save_model_filename": "inference.pdmodel", "save_params_filename": "inference.pdiparams"}
    more = {"model_filename": "inference.pdmodel", "params_filename": "inference.pdiparams"}
    whole = Model.load(source).run([IMAGES])[0]
    for onnx_format, op in ((True, "quantize_linear"), (False, "fake_quantize_moving_average_abs_max")):
        out = tmp_path / str(onnx_format)
        assert quant_post_static(
            _executor(), source + "/", str(out), data_loader=[IMAGES], onnx_format=onnx_format, **files, **more
        ) is None  # fmt: skip
        assert sorted(p.name for p in out.iterdir()) == ["inference.pdiparams", "inference.pdmodel"]
        model = Model.load(out)
        assert model.op_counts()[op] == 6
        error = model.run([IMAGES])[0] - whole
        assert 1e-4 < np.linalg.norm(error) / np.linalg.norm(whole) < 0.1
    quant_post_static(None, source, str(tmp_path / "named"), data_loader=[IMAGES], save_params_filename="__params__")
    assert sorted(p.name for p in (tmp_path / "named").iterdir()) == ["__params__", "model.pdmodel"]


def test_scripts_of_paddle_2_find_paddle_3s_file(source, tmp_path):
    """They say ``inference.pdmodel``; Paddle 3.3 has exported ``inference.json``."""
    net = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.Flatten(), paddle.nn.Linear(144, 2))
    net.eval()
    paddle.jit.save(net, str(tmp_path / "inference"), [paddle.static.InputSpec([None, 3, 8, 8], "float32", "x")])
    assert not (tmp_path / "inference.pdmodel").exists()
    names = {"model_filename": "inference.pdmodel", "params_filename": "inference.pdiparams"}
    quant_post_static(
        None, str(tmp_path), str(tmp_path / "int8"), sample_generator=lambda: (IMAGES[:1],), **names
    )  # fmt: skip
    assert len(load_quantized(tmp_path / "int8").table.ops) == 2


def _table(source, out, **settings):
    quant_post_static(None, source, str(out), data_loader=[IMAGES], **settings)
    return load_quantized(out).table


def test_settings_arrive(source, tmp_path):
    table = _table(source, tmp_path / "a", weight_bits=4, activation_bits=6, weight_quantize_type="abs_max")
    assert {p.bits for p in table.weights().values()} == {4} and {p.axis for p in table.weights().values()} == {None}
    assert {p.bits for p in table.activations().values() if p.tensor in ("x", "flat")} == {6}
    table = _table(source, tmp_path / "b", quantizable_op_type=["conv2d"], skip_tensor_list=["project.w", "se.r*"])
    assert {op.output for op in table.ops} == {"stem", "se.reduce", "se.expand"}  # names, not wildcards
    full = _table(source, tmp_path / "c", is_full_quantize=True)
    assert {"elementwise_mul", "pool2d", "relu"} <= {op.type for op in full.ops}
    folded = _table(source, tmp_path / "d", optimize_model=True)
    assert "batch_norm" not in Model.load(tmp_path / "d").op_counts() and len(folded.ops) == 6
    found = {}
    for algo in ("abs_max", "avg", "hist", "KL", "mse"):
        batches = [IMAGES, IMAGES / 2]
        quant_post_static(None, source, str(tmp_path / algo), data_loader=batches, algo=algo, hist_percent=0.99)
        found[algo] = float(load_quantized(tmp_path / algo).table.params["x"].scale[0])
    most = float(np.abs(IMAGES).max())
    assert found["abs_max"] == most and found["avg"] == pytest.approx(0.75 * most)
    assert found["hist"] < 0.95 * most and max(found.values()) == most


def test_backends(source, tmp_path):
    quant_post_static(None, source, str(tmp_path), data_loader=[IMAGES], deploy_backend="MKLDNN")
    counts = Model.load(tmp_path).op_counts()
    assert counts["quantize_linear"] < 6 and counts["dequantize_linear"] > counts["quantize_linear"]  # what it executes


@pytest.mark.parametrize(
    "settings, error, sentence",
    [
        ({}, ConfigError, r"came from nowhere; give exactly one of sample_generator, batch_generator, data_loader"),
        ({"sample_generator": list, "batch_generator": list}, ConfigError, r"sample_generator and batch_generator"),
        ({"data_loader": [IMAGES], "algo": "kll"}, ConfigError, r"algo.*kl"),
        ({"data_loader": [IMAGES], "round_type": "ada"}, ConfigError, r"round_type = 'ada'.*did you mean 'adaround'"),
        ({"data_loader": [IMAGES], "deploy_backend": "gpu"}, ConfigError, r"'gpu': allowed are None, tensorrt"),
        ({"data_loader": [IMAGES], "quantizable_op_type": ["conv3d"]}, ConfigError, r"'conv3d' cannot be quantized"),
        ({"data_loader": [IMAGES], "batch_nums": 0}, ConfigError, r"batch_nums = 0.*at least 1"),
        ({"data_loader": [IMAGES], "batch_nums": "3"}, ConfigError, r"batch_nums = '3': it is a whole number"),
        ({"data_loader": [IMAGES], "batch_size": None}, ConfigError, r"batch_size = None: it is a whole number"),
        ({"data_loader": [IMAGES], "hist_percent": "x"}, ConfigError, r"hist_percent = 'x': it must be a valid number"),
        ({"data_loader": [IMAGES], "quantizable_op_type": "conv2d"}, ConfigError, r"= 'conv2d' is no list of names"),
        ({"data_loader": [IMAGES], "skip_tensor_list": "conv"}, ConfigError, r"list = 'conv' is no list of names"),
        ({"data_loader": [IMAGES], "deploy_backend": 3}, ConfigError, r"'3': allowed are None, tensorrt"),
        ({"data_loader": [{"y": IMAGES}]}, DataError, r"lacks the input x; it has y"),
        ({"data_loader": [[]]}, DataError, r"has 0 arrays and the model 1 inputs \(x\)"),
        ({"data_loader": [IMAGES[:0]]}, DataError, r"input x is empty, its shape is \(0, 3, 8, 8\)"),
        ({"data_loader": [["a"]]}, DataError, r"input x is no array of float32"),
        ({"data_loader": 3}, DataError, r"gives int, which cannot be iterated"),
        ({"sample_generator": lambda: iter([IMAGES[0], IMAGES[0, :, :4]]), "batch_size": 2}, DataError,
         r"\(3, 4, 8\), \(3, 8, 8\) in one batch"),
        ({"data_loader": [IMAGES[:, :2]]}, ModelError, r"\[12, 2, 8, 8\]"),
    ],
)  # fmt: skip
def test_what_is_refused(source, tmp_path, settings, error, sentence):
    with pytest.raises(error, match=sentence):
        quant_post_static(_executor(), source, str(tmp_path / "out"), **settings)
    assert not (tmp_path / "out").exists()
