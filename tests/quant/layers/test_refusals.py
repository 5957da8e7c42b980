"""What dygraph QAT and PTQ refuse, each in one sentence; inputs without elements, which Paddle's kernels crash on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable

import numpy as np
import paddle
import pytest
from paddle import nn

from slimkit.errors import ConfigError
from slimkit.quant.layers import PTQ, QAT

SPEC = [paddle.static.InputSpec([None, 3, 8, 8], "float32")]


def network() -> nn.Layer:
    return nn.Sequential(nn.Conv2D(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))


def trained() -> nn.Layer:
    net = network()
    QAT().quantize(net)
    net.train()
    net(paddle.randn([2, 3, 8, 8]))
    net.eval()
    return net


def refused(call: Callable[[], Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        call()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "config, sentence",
    [
        ({"weight_bitz": 8}, r"unknown key 'weight_bitz'; did you mean 'weight_bits'\?$"),
        ({"weight_quantize_type": "abs_maxx"}, r"allowed are abs_max, channel_wise_abs_max; did you mean 'abs_max'\?$"),
        ({"weight_bits": 8.5}, r"weight_bits = 8\.5: it must be a valid integer\.$"),
        ({"quantizable_layer_type": []}, r"is empty; name some of Conv2D, Conv2DTranspose, Linear"),
        ({"quantizable_layer_type": ["LSTM"]}, r"'LSTM' cannot be quantized; allowed are Conv2D"),
        ("config.yml", r"is a str; give a dict with the keys"),
    ],
)
def test_configs(config: Any, sentence: str) -> None:
    refused(lambda: QAT(config), sentence)


@pytest.mark.parametrize("kind", [QAT, PTQ])
def test_networks(kind: Any) -> None:
    for model in (None, nn.Linear, [network()], network().state_dict()):
        refused(lambda: kind().quantize(model), r"give a paddle\.nn\.Layer")  # noqa: B023
    refused(lambda: kind().quantize(nn.Sequential(nn.ReLU())), "has no layer to quantize")
    refused(lambda: kind().quantize(trained()), r"is quantized already; call quantize\(\) once")
    refused(lambda: kind().quantize(PTQ().quantize(network())), r"is quantized already; call quantize\(\) once")
    net = network()
    paddle.enable_static()
    try:
        refused(lambda: kind().quantize(net), r"static mode; call paddle\.disable_static\(\) first")
    finally:
        paddle.disable_static()


@pytest.mark.parametrize("spec", [[], {}, 3, "x", [1, 3, 8, 8], [[1, 3, 8, 8]], [None], [np.zeros([1, 3, 8, 8])]])
def test_input_specs(tmp_path: Path, spec: Any) -> None:
    net = trained()
    refused(lambda: QAT().save_quantized_model(net, str(tmp_path / "model"), spec), "input_spec holds no input, it is")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("path", ["", ".", "..", "folder/", None, 3])
def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    net = trained()
    refused(lambda: QAT().save_quantized_model(net, path, SPEC), "names no file; give folder and name in one")
    assert not list(tmp_path.iterdir())


def test_saving(tmp_path: Path) -> None:
    path = str(tmp_path / "model")
    refused(lambda: QAT().save_quantized_model(network(), path, SPEC), r"was not quantized; call quantize\(model\)")
    refused(lambda: QAT().save_quantized_model(trained(), path), r"was given no input_spec; pass input_spec=")
    refused(lambda: QAT().save_quantized_model(trained(), path, SPEC, clip=1), r"does not know 'clip'; it takes model")
    double = trained().to(dtype="float64")
    refused(lambda: QAT().save_quantized_model(double, path, SPEC), r"'0' is float64, and only float32 networks")
    net = trained()
    paddle.enable_static()
    try:
        refused(lambda: QAT().save_quantized_model(net, path, SPEC), "static mode; call")
    finally:
        paddle.disable_static()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("preprocess", ["PACT", None])
@pytest.mark.parametrize("kind", ["moving_average_abs_max", "range_abs_max", "abs_max"])
def test_inputs_without_elements(kind: str, preprocess: Any) -> None:
    """A detector's second stage for an image without proposals."""
    net = nn.Sequential(nn.Conv2D(3, 4, 3), nn.ReLU())
    QAT({"activation_quantize_type": kind, "activation_preprocess_type": preprocess}).quantize(net)
    net.train()
    net(paddle.zeros([0, 3, 8, 8])).sum().backward()
    x = paddle.randn([2, 3, 8, 8])
    out = net(x)  # the first batch that says something
    net.eval()
    assert net(paddle.zeros([0, 3, 8, 8])).shape == [0, 4, 6, 6]
    np.testing.assert_allclose(net(x).numpy(), out.numpy(), atol=1e-6)
