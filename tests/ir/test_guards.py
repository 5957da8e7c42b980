"""``legacy_ir`` leaves Paddle as it found it."""

from __future__ import annotations

import paddle
import pytest
from paddle.base import framework

from slimkit.ir import legacy_ir


def state() -> tuple:
    flags = paddle.get_flags(["FLAGS_enable_pir_api", "FLAGS_enable_pir_in_executor"])
    return (
        paddle.in_dynamic_mode(),
        framework.in_pir_mode(),
        tuple(flags.values()),
        paddle.static.Program,
        id(framework._dygraph_tracer()),
    )


def test_inside_it_is_static_and_legacy():
    with legacy_ir():
        assert not paddle.in_dynamic_mode()
        assert not framework.in_pir_mode()
        assert paddle.static.Program is framework.Program


def test_everything_is_restored():
    before = state()
    with legacy_ir():
        pass
    assert state() == before


def test_also_after_an_exception_and_nested():
    before = state()
    with pytest.raises(ZeroDivisionError), legacy_ir():
        with legacy_ir():
            pass
        assert not framework.in_pir_mode()
        raise ZeroDivisionError
    assert state() == before


def test_no_grad_survives():
    x = paddle.ones([2])
    x.stop_gradient = False
    with paddle.no_grad():
        with legacy_ir():
            pass
        assert (x * 2).stop_gradient
    assert not (x * 2).stop_gradient


def test_static_mode_of_the_caller_stays():
    paddle.enable_static()
    try:
        with legacy_ir():
            pass
        assert not paddle.in_dynamic_mode()
        assert framework.in_pir_mode()
    finally:
        paddle.disable_static()
