"""Dygraph PTQ: what is written is what was simulated, and runtimes take it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import numpy as np
import paddle
import pytest
from paddle import nn
from ptq_networks import NETWORKS, SPEC, Inputs, Misordered, Plain, Shared, calibrated, far, images, made, ran

from slimkit import Model, load_quantized
from slimkit.deploy import verify
from slimkit.errors import ConfigError, ModelError
from slimkit.quant.layers import PTQ

IMAGES = images()

#: What float32 leaves of the same arithmetic in another order.
NOISE = 1e-6


def _saved(net: nn.Layer, folder: Path, ptq: PTQ, **how: Any) -> Any:
    """(the simulated network, what was written)."""
    save = {key: how.pop(key) for key in ("onnx_format",) if key in how}
    model = calibrated(ptq.quantize(net, **how), IMAGES)
    ptq.save_quantized_model(model, str(folder / "model"), SPEC, **save)
    assert sorted(p.name for p in folder.iterdir()) == ["model.pdiparams", "model.pdmodel"]
    return model, Model.load(folder / "model")


@pytest.mark.parametrize("onnx_format", [True, False])
@pytest.mark.parametrize("network", NETWORKS)
def test_the_file_is_the_simulation(network: Callable[[], nn.Layer], onnx_format: bool, tmp_path: Path) -> None:
    net = made(network)
    types = ["Conv2D", "Linear", "Conv2DTranspose"]
    ptq = PTQ("AbsmaxQuantizer", quantizable_layer_type=types)
    model, written = _saved(net, tmp_path, ptq, onnx_format=onnx_format)
    assert any(op.type == "conv2d_transpose" for op in load_quantized(tmp_path / "model").table.ops) == hasattr(
        net, "up"
    )
    simulated = ran(model, IMAGES[0])
    assert far(written.run([IMAGES[0]])[0], simulated) < NOISE
    assert 1e-4 < far(simulated, ran(net, IMAGES[0])) < 0.3


@pytest.mark.parametrize("weights", ["PerChannelAbsmaxQuantizer", "AbsmaxQuantizer"])
@pytest.mark.parametrize("network", [Plain, Misordered])
def test_fused(network: Callable[[], nn.Layer], weights: str, tmp_path: Path) -> None:
    """Batch norm is folded where the program shows that it may be, and the grids go with it."""
    net = made(network)
    model, written = _saved(net, tmp_path, PTQ("AbsmaxQuantizer", weights), fuse=True)
    assert far(written.run([IMAGES[0]])[0], ran(model, IMAGES[0])) < NOISE
    left = written.op_counts().get("batch_norm", 0)
    assert left == {Plain: 0, Misordered: 1}[network], "Misordered.other reads what others read"


def test_folded_weights_have_their_own_scales(tmp_path: Path) -> None:
    net = made(Plain)
    _saved(net, tmp_path, PTQ(), fuse=True)
    gain = net.norm.weight.numpy() / np.sqrt(net.norm._variance.numpy() + 1e-5)
    expected = np.abs(net.conv.weight.numpy() * gain.reshape(-1, 1, 1, 1)).max(axis=(1, 2, 3))
    table = load_quantized(tmp_path / "model").table
    first = next(op for op in table.ops if op.type == "conv2d")
    np.testing.assert_allclose(table.params[first.inputs["Filter"]].scale, expected, rtol=1e-6)


def test_fuse_list_names_what_is_folded(tmp_path: Path) -> None:
    model, written = _saved(made(Plain), tmp_path, PTQ(), fuse=True, fuse_list=[["depthwise", "norm2"]])
    assert written.op_counts()["batch_norm"] == 1
    assert far(written.run([IMAGES[0]])[0], ran(model, IMAGES[0])) < 1e-2  # KL: a value at a tie may flip
    names = [op.input("Scale")[0] for op in written.program.global_block().ops if op.type == "batch_norm"]
    assert names[0].startswith(made(Plain).norm.weight.name.split("_")[0])


def test_fuse_list_pair_that_cannot_be_folded_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pairs = [["first", "norm"], ["second", "norm"]]
    model, written = _saved(made(Misordered), tmp_path, PTQ("AbsmaxQuantizer"), fuse=True, fuse_list=pairs)
    assert "'first' keeps its batch norm" in caplog.text and "'second'" not in caplog.text
    assert far(written.run([IMAGES[0]])[0], ran(model, IMAGES[0])) < NOISE


def test_one_tensor_on_two_grids(tmp_path: Path) -> None:
    """A layer that is called twice has one range for both; another reader of one of its inputs has its own."""
    ptq = PTQ("AbsmaxQuantizer")
    net = made(Shared)
    with paddle.no_grad():
        net.conv.weight.set_value(net.conv.weight * 0.01)
        net.conv.bias.set_value(paddle.full([4], 1e-3))
    model, written = _saved(net, tmp_path, ptq)
    found = load_quantized(tmp_path / "model").table
    scales = sorted(float(p.scale[0]) for p in found.activations().values())
    thresholds = ptq.thresholds(model)
    assert scales == sorted([thresholds["conv"], thresholds["conv"], thresholds["other"]])
    assert thresholds["conv"] > 2 * thresholds["other"]
    assert far(written.run([IMAGES[0]])[0], ran(model, IMAGES[0])) < NOISE


@pytest.mark.parametrize("bits", [4, 8])
def test_bits(bits: int, tmp_path: Path) -> None:
    model, written = _saved(made(Plain), tmp_path, PTQ("AbsmaxQuantizer", quant_bits=bits))
    assert {p.bits for p in load_quantized(tmp_path / "model").table.activations().values()} == {bits}
    assert far(written.run([IMAGES[0]])[0], ran(model, IMAGES[0])) < NOISE


def test_a_detectors_dict_of_inputs(tmp_path: Path) -> None:
    net, ptq = made(Inputs), PTQ("AbsmaxQuantizer")
    spec = [{"image": paddle.static.InputSpec([None, 4, 8, 8], name="image"),
             "scale_factor": paddle.static.InputSpec([None, 2], name="scale_factor")}]  # fmt: skip
    feed = {"image": IMAGES[0], "scale_factor": np.full((2, 2), 2, np.float32)}
    model = ptq.quantize(net, fuse=True, fuse_list=None)
    tensors = {name: paddle.to_tensor(value) for name, value in feed.items()}
    model(tensors)
    ptq.save_quantized_model(model, str(tmp_path / "m"), spec)
    assert far(Model.load(tmp_path / "m").run(feed)[0], model(tensors)["boxes"].numpy()) < NOISE


def test_the_spec_of_to_static(tmp_path: Path) -> None:
    net = paddle.jit.to_static(made(Plain), input_spec=SPEC, full_graph=True)
    ptq = PTQ("AbsmaxQuantizer")
    model = calibrated(ptq.quantize(net), IMAGES)
    ptq.save_quantized_model(model, str(tmp_path / "m"))
    assert Model.load(tmp_path / "m").feeds == ["x"]
    assert far(Model.load(tmp_path / "m").run([IMAGES[0]])[0], ran(model, IMAGES[0])) < NOISE
    with pytest.raises(ConfigError, match="Plain was given no input_spec; pass input_spec="):
        ptq.save_quantized_model(calibrated(ptq.quantize(made(Plain)), IMAGES), str(tmp_path / "n"))


class _Exported(nn.Layer):
    """As PaddleClas's ExportModel and PaddleDetection's deploying wrappers."""

    def __init__(self, base: nn.Layer) -> None:
        super().__init__()
        self.base = base

    def forward(self, x: Any) -> Any:
        return nn.functional.softmax(self.base(x), -1)


def test_a_layer_that_contains_the_network(tmp_path: Path) -> None:
    ptq = PTQ("AbsmaxQuantizer")
    whole = _Exported(calibrated(ptq.quantize(made(Plain), fuse=True, fuse_list=[["conv", "norm"]]), IMAGES))
    ptq.save_quantized_model(whole, str(tmp_path / "m"), paddle.to_tensor(IMAGES[0]))
    written, found = Model.load(tmp_path / "m"), ran(whole, IMAGES[0])
    assert far(written.run([IMAGES[0]])[0], found) < NOISE and written.op_counts()["batch_norm"] == 1
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-6)
    twice = nn.Sequential(whole.base, nn.Linear(5, 5))
    with pytest.raises(ConfigError, match="quantized already"):
        ptq.quantize(twice)


def test_the_network_stays_usable(tmp_path: Path) -> None:
    net, ptq = made(Plain), PTQ("AbsmaxQuantizer")
    model = calibrated(ptq.quantize(net), IMAGES)
    forward, state = type(model.forward), {k: v.numpy() for k, v in model.state_dict().items()}
    model.train()
    ptq.save_quantized_model(model, str(tmp_path / "one"), SPEC)
    assert model.training and model.norm.training and paddle.in_dynamic_mode() and type(model.forward) is forward
    model.eval()
    assert {k: v.tolist() for k, v in model.state_dict().items()} == {k: v.tolist() for k, v in state.items()}
    simulated = ran(model, IMAGES[1])
    ptq.save_quantized_model(model, str(tmp_path / "two"), SPEC)
    assert (tmp_path / "one.pdiparams").read_bytes() == (tmp_path / "two.pdiparams").read_bytes()
    assert str(Model.load(tmp_path / "one").program) == str(Model.load(tmp_path / "two").program)
    loss = model(paddle.to_tensor(IMAGES[0])).sum()
    loss.backward()
    assert model.conv.weight.grad is not None
    assert np.array_equal(ran(model, IMAGES[1]), simulated)
    assert np.array_equal(ran(ptq.convert(model), IMAGES[1]), simulated)


def test_a_network_that_cannot_be_traced_goes_on_observing(tmp_path: Path) -> None:
    class Opaque(Plain):
        def forward(self, x: Any) -> Any:
            if not paddle.in_dynamic_mode():
                raise ValueError("not today")
            return super().forward(x)

    ptq = PTQ()
    model = calibrated(ptq.quantize(made(Opaque)), IMAGES)
    expected = ran(model, IMAGES[0])
    with pytest.raises(ModelError, match="Opaque cannot be traced"):
        ptq.save_quantized_model(model, str(tmp_path / "m"), SPEC)
    assert np.array_equal(ran(model, IMAGES[0]), expected) and paddle.in_dynamic_mode() and not list(tmp_path.iterdir())


def test_paddles_own_jit_takes_the_simulation(tmp_path: Path) -> None:
    ptq = PTQ()
    model = ptq.convert(calibrated(ptq.quantize(made(Plain)), IMAGES))
    expected = ran(model, IMAGES[0])
    static = paddle.jit.to_static(model, input_spec=SPEC, full_graph=True)
    assert far(ran(static, IMAGES[0]), expected) < NOISE
    paddle.jit.save(static, str(tmp_path / "m"))
    assert far(ran(paddle.jit.load(str(tmp_path / "m")), IMAGES[0]), expected) < NOISE


def test_an_unknown_argument_of_save(tmp_path: Path) -> None:
    ptq = PTQ()
    with pytest.raises(ConfigError, match="no argument 'onnx'; it takes model, path, input_spec and onnx_format"):
        ptq.save_quantized_model(calibrated(ptq.quantize(made(Plain)), IMAGES), str(tmp_path / "m"), SPEC, onnx=1)


def _verified(tmp_path: Path, runtime: str) -> Any:
    """The row of the quantized model."""
    net = made(Plain)
    (tmp_path / "q").mkdir()
    _saved(net, tmp_path / "q", PTQ("AbsmaxQuantizer"), fuse=True)
    Model.from_layer(net, SPEC).save(tmp_path / "float")
    batches = [({"x": x}, [0, 0]) for x in IMAGES]
    report = verify(
        tmp_path / "float",
        tmp_path / "q" / "model",
        batches,
        runtimes=(runtime,),
        batch_sizes=(2,),
        latency_seconds=0.01,
    )
    assert [row.error for row in report.rows if row.error] == []
    return next(row for row in report.rows if row.precision == "int8")


def test_paddle_inference_computes_it_in_int8(tmp_path: Path) -> None:
    row = _verified(tmp_path, "paddle")
    assert row.against_simulated.relative < 0.1 and row.int8_primitives >= 2


@pytest.mark.lite
def test_paddle_lite_takes_it(tmp_path: Path) -> None:
    assert _verified(tmp_path, "lite-arm").size_bytes > 0
