"""Taps see what fetching would give, in blocks too, and pass errors on."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from slimkit import ModelError
from slimkit.ir import Model
from slimkit.ir.taps import _ACTIVE, Taps

SPEC = [paddle.static.InputSpec([None, 4], "float32", "x")]


def _chain() -> Model:
    paddle.seed(0)
    layer = paddle.nn.Sequential(paddle.nn.Linear(4, 3), paddle.nn.ReLU(), paddle.nn.Linear(3, 2))
    return Model.from_layer(layer, SPEC)


def test_taps_see_what_fetching_gives():
    model = _chain()
    names = [op.output_arg_names[0] for op in model.program.global_block().ops]
    seen: dict = {}
    x = np.random.RandomState(0).randn(5, 4).astype("float32")
    with Taps(
        model, {n: lambda v, n=n: seen.__setitem__(n, v.copy()) for n in [*names, "x"]}, fetches=model.fetches
    ) as taps:
        result = taps.run({"x": x})
    for name, value in zip(names, model.run([x], names)):
        np.testing.assert_array_equal(seen[name], value)
    np.testing.assert_array_equal(seen["x"], x)
    np.testing.assert_array_equal(result[0], model.run([x])[0])


class _Loop(paddle.nn.Layer):
    def forward(self, x):
        i = paddle.zeros([1], "int64")
        while i < 3:
            x = paddle.nn.functional.relu(x * 2.0)
            i = i + 1
        return x


def test_the_inside_of_a_loop_is_seen_in_every_turn():
    model = Model.from_layer(_Loop(), SPEC)
    inner = [
        op.output_arg_names[0] for block in model.program.blocks[1:] for op in block.ops if op.type == "relu"
    ]
    assert len(inner) == 1
    sums = []
    with Taps(model, {inner[0]: lambda v: sums.append(float(v.sum()))}) as taps:
        taps.run({"x": np.ones((1, 4), "float32")})
    assert sums == [8.0, 16.0, 32.0]


def test_an_error_of_a_tap_is_raised_and_the_taps_go_on():
    model = _chain()
    calls = []

    def tap(value):
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("the first")

    x = {"x": np.ones((1, 4), "float32")}
    with Taps(model, {model.fetches[0]: tap}) as taps:
        with pytest.raises(ValueError, match="the first"):
            taps.run(x)
        taps.run(x)
    assert len(calls) == 2


def test_functions_are_let_go_and_slots_used_again():
    model = _chain()
    before = dict(_ACTIVE)
    for _ in range(3):
        with Taps(model, {model.fetches[0]: lambda v: None}) as taps:
            taps.run({"x": np.ones((1, 4), "float32")})
    assert before == _ACTIVE


def test_two_at_a_time():
    model, seen = _chain(), []
    with Taps(model, {model.fetches[0]: lambda v: seen.append("a")}) as a:
        with Taps(model, {model.fetches[0]: lambda v: seen.append("b")}) as b:
            b.run({"x": np.ones((1, 4), "float32")})
        a.run({"x": np.ones((1, 4), "float32")})
    assert seen == ["b", "a"]


def test_unknown_tensors_and_wrong_feeds_are_named():
    model = _chain()
    with pytest.raises(ModelError, match="no variable 'nothing'"):
        Taps(model, {"nothing": lambda v: None})
    with Taps(model, {model.fetches[0]: lambda v: None}) as taps:
        with pytest.raises(ModelError, match="lacks x"):
            taps.run({})
        with pytest.raises(ModelError, match=r"feeds of shape \{'x': \[1, 7\]\}"):
            taps.run({"x": np.ones((1, 7), "float32")})
