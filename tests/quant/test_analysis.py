"""Which layer hurts: every figure against programs exported whole, and a planted bad layer found."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import paddle
import pytest
from small_programs import CONV, Net, random

from slimkit import DataError, ModelError, TrainingError
from slimkit.ir import Graph, Model, legacy_ir
from slimkit.numerics import cosine, sqnr_db
from slimkit.quant import PtqConfig, Quantized, QuantizedOp, QuantTable, export_program, post_training_quantize
from slimkit.quant.analysis import analyze, leave_float, rank_layers, skip_rules
from slimkit.quant.analysis.errors import ResultErrors, grouped
from slimkit.quant.analysis.feeds import cut
from slimkit.quant.analysis.result import Analysis, Error, FloatStep
from slimkit.quant.analysis.subset import only
from slimkit.quant.capabilities import CAPABILITIES, Capability
from slimkit.quant.ptq_plan import make_plan

_WEIGHTS = ("conv2d", "matmul_v2")
#: Rows of these tests' own: real ones change with what runtimes are found to do.
ROWS = {
    "plain": Capability("plain", weight_ops=_WEIGHTS),
    "affine": Capability("affine", weight_ops=_WEIGHTS, activation_ops=("elementwise_add",), affine_activations=True),
}
POOL = {"pooling_type": "avg", "ksize": [1, 1], "adaptive": True, "strides": [1, 1], "paddings": [0, 0]}


@pytest.fixture(autouse=True)
def _rows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, row in ROWS.items():
        monkeypatch.setitem(CAPABILITIES, name, row)


def _net(results: int = 1) -> Model:
    """conv, a weight that two convolutions share, two residual adds in a row, pool, fc; one or two results."""
    net = Net()
    x = net.data("x", [-1, 3, 8, 8])
    y = net.relu(net.conv(x, random(0, 4, 3, 3, 3, size=0.3), "c1"), "r1")
    z = net.conv(y, random(2, 4, 4, 3, 3, size=0.2), "c2")
    s = net.relu(net.add(z, y, "s1"), "r2")
    z = net.op("conv2d", {"Output": "c3"}, CONV, Input=s, Filter="c2.w")
    s = net.add(net.add(z, s, "s2"), y, "s3")
    p = net.op("pool2d", {"Out": "p"}, POOL, X=s)
    f = net.op("reshape2", {"Out": "f", "XShape": "f.x"}, {"shape": [-1, 4]}, X=p)
    out = net.add(net.linear(f, random(3, 4, 5), "m"), net.param("b2", random(4, 5)), "out")
    return net.model(["x"], [out, "r2"][:results])


def _feeds() -> list:
    return [{"x": random(100 + i, 3, 3, 8, 8)} for i in range(2)]


def _quantized(runtime: str = "plain", results: int = 1) -> Quantized:
    return post_training_quantize(_net(results), _feeds(), [runtime]).quantized[runtime]


def _compared(quantized: Quantized, table: QuantTable, names: list) -> list:
    """(SQNR, cosine) of variables between the float model and one exported with a table, all batches as one array."""
    exported, found = export_program(quantized.model, table), []
    for name in names:
        a = np.concatenate([quantized.model.run(feed, [name])[0] for feed in _feeds()])
        b = np.concatenate([exported.run(feed, [name])[0] for feed in _feeds()])
        found.append((float(sqnr_db(a, b)), float(cosine(a, b))))
    return found


def _same(error: Error, wanted: tuple) -> None:
    assert error.sqnr_db == pytest.approx(min(wanted[0], 200.0), abs=1e-6)
    assert error.cosine == pytest.approx(wanted[1], abs=1e-9)


@pytest.mark.parametrize("runtime", ["plain", "affine"])
def test_every_error_is_that_of_a_program_exported_whole(runtime: str):
    """Symmetric grids, and affine ones with adds quantized too."""
    quantized = _quantized(runtime)
    table = quantized.table
    assert len(table.ops) == (4 if runtime == "plain" else 7)
    found = analyze(quantized, _feeds(), leave_float=0)
    whole = _compared(quantized, table, [row.output for row in found.layers])
    for row, op, accumulated in zip(found.layers, table.ops, whole):
        own, final = _compared(quantized, only(table, [op.output]), [op.output, "out"])
        _same(row.own, own)
        _same(row.final, final)
        _same(row.accumulated, accumulated)
        for kind, error in ((True, row.own_weight), (False, row.own_activation)):
            inputs = {slot: key for slot, key in op.inputs.items() if table.params[key].is_weight is kind}
            if inputs:
                part = QuantTable(table.params, [QuantizedOp(op.type, op.output, inputs)])
                _same(error, _compared(quantized, part, [op.output])[0])
            else:
                assert error == Error()
    _same(found.final, _compared(quantized, table, ["out"])[0])
    worst = sorted(found.layers, key=lambda row: row.final.sqnr_db)
    assert found.ranking == [row.output for row in worst]


def test_nothing_is_changed_by_the_analysis():
    quantized = _quantized()
    before = dict(quantized.model.params)
    table = quantized.table.to_dict()
    first = analyze(quantized, _feeds())
    assert quantized.table.to_dict() == table
    assert all(np.array_equal(value, quantized.model.params[name]) for name, value in before.items())
    second = analyze(quantized, _feeds())
    assert first.layers == second.layers and first.curve == second.curve


def test_small_batches_and_groups_give_the_same(monkeypatch: pytest.MonkeyPatch):
    """One sample at a time, and activations held for one op at a time."""
    from slimkit.quant.analysis import accumulated, feeds, isolated

    quantized = _quantized()
    wanted = analyze(quantized, _feeds())
    monkeypatch.setattr(feeds, "BATCH_VALUES", 3 * 8 * 8)
    for module in (accumulated, isolated):
        monkeypatch.setattr(module, "grouped", lambda wanted, size: grouped(wanted, size, 1))
    told: list = []
    found = analyze(quantized, _feeds(), progress=lambda *where: told.append(where))
    for a, b in zip(wanted.layers, found.layers):
        assert b.final.sqnr_db == pytest.approx(a.final.sqnr_db, abs=1e-3)
        assert b.accumulated.sqnr_db == pytest.approx(a.accumulated.sqnr_db, abs=1e-3)
    assert found.samples == wanted.samples == 6
    last = {name: (done, total) for name, done, total in told}
    assert last["each layer alone"] == (6 * 4, 6 * 4) and last["layers left float"] == (10, 10)  # 1 + 3 + 3 + 2 + 1


def test_groups_hold_no_more_than_asked():
    needs = {"a": ["x", "y"], "b": ["y", "z"], "c": ["w"], "d": ["x"]}
    size = {"x": 4, "y": 3, "z": 3, "w": 90}
    assert grouped(needs, size, 10) == [["a", "b"], ["c"], ["d"]]
    assert grouped(needs, size, 9) == [["a"], ["b"], ["c"], ["d"]]
    assert grouped({}, size, 9) == []


class _Loop(paddle.nn.Layer):
    def __init__(self):
        super().__init__()
        self.conv = paddle.nn.Conv2D(2, 2, 3, padding=1)
        self.last = paddle.nn.Conv2D(2, 3, 3)

    def forward(self, x):
        i = paddle.zeros([1], "int64")
        while i < 3:
            x = self.conv(x)
            i = i + 1
        return self.last(x)


def test_ops_inside_a_loop_are_measured_over_all_turns():
    paddle.seed(1)
    model = Model.from_layer(_Loop(), [paddle.static.InputSpec([None, 2, 6, 6], "float32", "x")])
    feed = {"x": random(3, 2, 2, 6, 6)}
    quantized = post_training_quantize(model, [feed], ["plain"]).quantized["plain"]
    found = analyze(quantized, [feed], leave_float=1)
    assert len(found.layers) == 2
    result = quantized.model.fetches[0]
    for op, row in zip(quantized.table.ops, found.layers):
        exported = export_program(quantized.model, only(quantized.table, [op.output]))
        wanted = float(sqnr_db(quantized.model.run(feed)[0], exported.run(feed, [result])[0]))
        assert row.final.sqnr_db == pytest.approx(wanted, abs=1e-6)
        for error in (row.own, row.own_weight, row.own_activation, row.accumulated):
            assert 10 < error.sqnr_db < 80


def test_a_bad_layer_is_found_and_left_float():
    quantized = _quantized()
    table = quantized.table
    bad = next(op for op in table.ops if op.output == "c2")
    key = bad.inputs["Input"]
    table.params[key] = replace(table.params[key], scale=table.params[key].scale * 0.02)  # clips nearly all
    found = analyze(quantized, _feeds(), leave_float=2)
    row = found.layer("c2")
    assert found.ranking[0] == "c2" and row.own_activation.sqnr_db < 5 < 30 < row.own_weight.sqnr_db
    assert row.activations[0].clipped > 0.4
    assert found.suggested == 1 and found.float_ops == ["c2"]
    assert found.curve[1].op == "c2" and found.curve[1].final.sqnr_db > found.curve[0].final.sqnr_db + 10
    config = PtqConfig(rules=found.rules)
    again = post_training_quantize(_net(), _feeds(), ["plain"], config).quantized["plain"].table
    assert {op.output for op in again.ops} == {op.output for op in table.ops} - {"c2"}


def test_each_step_leaves_the_one_float_that_helps_most():
    """Against every choice of the next three, exported whole; the last point is the float model."""
    quantized = _quantized("affine")
    found = analyze(quantized, _feeds(), leave_float=7)
    left: list = []
    for step in found.curve[1:]:
        ahead = [name for name in found.ranking if name not in left][:3]
        tables = {name: leave_float(quantized.table, [*left, name]) for name in ahead}
        wanted = {name: _compared(quantized, table, ["out"])[0][0] for name, table in tables.items()}
        assert step.op in ahead and min(200.0, max(wanted.values())) == pytest.approx(step.final.sqnr_db, abs=1e-6)
        left.append(step.op)
    assert len(left) == 7 and found.curve[-1].final.sqnr_db == 200.0


def test_results_are_compared_before_a_softmax_at_the_end():
    """Behind it, logits that differ by 50 hide everything."""
    net = Net()
    y = net.conv(net.data("x", [-1, 3, 8, 8]), random(0, 4, 3, 3, 3, size=5.0), "c1")
    f = net.op("flatten_contiguous_range", {"Out": "f", "XShape": "f.x"}, {"start_axis": 1, "stop_axis": 3}, X=y)
    logits = net.linear(f, random(3, 256, 5), "m")
    model = net.model(["x"], [net.op("softmax", {"Out": "out"}, {"axis": -1}, X=logits)])
    quantized = post_training_quantize(model, _feeds(), ["plain"]).quantized["plain"]
    fetched: list = []
    found = analyze(quantized, _feeds(), leave_float=1, metric=lambda q: fetched.append(q.model.fetches) or {"a": 1.0})
    for row in found.layers:
        _same(row.final, _compared(quantized, only(quantized.table, [row.output]), ["m"])[0])
    assert fetched == [["out"], ["out"]] and quantized.model.fetches == ["out"]
    assert rank_layers(quantized, _feeds()) == found.ranking


def test_the_metric_decides_how_many_layers_are_suggested():
    quantized = _quantized()
    scores = iter([0.5, 0.55, 0.8, 0.79])
    found = analyze(quantized, _feeds(), leave_float=3, metric=lambda _: {"top1": next(scores), "top5": 1.0})
    assert [step.metrics["top1"] for step in found.curve] == [0.5, 0.55, 0.8, 0.79]
    assert found.suggested == 2 and len(found.rules) >= 2
    flat = Analysis([], [], Error(), [FloatStep(0, "", Error(10.0)), FloatStep(1, "a", Error(10.3))])
    assert flat.suggested == 0 and flat.rules == []


@pytest.mark.parametrize("runtime", ["plain", "affine"])
def test_rules_leave_just_the_chosen_ops_float(runtime: str):
    """Any one and any two of them, with neighbours of the same type and a shared weight."""
    quantized = _quantized(runtime)
    everything = [op.output for op in quantized.table.ops]
    chosen = [list(some) for n in (1, 2, 3) for some in itertools.combinations(everything, n)]
    for some in chosen:
        rules = skip_rules(quantized.model, quantized.table, some)
        with legacy_ir():
            graph = Graph(quantized.model.program, for_test=True)
            plan = make_plan(graph, CAPABILITIES[runtime], PtqConfig(rules=rules), ["out"])
        assert [op.output for op in plan.ops] == [name for name in everything if name not in some], some
        kept = leave_float(quantized.table, some)
        assert [op.output for op in kept.ops] == [op.output for op in plan.ops]
        read = {key for op in kept.ops for key in (*op.inputs.values(), *op.outputs.values())}
        assert set(kept.params) == read
        assert [row["op"] for row in kept.skipped[len(quantized.table.skipped) :]] == [
            name for name in everything if name in some
        ]


def test_ranges_are_those_of_the_values():
    quantized = _quantized()
    table, model = quantized.table, quantized.model
    found = analyze(quantized, _feeds(), leave_float=0)
    for row, op in zip(found.layers, table.ops):
        for key in op.inputs.values():
            params = table.params[key]
            if params.is_weight:
                values, seen = model.params[params.tensor], row.weight
                assert seen.high == params.scale.max() and seen.clipped == 0.0
            else:
                values = np.concatenate([model.run(feed, [params.tensor])[0] for feed in _feeds()])
                seen = row.activations[0]
                assert (seen.low, seen.high) == (-params.scale[0], params.scale[0])
                assert seen.clipped == np.mean(np.abs(values) > params.scale[0] * (1 + 1e-6))
            counts = seen.histogram
            assert (counts.low, counts.high) == (values.min(), values.max())
            assert sum(counts.counts) == values.size
            exact = np.histogram(values, len(counts.counts))[0]  # bins of 1/2048 may fall to the neighbour
            assert np.abs(np.cumsum(exact) - np.cumsum(counts.counts)).max() <= 0.02 * values.size
    without = analyze(quantized, _feeds(), leave_float=0, histograms=False)
    assert all(row.weight.histogram is None for row in without.layers if row.weight)


def test_affine_ends_are_those_of_the_grid():
    quantized = _quantized("affine")
    found = analyze(quantized, _feeds(), leave_float=0)
    behind_relu = found.layer("c2").activations[0]
    assert behind_relu.low == 0.0 and behind_relu.high > 0


def test_results_weigh_the_same_and_odd_ones_are_left_out():
    errors = ResultErrors(["big", "small", "classes", "boxes"])
    big, small = random(1, 4, 5) * 1e3, random(2, 4, 5)
    exact = {"big": big, "small": small, "classes": np.arange(4), "boxes": random(3, 7, 4)}
    errors.add(exact, {"big": big * 1.1, "small": small * 1.1, "classes": np.zeros(4, int), "boxes": random(3, 6, 4)})
    assert errors.result().sqnr_db == pytest.approx(20.0, abs=1e-4)
    whole = ResultErrors(["classes"])
    whole.add({"classes": np.array([3, 4])}, {"classes": np.array([3, 3])})
    assert whole.result().sqnr_db == pytest.approx(10 * np.log10(25))
    assert ResultErrors([]).result() == Error()


def test_batches_are_cut_to_the_limit(monkeypatch: pytest.MonkeyPatch):
    from slimkit.quant.analysis import feeds

    model = _net()
    monkeypatch.setattr(feeds, "BATCH_VALUES", 2 * 3 * 8 * 8)
    batches = [{"x": np.full((5, 3, 8, 8), i, np.float32)} for i in range(3)]
    found = cut(model, iter(batches), 7)
    assert [len(feed["x"]) for feed in found] == [2, 2, 1, 2]
    assert [feed["x"][0, 0, 0, 0] for feed in found] == [0, 0, 0, 1]
    with pytest.raises(DataError, match="no sample"):
        cut(model, [])


def test_what_is_wrong_is_said_in_one_sentence():
    quantized = _quantized()
    with pytest.raises(DataError, match="no sample"):
        analyze(quantized, [])
    with pytest.raises(TrainingError, match=r"'x' cannot be analyzed: .*NaN"):
        analyze(quantized, [{"x": np.full((1, 3, 8, 8), np.nan, np.float32)}])
    with pytest.raises(ModelError, match="names no quantized op"):
        analyze(Quantized(quantized.model, QuantTable()), _feeds())
