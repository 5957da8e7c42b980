"""A model run in pieces: the values of a run in one, each op once, changes in between seen by what follows."""

from __future__ import annotations

import numpy as np
import pytest
from four_bits import batches, small_net
from small_programs import Net, mobile_net, random

from slimkit.errors import ModelError, TrainingError
from slimkit.quant.stepwise import Stepwise, keep_within, read_batches


def model_with_skips():
    net = mobile_net(train=False)
    return net.model(["x"], ["logits"]), [{"x": random(i, 2 + i, 3, 8, 8)} for i in range(3)]


def test_values_are_those_of_a_run_in_one():
    model, feeds = model_with_skips()
    wanted = ["stem", "dw", "se.reduce", "se", "project", "fc", "logits"]
    steps = Stepwise(model, feeds, wanted)
    assert steps.order(reversed(wanted)) == wanted
    for name in wanted:
        steps.advance(name)
        for feed, values in zip(feeds, steps.batches):
            assert values[name] == pytest.approx(model.run(feed, [name])[0], abs=1e-6)


def test_only_what_is_needed_later_is_kept():
    model, feeds = model_with_skips()
    steps = Stepwise(model, feeds, ["se.gate"])
    steps.advance("se.gate")
    assert set(steps.batches[0]) == {"se.gate", "dw.relu"}
    assert steps.bytes() == sum(v.nbytes for values in steps.batches for v in values.values())


def test_a_changed_weight_and_a_changed_value_are_seen_by_what_follows():
    model, feeds = small_net(), batches(2)
    steps = Stepwise(model, feeds, ["a.relu", "e.biased"])
    steps.advance("a.relu")
    for values in steps.batches:
        values["a.relu"] = values["a.relu"] * 2
    model.params["c.w"] = model.params["c.w"] / 2
    steps.advance("e.biased")
    changed = small_net()
    changed.params["a.w"] = changed.params["a.w"] * 2
    changed.params["a.b"] = changed.params["a.b"] * 2
    changed.params["c.w"] = changed.params["c.w"] / 2
    for feed, values in zip(feeds, steps.batches):
        assert values["e.biased"] == pytest.approx(changed.run(feed)[0], rel=1e-4, abs=1e-5)


def test_every_op_runs_once(monkeypatch):
    model, feeds = model_with_skips()
    ran = []
    monkeypatch.setattr(
        Stepwise, "_run", lambda self, values, fetches, real=Stepwise._run: _counted(self, values, fetches, real, ran)
    )
    steps = Stepwise(model, feeds[:1], ["stem", "dw", "project", "logits"])
    for name in ("stem", "dw", "project", "logits"):
        steps.advance(name)
    assert sorted(ran) == sorted(op.output_arg_names[0] for op in model.program.global_block().ops)


def _counted(self, values, fetches, real, ran):
    found = real(self, values, fetches)
    ran += [op.output_arg_names[0] for op in self._program.global_block().ops if op.type not in ("feed", "fetch")]
    return found


def test_a_feed_and_a_tensor_known_already_need_no_run():
    model, feeds = small_net(), batches(1)
    steps = Stepwise(model, feeds, ["x", "a", "b"])
    steps.advance("x")
    steps.advance("b")
    assert np.array_equal(steps.batches[0]["x"], feeds[0]["x"])
    steps.advance("a")
    steps.release("a")
    steps.release("x")
    steps.advance("c")
    assert set(steps.batches[0]) == {"b", "c"}
    with pytest.raises(ModelError, match="'a' was computed earlier and is not kept"):
        steps.advance("a")


def test_batches_are_read_as_far_as_they_fit():
    feeds = [{"x": np.zeros(100, np.float32), "label": np.zeros(9)} for _ in range(10)]
    assert len(read_batches(feeds, ["x"])) == 10
    held = read_batches(feeds, ["x"], budget=2400)
    assert len(held) == 3 and set(held[0]) == {"x"}
    assert len(read_batches(feeds, ["x"], budget=1)) == 1
    with pytest.raises(TrainingError, match="no batch"):
        read_batches([], ["x"])


def test_last_batches_are_left_out_when_memory_is_short():
    model, feeds = small_net(), batches(4)
    one, other = Stepwise(model, feeds, ["a"]), Stepwise(model, feeds, ["a"])
    one.advance("a")
    keep_within(one.bytes() + other.bytes(), one, other)
    assert len(one.batches) == len(other.batches) == 4
    keep_within((one.bytes() + other.bytes()) // 2, one, other)
    assert len(one.batches) == len(other.batches) == 2
    keep_within(0, one, other)
    assert len(one.batches) == len(other.batches) == 1 and np.array_equal(other.batches[0]["x"], feeds[0]["x"])


def test_what_is_wrong_is_said():
    model, feeds = small_net(), batches(1)
    with pytest.raises(ModelError, match="does not compute a tensor 'nothing'"):
        Stepwise(model, feeds, []).advance("nothing")
    with pytest.raises(ModelError, match="failed while it was run in pieces"):
        Stepwise(model, [{"x": np.zeros((1, 2, 12, 12), np.float32)}], ["a"]).advance("a")


def test_control_flow_is_not_cut():
    from slimkit.ir import legacy_ir

    net = Net()
    x = net.data("x", [-1, 4])
    y = net.linear(x, random(1, 4, 4), "a", trans_x=False, trans_y=False)
    net.linear(y, random(2, 4, 3), "b", trans_x=False, trans_y=False)
    model, feeds = net.model(["x"], ["b"]), [{"x": random(3, 2, 4)}]
    with legacy_ir():
        net.program._create_block()
        net.program._rollback()
    steps = Stepwise(model, feeds, ["a", "b"])
    for name in ("a", "b"):
        steps.advance(name)
        assert steps.batches[0][name] == pytest.approx(model.run(feeds[0], [name])[0])
