"""Every row of the PIR -> ProgramDesc table against Paddle's own dygraph run of the same function."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, List

import cases_image  # noqa: F401
import cases_math  # noqa: F401
import cases_quant  # noqa: F401
import cases_shape  # noqa: F401
import cases_task  # noqa: F401
import numpy as np
import paddle
import pytest
from casebook import CASES, Case
from comparing import relative, tensors
from paddle import nn
from paddle.static import InputSpec

from slimkit.errors import TranslationError
from slimkit.ir import Model, legacy_ir
from slimkit.ir.tracing import trace
from slimkit.ir.translate.attributes import Attributes
from slimkit.ir.translate.tables import ROWS
from slimkit.ir.translate.tables import TABLE_OF as FILES

#: Rows that only a PIR file or a loaded program has; tests of those are elsewhere.
ELSEWHERE = {
    "pd_op.feed": "test_loading",
    "pd_op.fetch": "test_loading",
    "builtin.shadow_output": "test_structure_rows",
    "builtin.shadow_feed": "test_structure_rows",
    "builtin.set_parameter": "test_structure_rows",
    "builtin.slice": "test_structure_rows",
    "pd_op.sync_batch_norm_": "test_sync_batch_norm_is_batch_norm",
}

ALL = [(name, index) for name in CASES for index in range(len(CASES[name]))]


def spec_of(one: Case) -> List[InputSpec]:
    shapes = one.shapes or [array.shape for array in one.inputs]
    return [InputSpec(list(s), str(a.dtype), f"in{i}") for i, (a, s) in enumerate(zip(one.inputs, shapes))]


def names_in(block: Any) -> set:
    found = set()
    for op in block.ops:
        found.add(op.name())
        for inner in op.blocks():
            found |= names_in(inner)
    return found


def expected_outputs(made: Any, one: Case) -> List[np.ndarray]:
    if isinstance(made, nn.Layer):
        made.train() if one.train else made.eval()
    with paddle.no_grad():
        found = (one.expect or made)(*[paddle.to_tensor(array) for array in one.inputs])
    return tensors(found)


def test_every_row_has_a_case():
    missing = sorted(set(ROWS) - set(CASES) - set(ELSEWHERE))
    assert not missing, f"rows without a test case: {missing}"


def test_rows_name_real_slots():
    from paddle.base.framework import OpProtoHolder

    for row in ROWS.values():
        if row.build is not None:
            continue
        proto = OpProtoHolder.instance().get_op_proto(row.legacy)
        types = Attributes().types(row.legacy)
        inputs, outputs = {i.name for i in proto.inputs}, {o.name for o in proto.outputs}
        for fold in row.folds.values():
            assert {fold.tensor, fold.tensors} - {None} <= inputs, row.full_name
            assert fold.attr in types, row.full_name
        assert set(row.inputs.values()) <= inputs, row.full_name
        assert set(row.outputs.values()) <= outputs, row.full_name
        assert set(row.attrs.values()) <= set(types), row.full_name
        assert set(row.constants) <= set(types), row.full_name
        assert FILES[row.full_name].startswith("tables/")


@pytest.mark.parametrize(("name", "index"), ALL, ids=[f"{name}-{index}" for name, index in ALL])
def test_row(name: str, index: int, tmp_path: Path):
    one = CASES[name][index]
    paddle.seed(5)
    made = one.make()
    traced = trace(made, spec_of(one), train=one.train)
    present = names_in(traced.program.global_block())
    assert name in present or f"{name}_" in present, f"the case does not exercise {name}: {sorted(present)}"
    model = Model.from_layer(made, spec_of(one), train=one.train)
    found = model.run(list(one.inputs))
    expected = expected_outputs(made, one)
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        if one.values:
            assert relative(a, b) < 1e-5
    if not one.train:
        check_saved(model, one, found, tmp_path)
    if one.grad:
        check_gradient(made, one)


def check_saved(model: Model, one: Case, expected: List[np.ndarray], folder: Path) -> None:
    """Saved and loaded again, the model gives the same."""
    model.save(folder / "m")
    loaded = Model.load(folder)
    feed = {name: array for name, array in zip(model.feeds, one.inputs) if name in loaded.feeds}
    for a, b in zip(loaded.run(feed), expected):
        assert a.shape == b.shape
        if one.values:
            np.testing.assert_array_equal(a, b)


def check_gradient(made: Any, one: Case) -> None:
    """The gradient of the sum of squares of the first result with respect to the first input."""

    class Net(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.made = made
            self.shift = self.create_parameter(one.inputs[0].shape, default_initializer=nn.initializer.Constant(0.0))

        def forward(self, *inputs: Any) -> Any:
            found = self.made(inputs[0] + self.shift, *inputs[1:])
            first = found[0] if isinstance(found, (list, tuple)) else found
            return (first * first).sum()

    net = Net()
    name = net.shift.name
    model = Model.from_layer(net, spec_of(one), train=one.train)
    with legacy_ir(), paddle.static.program_guard(model.program):
        loss = model.program.global_block().var(model.fetches[0])
        paddle.base.backward.append_backward(loss, parameter_list=[name])
    (found,) = model.run(list(one.inputs), fetch=[f"{name}@GRAD"])
    net.train() if one.train else net.eval()
    net(*[paddle.to_tensor(array) for array in one.inputs]).backward()
    assert relative(found, net.shift.grad.numpy()) < 1e-4


def test_unknown_op_is_named_with_its_layer():
    class Odd(nn.Layer):
        def forward(self, x: Any) -> Any:
            return paddle.linalg.svd(x)[0]

    class Net(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.odd = Odd()

        def forward(self, x: Any) -> Any:
            return self.odd(x)

    with pytest.raises(TranslationError) as caught:
        Model.from_layer(Net(), [InputSpec([3, 3], "float32", "x")])
    message = str(caught.value)
    assert "pd_op.svd" in message
    assert "/Odd/" in message
    assert "slimkit/ir/translate/tables/" in message
    assert "test_translate.py" in message
    assert "\n" not in message


def test_sync_batch_norm_is_batch_norm():
    """Paddle traces it on a GPU only, so its row is compared, not run."""
    sync, plain = ROWS["pd_op.sync_batch_norm_"], ROWS["pd_op.batch_norm"]
    assert dataclasses.replace(sync, pir=plain.pir) == plain


def test_names_are_deterministic():
    def names() -> List[str]:
        net = nn.Sequential(nn.Conv2D(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
        model = Model.from_layer(net, [InputSpec([-1, 3, 8, 8], "float32", "x")])
        params = set(model.params)
        return [name for op in model.program.global_block().ops for name in op.output_arg_names if name not in params]

    first = names()
    paddle.utils.unique_name.generate("conv2d")
    assert names() == first
    assert "conv2d_0.tmp_0" in first


def test_conv_bias_is_one_add_along_channels():
    model = Model.from_layer(nn.Conv2D(3, 4, 3), [InputSpec([-1, 3, 8, 8], "float32", "x")])
    assert model.op_counts() == {"conv2d": 1, "elementwise_add": 1}
    add = model.program.global_block().ops[1]
    assert add.attr("axis") == 1
    assert add.input("Y")[0].endswith(".b_0")
