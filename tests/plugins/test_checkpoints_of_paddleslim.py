"""Checkpoints that PaddleSlim 2.6 made, ``assets/paddleslim_qat.zip``, in slimkit's quantized networks.

The other way round was checked by hand: ``python tests/plugins/test_checkpoints_of_paddleslim.py FOLDER`` writes
slimkit's checkpoints, and with PaddleSlim's interpreter ``python tests/assets/make_paddleslim_qat.py load
FOLDER/reference.npz`` loads them there. Of what PaddleSlim's network needs only the ranges of layers' outputs are
missing, which nothing that was trained depends on, and in ``old_format`` batch norms have another path there; the rest
computes what slimkit's network does: error 0.0 on paddlepaddle 2.6.2.
"""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path
from typing import Any, Dict

import numpy as np
import paddle
import pytest

from slimkit import Model, load_quantized
from slimkit.quant.layers import QAT

ASSETS = Path(__file__).parent.parent / "assets"


def _maker() -> Any:
    spec = importlib.util.spec_from_file_location("make_paddleslim_qat", ASSETS / "make_paddleslim_qat.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


maker = _maker()
SPEC = [paddle.static.InputSpec([None, 3, 8, 8], "float32")]


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("theirs")
    with zipfile.ZipFile(ASSETS / "paddleslim_qat.zip") as archive:
        archive.extractall(folder)
    return Path(folder)


def own_keys(state: Dict[str, Any], kind: str) -> Dict[str, Any]:
    """PaddleSlim's keys as slimkit's; with ``onnx_format: False`` it wraps what is not quantized too."""
    if kind != "old_format":
        return state
    quantized = {key.split("._layer.")[0] for key in state if "._fake_quant_" in key}
    return {key if key.split(".")[0] in quantized else key.replace("._layer.", "."): state[key] for key in state}


@pytest.mark.parametrize("kind", maker.KINDS)
def test_paddleslims_checkpoint(theirs: Path, tmp_path: Path, kind: str) -> None:
    """Every key is there, the network computes what theirs did, the export has their scales."""
    reference = np.load(theirs / "reference.npz")
    net = maker.Network()
    quanter = maker.quantizer(kind, QAT)
    quanter.quantize(net)
    state = own_keys(paddle.load(str(theirs / f"{kind}.pdparams")), kind)
    missing = [key for key in net.state_dict() if key not in state]
    assert not missing
    assert not [key for key in state if key not in net.state_dict() and "._ma_output_scale." not in key]
    net.set_state_dict(state)
    net.eval()
    x, expected = reference["x"], reference[f"{kind}.trained"]
    np.testing.assert_allclose(net(paddle.to_tensor(x)).numpy(), expected, rtol=1e-6, atol=1e-7)

    quanter.save_quantized_model(net, str(tmp_path / "model"), SPEC)
    (found,) = Model.load(tmp_path / "model").run([x])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    own, other = load_quantized(tmp_path / "model").table, load_quantized(theirs / kind).table
    partners = {op.type: op for op in other.ops if len(op.inputs) == 2}  # theirs has ranges of outputs besides
    assert [op.type for op in own.ops] == ["conv2d", "depthwise_conv2d", "conv2d_transpose", "matmul_v2"]
    for op in own.ops:
        for slot, tensor in op.inputs.items():
            partner = other.params[partners[op.type].inputs[slot]]
            np.testing.assert_allclose(own.params[tensor].scale, partner.scale, rtol=1e-6)
            assert own.params[tensor].axis == partner.axis and own.params[tensor].bits == partner.bits == 8

    net.train()  # training goes on from there: ranges move on, they do not start anew
    before = net.state_dict()["conv._layer._fake_quant_input._scale"].item()
    net(paddle.to_tensor(x))
    after = net.state_dict()["conv._layer._fake_quant_input._scale"].item()
    assert 0 < abs(after - before) < 0.2 * before or kind == "pact"  # there alpha is the range


def write(folder: Path) -> None:
    """Checkpoints of slimkit, for PaddleSlim to load."""
    arrays = {"x": maker.images(9)}
    for kind in maker.KINDS:
        net = maker.Network()
        maker.quantizer(kind, QAT).quantize(net)
        maker.train(net)
        paddle.save({key: value.numpy() for key, value in net.state_dict().items()}, str(folder / f"{kind}.pdparams"))
        arrays[f"{kind}.trained"] = net(paddle.to_tensor(arrays["x"])).numpy()
    np.savez(folder / "reference.npz", **arrays)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
