"""Batch norm goes into weights that are integers already; what the model computes on its grids stays."""

from __future__ import annotations

import numpy as np
import pytest
from small_programs import mobile_net
from test_freeze import FEED, _config, _train

from slimkit.ir import Model
from slimkit.quant import Quantized, export_program
from slimkit.quant.load_quantized import load_quantized
from slimkit.quant.passes.fold_on_grid import fold_on_grid


def _integers(quantized, fmt="onnx"):
    model = export_program(quantized.model, quantized.table, fmt)
    return {name: value.astype(int) for name, value in model.params.items() if value.dtype == np.int8}


@pytest.mark.parametrize("weight", ["channel_wise_abs_max", "abs_max"])
def test_the_integers_stay(weight):
    qat = _train(mobile_net(), FEED, "logits", _config(weight), steps=1)
    before = Quantized(qat.float_model(), qat.table())
    after = fold_on_grid(before)
    assert "batch_norm" in before.model.op_counts() and "batch_norm" not in after.model.op_counts()
    old, new = _integers(before), _integers(after)
    assert len(old) == len(new) and any(name.endswith(".folded") for name in new)
    for name, q in new.items():
        np.testing.assert_array_equal(np.abs(q), np.abs(old[name.replace(".folded", "")]))
    arrays = {name: FEED[name] for name in before.model.feeds}
    for fmt in ("onnx", "old"):
        wanted, found = (export_program(q.model, q.table, fmt).run(arrays)[0] for q in (before, after))
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    assert before.table.params.keys() != after.table.params.keys()  # the table given is as it was
    assert "batch_norm" in before.model.op_counts()


@pytest.mark.parametrize("name", ["post_onnx", "aware_old_4", "dygraph_onnx", "dynamic_8"])
def test_paddleslim_models(peers, reference, tmp_path, name):
    folded = fold_on_grid(load_quantized(peers / name))
    # where results before batch norm are read on a grid, as dygraph exports do, it must stay
    assert ("batch_norm" in folded.model.op_counts()) == (name == "dygraph_onnx")
    model = Model.load(export_program(folded.model, folded.table).save(tmp_path / "m"))
    np.testing.assert_allclose(model.run([reference["x"]])[0], reference[name], atol=2e-6)
    used = {key for op in folded.table.ops for key in (*op.inputs.values(), *op.outputs.values())}
    assert used == set(folded.table.params)
