"""PaddleClas's MobileNetV3-large with the ``Slim`` settings of its quantization and prune configs."""

from __future__ import annotations

import copy
import zlib  # noqa: F401

import numpy as np
import paddle
import pytest
from ppcls_package import SIZE, arch, config_of, wrapped  # noqa: F401  (arch: a fixture)

from slimkit.deploy import lite, paddle_inference
from slimkit.ir import Model
from slimkit.quant.load_quantized import load_quantized
from slimkit.recipe.exporters import export_for

BATCH = np.random.default_rng(0).normal(size=(4, 3, SIZE, SIZE)).astype(np.float32)


def train(network, steps=3):
    """Momentum with weight decay on one batch, as in the configs."""
    optimizer = paddle.optimizer.Momentum(
        0.01, 0.9, parameters=network.parameters(), weight_decay=paddle.regularizer.L2Decay(2e-5)
    )
    labels = paddle.to_tensor(np.arange(4).reshape(-1, 1))
    network.train()
    for layer in network.sublayers():
        if hasattr(layer, "_momentum"):
            layer._momentum = 0.1  # statistics that few steps suffice for: eval mode must tell the images apart
    for _ in range(steps):
        paddle.nn.functional.cross_entropy(network(paddle.to_tensor(BATCH)), labels).backward()
        optimizer.step()
        optimizer.clear_grad()
    network.eval()


def differences(probabilities):
    """What a class's logit differs by between the images: no bias of the last layer's, no constant of the softmax."""
    found = np.log(probabilities)
    found -= found.mean(axis=1, keepdims=True)
    return found - found.mean(axis=0, keepdims=True)


@pytest.fixture(scope="module")
def quantized(arch, tmp_path_factory):  # noqa: F811
    """(trained network's probabilities, checkpoint, network of export mode, file prefix)."""
    paddle.seed(0)
    network = arch.build_model(config_of(quant={"name": "pact"}), mode="train")
    train(network)
    with paddle.no_grad():
        expected = paddle.nn.functional.softmax(network(paddle.to_tensor(BATCH))).numpy()
    checkpoint = {name: value.clone() for name, value in network.state_dict().items()}
    exported = arch.build_model(config_of(quant={"name": "pact"}), mode="export")
    exported = copy.deepcopy(exported)
    exported.set_dict(checkpoint)
    model = wrapped(arch, exported)
    prefix = str(tmp_path_factory.mktemp("ppcls") / "inference_int8")
    model.base_model.quanter.save_quantized_model(model, prefix)
    return expected, checkpoint, exported, prefix


def test_the_checkpoint_has_alpha_and_the_scale_that_is_exported(quantized):
    _, checkpoint, exported, _ = quantized
    alphas = [name for name in checkpoint if name.endswith("_act_preprocess.alpha")]
    assert len(alphas) == 65  # 15 blocks of 3, 8 squeeze-and-excitations of 2, the first and the last two, the fc
    assert not any("_act_preprocess" in name for name in exported.state_dict())  # export mode has no PACT
    moved = 0
    for name in alphas:
        scale = checkpoint[name.replace("_act_preprocess.alpha", "_fake_quant_input._scale")].item()
        assert scale == pytest.approx(checkpoint[name].item(), rel=0.05)  # alpha, one step later
        moved += scale != checkpoint[name].item()
    assert moved > 32


def test_the_export_is_the_trained_model(quantized):
    expected, _, _, prefix = quantized
    assert differences(expected).std() > 0.05  # there is something to compare
    np.testing.assert_allclose(Model.load(prefix).run([BATCH])[0], expected, rtol=1e-5, atol=1e-7)


def test_the_exported_network_is_usable_afterwards(quantized):
    expected, _, exported, _ = quantized
    assert paddle.in_dynamic_mode()
    found = paddle.nn.functional.softmax(exported(paddle.to_tensor(BATCH))).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_paddle_inference_runs_it_in_integers(quantized, tmp_path):
    expected, _, _, prefix = quantized
    written = export_for("paddle", load_quantized(prefix), tmp_path)
    found = paddle_inference.run(written, [[BATCH]], mode="int8")[0][0]
    agreement = np.corrcoef(differences(found).ravel(), differences(expected).ravel())[0, 1]
    assert agreement > 0.95, agreement  # 0.983 here; what squeeze-and-excitation got wrong would leave 0.69
    precision = paddle_inference.executed_precision(written, [BATCH])
    assert (precision["int8"], precision["float"]) == (65, 0), precision["summary"]
    assert precision["hazards"] == []


@pytest.mark.lite
def test_paddle_lite_takes_the_quantized_model(quantized, tmp_path):
    _, _, exported, prefix = quantized
    made = lite.convert(prefix, tmp_path / "arm", "arm")
    assert made.int8_kernels == 65
    assert made.size_bytes < 0.3 * sum(4 * parameter.size for parameter in exported.parameters())


@pytest.fixture(scope="module")
def pruned(arch, tmp_path_factory):  # noqa: F811
    """(trained network, file prefix, FLOPs before and after, pruned_flops)"""
    paddle.seed(0)
    network = arch.build_model(config_of(prune={"name": "fpgm", "pruned_ratio": 0.3}), mode="train")
    train(network)
    checkpoint = {name: value.clone() for name, value in network.state_dict().items()}
    exported = arch.build_model(config_of(prune={"name": "fpgm", "pruned_ratio": 0.3}), mode="export")
    exported = copy.deepcopy(exported)
    exported.set_dict(checkpoint)
    model = wrapped(arch, exported)
    prefix = str(tmp_path_factory.mktemp("ppcls") / "inference")
    paddle.jit.save(model, prefix)
    return network, prefix


def test_pruning_takes_half_of_the_flops(pruned):
    from paddleslim.analysis import dygraph_flops

    network, _ = pruned
    removed = 1 - dygraph_flops(network, [1, 3, SIZE, SIZE]) / 21_329_542  # of the whole network
    assert 0.45 < removed < 0.55
    assert network.pruner is not None and network.quanter is None


def test_the_pruned_export_is_the_trained_model(pruned, tmp_path):
    network, prefix = pruned
    with paddle.no_grad():
        expected = paddle.nn.functional.softmax(network(paddle.to_tensor(BATCH))).numpy()
    assert differences(expected).std() > 0.05
    model = Model.load(f"{prefix}.json")
    model.save(tmp_path / "legacy")
    np.testing.assert_allclose(model.run([BATCH])[0], expected, rtol=1e-5, atol=1e-7)
    found = paddle_inference.run(tmp_path / "legacy", [[BATCH]])[0][0]
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.lite
def test_paddle_lite_takes_the_pruned_model(pruned, tmp_path):
    network, prefix = pruned
    Model.load(f"{prefix}.json").save(tmp_path / "legacy")
    made = lite.convert(tmp_path / "legacy", tmp_path / "arm", "arm")
    assert made.kernels["conv2d"] == {"float": 49} and made.kernels["depthwise_conv2d"] == {"float": 15}
    assert made.size_bytes < 1.02 * sum(4 * parameter.size for parameter in network.parameters())
