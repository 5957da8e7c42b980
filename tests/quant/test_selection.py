"""Which ops are quantized: op types, name scopes, ordered rules, reasons."""

from __future__ import annotations

import paddle
import pytest
from small_programs import Net, mobile_net, random

from slimkit.ir import Graph
from slimkit.quant import QuantConfig
from slimkit.quant.ops import FLOAT_ONLY
from slimkit.quant.selection import select

TYPES = ["conv2d", "depthwise_conv2d", "matmul_v2"]


def _select(net, layers=None, **config):
    config.setdefault("quantize_op_types", TYPES)
    return select(Graph(net.program), QuantConfig.read(config), layers)


def _chosen(selection):
    return [item.op.output_names("Out" if item.op.type == "matmul_v2" else "Output")[0] for item in selection.chosen]


def _reasons(selection):
    return {row["op"]: row["reason"] for row in selection.skipped}


ALL = ["stem", "dw", "se.reduce", "se.expand", "project", "fc"]


def test_every_op_of_the_types_in_order():
    found = _select(mobile_net())
    assert _chosen(found) == ALL and found.skipped == [] and found.unused_rules == []
    first = found.chosen[0]
    assert first.weight.name == "stem.w" and first.weight_slot == "Filter" and first.weight_axis == 0
    assert [(slot, v.name) for slot, v in first.activations] == [("Input", "x")]
    assert (first.weight_bits, first.activation_bits) == (8, 8)


def test_backward_and_optimizer_ops_are_not_candidates():
    net = mobile_net()
    net.minimize(lambda: paddle.optimizer.Adam(0.1))
    found = _select(net, is_full_quantize=True)
    assert all(item.op.is_forward for item in found.chosen)
    assert not any("GRAD" in row["op"] for row in found.skipped)


@pytest.mark.parametrize("pattern", ["skip_quant", ["other", "skip_quant"]])
def test_name_scope(pattern):
    net = mobile_net()
    for op in net.block.ops:
        if op.type == "conv2d" and op.output("Output")[0] == "stem":
            op._set_attr("op_namescope", "/head/skip_quant/")
    found = _select(net, not_quant_pattern=pattern)
    assert _chosen(found) == ALL[1:]
    assert _reasons(found) == {"stem": f"{FLOAT_ONLY['scope']} 'skip_quant'"}
    assert _chosen(_select(net, not_quant_pattern=["nothing"])) == ALL


def test_rules_on_op_types_names_and_layers():
    found = _select(mobile_net(), rules=[{"op_types": ["depthwise_conv2d"], "skip": True}])
    assert _chosen(found) == [n for n in ALL if n != "dw"] and "rules[0]" in _reasons(found)["dw"]
    found = _select(mobile_net(), rules=[{"names": ["se.*"], "skip": True}])
    assert _chosen(found) == ["stem", "dw", "project", "fc"]
    layers = {"stem.w": "features.0.weight", "fc.w": "head.fc.weight"}
    found = _select(mobile_net(), layers, rules=[{"layers": ["head.*"], "skip": True}])
    assert _chosen(found) == ALL[:-1]
    assert found.skipped[0]["layer"] == "head.fc"


def test_all_patterns_of_a_rule_must_match():
    rule = {"op_types": ["conv2d"], "names": ["fc"], "skip": True}
    found = _select(mobile_net(), rules=[rule])
    assert _chosen(found) == ALL and len(found.unused_rules) == 1


def test_the_first_match_wins():
    rules = [
        {"names": ["stem"], "weight_bits": 4},
        {"op_types": ["conv2d"], "weight_bits": 2, "activation_bits": 5},
        {"op_types": ["conv2d"], "skip": True},
    ]
    found = _select(mobile_net(), rules=rules)
    bits = dict(zip(_chosen(found), [(i.weight_bits, i.activation_bits) for i in found.chosen]))
    assert bits["stem"] == (4, 8) and bits["project"] == (2, 5) and bits["fc"] == (8, 8)
    assert len(found.unused_rules) == 1 and "rules[2]" in found.unused_rules[0]


def test_a_rule_that_only_repeats_the_default_shields_from_later_ones():
    rules = [{"names": ["stem"]}, {"op_types": ["conv2d"], "skip": True}]
    assert _chosen(_select(mobile_net(), rules=rules)) == ["stem", "dw", "fc"]


def test_unused_rules_are_reported():
    found = _select(mobile_net(), rules=[{"names": ["nope*"], "skip": True}, {"names": ["stem"], "skip": True}])
    assert len(found.unused_rules) == 1
    assert "rules[0]" in found.unused_rules[0] and "nope*" in found.unused_rules[0]


def test_reasons():
    net = Net()
    x = net.data("x", [-1, 4, 6])
    net.data("ids", [-1, 4, 6], "int64", grad=False)
    bias = net.param("bias", random(1, 6))
    net.add(x, bias, "biased")
    net.op("matmul_v2", {"Out": "both"}, {"trans_x": False, "trans_y": True}, X=x, Y=x)
    net.op("scale", {"Out": "ints"}, {"scale": 1.0}, X="ids")
    net.linear(x, random(2, 6, 3), "p", trans_x=False, trans_y=False)
    net.block.ops[-1]._set_attr("skip_quant", True)
    types = ["elementwise_add", "matmul_v2", "scale", "mul"]
    found = _select(net, quantize_op_types=types)
    assert _chosen(found) == ["both"]
    reasons = _reasons(found)
    assert "parameter" in reasons["biased"]
    assert reasons["ints"] == FLOAT_ONLY["not_float"]
    assert "skip_quant" in reasons["p"]
    assert all(row["type"] and row["reason"] for row in found.skipped)


def test_a_computed_second_input_of_mul():
    net = Net()
    net.op("mul", {"Out": "y"}, {}, X=net.data("a", [4, 6]), Y=net.data("b", [6, 3]))
    (item,) = _select(net, quantize_op_types=["mul"]).chosen
    assert item.weight is None and [v.name for _, v in item.activations] == ["a", "b"]


def test_the_channel_axis_follows_the_transposition():
    for transposed, shape, axis in ((False, (6, 3), 1), (True, (3, 6), 0)):
        net = Net()
        net.linear(net.data("x", [-1, 6]), random(1, *shape), "y", trans_x=False, trans_y=transposed)
        assert _select(net).chosen[0].weight_axis == axis


def test_weights_that_are_not_matrices_stay_float():
    net = Net()
    x = net.data("x", [-1, 2, 4, 6])
    net.linear(x, random(1, 6), "vector", trans_x=False, trans_y=False)
    net.linear(x, random(1, 2, 6, 3), "stack", trans_x=False, trans_y=False)
    found = _select(net)
    assert found.chosen == [] and set(_reasons(found).values()) == {FLOAT_ONLY["no_matrix"]}


def test_layers_by_struct_name():
    net = mobile_net()
    for op in net.block.ops:
        if op.type == "matmul_v2":
            op._set_attr("struct_name", "/net/head/")
    found = _select(net, rules=[{"layers": ["net.head"], "skip": True}])
    assert _chosen(found) == ALL[:-1]
