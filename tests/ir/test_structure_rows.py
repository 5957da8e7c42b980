"""Rows of ops that no traced layer has, fed with hand-made ops."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, List

import pytest
from paddle.base import core

from slimkit.errors import TranslationError
from slimkit.ir.translate.builder import Builder
from slimkit.ir.translate.records import ParamRecord
from slimkit.ir.translate.tables import ROWS, TABLE_OF

FP32 = core.VarDesc.VarType.FP32


def value(key: str) -> Any:
    return SimpleNamespace(id=key, dtype=FP32, shape=[2], stop_gradient=False)


def op(full_name: str, operands: List[Any], results: List[Any], **attrs: Any) -> Any:
    return SimpleNamespace(
        name=full_name, full_name=full_name, operands=operands, results=results, attrs=attrs, where=lambda: "a test"
    )


@pytest.fixture
def builder() -> Builder:
    made = Builder(ROWS, TABLE_OF)
    for name in ("a", "b"):
        made.bind(value(name), made.variable(name, FP32, [2]))
    return made


def test_slice_takes_one_of_a_list(builder: Builder):
    ROWS["builtin.combine"].build(op("builtin.combine", [value("a"), value("b")], [value("list")]), builder)
    ROWS["builtin.slice"].build(op("builtin.slice", [value("list")], [value("second")], index=1), builder)
    assert builder.name_of(value("second")) == "b"


def test_shadow_output_is_a_fetch(builder: Builder):
    ROWS["builtin.shadow_output"].build(op("builtin.shadow_output", [value("b")], [], output_name="out"), builder)
    assert builder.fetches == ["b"]


def test_shadow_feed_is_its_operand(builder: Builder):
    ROWS["builtin.shadow_feed"].build(op("builtin.shadow_feed", [value("a")], [value("fed")]), builder)
    assert builder.name_of(value("fed")) == "a"


def test_feed_is_a_feed(builder: Builder):
    ROWS["pd_op.feed"].build(op("pd_op.feed", [], [value("x")], name="image"), builder)
    assert builder.feeds == ["image"]
    assert builder.block.variables["image"].is_feed


def test_fetch_is_a_fetch(builder: Builder):
    ROWS["pd_op.fetch"].build(op("pd_op.fetch", [value("a")], [value("r")], name="out", col=0), builder)
    assert builder.fetches == ["a"]


def test_set_parameter_writes_into_the_parameter(builder: Builder):
    builder.params["w"] = ParamRecord("w", FP32, [2], False)
    ROWS["builtin.set_parameter"].build(op("builtin.set_parameter", [value("a")], [], parameter_name="w"), builder)
    (record,) = builder.block.ops
    assert (record.type, record.inputs, record.outputs) == ("assign", {"X": ["a"]}, {"Out": ["w"]})


def test_set_parameter_of_nothing(builder: Builder):
    with pytest.raises(TranslationError, match="not a parameter"):
        ROWS["builtin.set_parameter"].build(op("builtin.set_parameter", [value("a")], [], parameter_name="v"), builder)


def test_a_list_is_no_tensor(builder: Builder):
    builder.bind(value("list"), ["a", "b"])
    with pytest.raises(TranslationError, match="a list of 2 tensors"):
        builder.name_of(value("list"))
