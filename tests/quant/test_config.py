"""The quant config: PaddleSlim's keys and defaults, and one clear sentence for what is wrong."""

from __future__ import annotations

import pytest

from slimkit.errors import ConfigError
from slimkit.quant import PactConfig, QuantConfig
from slimkit.quant.ops import ACTIVATION_OPS, TENSORRT_OPS, WEIGHT_OPS


def test_defaults_are_paddleslims():
    config = QuantConfig.read(None)
    assert config == QuantConfig.read({}) == QuantConfig.read(QuantConfig())
    assert config.weight_quantize_type == "channel_wise_abs_max"
    assert config.activation_quantize_type == "moving_average_abs_max"
    assert (config.weight_bits, config.activation_bits, config.dtype) == (8, 8, "int8")
    assert (config.window_size, config.moving_rate) == (10000, 0.9)
    assert config.not_quant_pattern == ["skip_quant"] and config.scope_patterns() == ["skip_quant"]
    assert config.quantize_op_types == ["conv2d", "depthwise_conv2d", "mul"]
    assert not config.for_tensorrt and not config.is_full_quantize


def test_op_types():
    assert QuantConfig.read(None).op_types() == (["conv2d", "depthwise_conv2d", "mul"], [])
    full = QuantConfig.read({"is_full_quantize": True}).op_types()
    assert set(full[0]) == set(WEIGHT_OPS) and set(full[1]) == set(ACTIVATION_OPS) - set(WEIGHT_OPS)
    tensorrt = QuantConfig.read({"for_tensorrt": True}).op_types()
    assert sorted(tensorrt[0] + tensorrt[1]) == sorted(TENSORRT_OPS)
    mixed = QuantConfig.read({"quantize_op_types": ["pool2d", "conv2d", "conv2d"]}).op_types()
    assert mixed == (["conv2d"], ["pool2d"])


def test_one_pattern_may_be_a_string():
    assert QuantConfig.read({"not_quant_pattern": "head"}).scope_patterns() == ["head"]


@pytest.mark.parametrize(
    "values, words",
    [
        ({"weight_bit": 8}, ["weight_bit", "weight_bits"]),
        ({"activation_quantize_typ": "abs_max"}, ["activation_quantize_typ", "activation_quantize_type"]),
        ({"weight_bits": 1}, ["weight_bits", "2"]),
        ({"activation_bits": 17}, ["activation_bits", "16"]),
        ({"weight_bits": "8"}, ["weight_bits"]),
        ({"weight_quantize_type": "abs_maxx"}, ["weight_quantize_type", "abs_max"]),
        ({"activation_quantize_type": "channel_wise_abs_max"}, ["activation_quantize_type", "moving_average_abs_max"]),
        ({"quantize_op_types": ["conv2"]}, ["quantize_op_types", "conv2", "conv2d"]),
        ({"moving_rate": 1.0}, ["moving_rate"]),
        ({"window_size": 0}, ["window_size"]),
        ({"dtype": "int7"}, ["dtype", "int8"]),
        ({"deploy_backend": "gpu"}, ["deploy_backend", "tensorrt", "arm"]),
        ({"for_tensorrt": True, "weight_quantize_type": "abs_max"}, ["for_tensorrt", "channel_wise_abs_max"]),
        ({"rules": [{"name": ["x"]}]}, ["rules", "name", "names"]),
        ({"rules": [{"weight_bits": 40}]}, ["rules", "weight_bits", "16"]),
        ({"rules": {"skip": True}}, ["rules"]),
    ],
)
def test_a_bad_config_is_one_sentence(values, words):
    with pytest.raises(ConfigError) as caught:
        QuantConfig.read(values)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message and "pydantic" not in message and "https://" not in message, message
    assert len(message) < 400


@pytest.mark.parametrize(
    "values, words",
    [
        ({"form": "one_sided"}, ["form", "two_sided", "relu"]),
        ({"learning_rte": 0.1}, ["learning_rte", "learning_rate"]),
        ({"learning_rate": 0.0}, ["learning_rate"]),
        ({"optimizer": "lion"}, ["optimizer", "sgd", "adam"]),
        ({"init": "median"}, ["init", "mse"]),
        ({"percentile": 101.0}, ["percentile", "100"]),
        ({"l2": -1.0}, ["l2"]),
    ],
)
def test_a_bad_pact_config_is_one_sentence(values, words):
    with pytest.raises(ConfigError) as caught:
        PactConfig.read(values)
    assert all(word in str(caught.value) for word in words), str(caught.value)
    assert "\n" not in str(caught.value)


def test_defaults_are_not_shared():
    QuantConfig.read(None).quantize_op_types.append("pool2d")
    assert QuantConfig.read(None).quantize_op_types == ["conv2d", "depthwise_conv2d", "mul"]


def test_a_config_is_not_changed_in_place():
    with pytest.raises(Exception, match="frozen"):
        QuantConfig.read(None).weight_bits = 4


def test_not_a_mapping():
    with pytest.raises(ConfigError):
        QuantConfig.read([("weight_bits", 8)])
