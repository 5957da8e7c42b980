"""Embedding tables as integers."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from small_programs import Net, random, run

from slimkit.errors import ConfigError, ModelError
from slimkit.ir import Model
from slimkit.quant import export_program, quant_embedding
from slimkit.quant.load_quantized import read_quantized

IDS = np.array([0, 5, 3, 5])
PLACE = paddle.CPUPlace()


def _net(value, op="lookup_table_v2"):
    net = Net()
    shape = [-1, 1] if op == "lookup_table" else [-1]
    ids = net.data("ids", shape, "int64", grad=False)
    net.op(op, {"Out": "rows"}, {"padding_idx": -1}, W=net.param("emb", value), Ids=ids)
    net.relu("rows", "y")
    return net, {"ids": IDS.reshape(-1, 1) if op == "lookup_table" else IDS}


def _rows(net, program, feed):
    return run(program, net.scope, feed, ["rows"])[0]


@pytest.mark.parametrize("op", ["lookup_table", "lookup_table_v2"])
@pytest.mark.parametrize("named", ["lookup_table", "lookup_table_v2"])
@pytest.mark.parametrize("bits", [8, 16])
def test_abs_max(op, named, bits):
    value = random(1, 6, 4, size=0.3)
    net, feed = _net(value, op)
    before = _rows(net, net.program, feed)
    config = {"quantize_op_types": named, named: {"quantize_bits": bits, "dtype": f"int{bits}"}}
    program = quant_embedding(net.program, PLACE, config, net.scope)
    scale, top = np.abs(value).max(), 2 ** (bits - 1) - 1
    wanted = np.round(value / scale * top) / top * scale
    np.testing.assert_allclose(_rows(net, program, feed), wanted[IDS], rtol=1e-5, atol=1e-8)
    stored = net.value("emb.int")
    assert stored.dtype == (np.int8 if bits == 8 else np.int16) and np.abs(stored.astype(int)).max() == top
    assert "emb" not in program.global_block().vars  # the float table is not saved
    np.testing.assert_array_equal(_rows(net, net.program, feed), before)  # the program given is as it was


def test_log():
    value = np.exp(random(2, 6, 50, size=4.0)) * np.sign(random(3, 6, 50))
    net, feed = _net(value.astype("float32"))
    config = {"lookup_table_v2": {"quantize_type": "log"}}
    found = _rows(net, quant_embedding(net.program, PLACE, config, net.scope), feed)
    assert net.value("emb.int").dtype == np.int8
    error = np.abs(np.log2(np.abs(found)) - np.log2(np.abs(value[IDS])))
    covered = np.abs(value[IDS]) >= net.value("emb.dict").min() * 2**-0.0625
    assert error[covered].max() <= 0.0626 and covered.mean() > 0.9  # half a level of an eighth
    np.testing.assert_array_equal(np.sign(found), np.sign(value[IDS]))


def test_thresholds():
    value = random(1, 6, 4)
    value[2, 1] = 50
    net, _ = _net(value)
    quant_embedding(net.program, PLACE, {"lookup_table_v2": {"threshold": 2}}, net.scope)
    assert net.value("emb.scale") == np.float32(min(2, np.abs(value).max()))
    net, _ = _net(value)
    quant_embedding(net.program, PLACE, None, net.scope)
    assert net.value("emb.scale") == np.float32(np.percentile(np.abs(value), 99.99))


def test_one_table_of_two_lookups():
    net, feed = _net(random(1, 6, 4, size=0.2))
    net.op("lookup_table_v2", {"Out": "again"}, {"padding_idx": -1}, W="emb", Ids="ids")
    program = quant_embedding(net.program, PLACE, scope=net.scope)
    found = run(program, net.scope, feed, ["rows", "again"])
    np.testing.assert_array_equal(*found)
    assert sum(op.type == "dequantize_abs_max" for op in program.global_block().ops) == 2


@pytest.mark.parametrize(
    "config, sentence",
    [
        ({"quantize_op_types": ["conv2d"]}, r"'conv2d' is not an embedding op"),
        ({"lookup_table_v2": {"quantise_type": "log"}}, r"quantise_type.*did you mean 'quantize_type'"),
        ({"lookup_table_v2": {"quantize_bits": 4}}, r"quantize_bits = 4: allowed are 8 and 16"),
        ({"lookup_table_v2": {"quantize_bits": 16, "dtype": "int8"}}, r"16 bits are stored as int16"),
        ({"lookup_table_v2": {"quantize_type": "kmeans"}}, r"allowed are abs_max, log"),
        ({"lookup_table_v2": {"threshold": -1}}, r"above 0"),
        ({"lookup_table_v2": 8}, r"give a dict"),
    ],
)
def test_settings_that_are_refused(config, sentence):
    net, _ = _net(random(1, 6, 4))
    with pytest.raises(ConfigError, match=sentence):
        quant_embedding(net.program, PLACE, config, net.scope)


def test_a_table_of_nan_is_refused():
    net, _ = _net(np.full((6, 4), np.nan, "float32"))
    with pytest.raises(ModelError, match="'emb' holds NaN"):
        quant_embedding(net.program, PLACE, None, net.scope)


@pytest.mark.parametrize("kind", ["abs_max", "log"])
def test_stored_tables_load_as_float(tmp_path, kind):
    net, feed = _net(random(1, 6, 4, size=0.3))
    program = quant_embedding(net.program, PLACE, {"lookup_table_v2": {"quantize_type": kind}}, net.scope)
    stored = Model(program, net.scope, ["ids"], ["y"])
    wanted = stored.run(feed)[0]
    found = read_quantized(stored)
    np.testing.assert_allclose(found.model.run(feed)[0], wanted, rtol=1e-6)
    assert len(found.table) == (kind == "abs_max")
    if kind == "log":  # on no grid: nothing is left to quantize
        return
    for fmt in ("onnx", "old"):
        again = Model.load(export_program(found.model, found.table, fmt).save(tmp_path / fmt))
        np.testing.assert_allclose(again.run(feed)[0], wanted, rtol=1e-6)
        assert again.params["emb.int"].dtype == np.int8
