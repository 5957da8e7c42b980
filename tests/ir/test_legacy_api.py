"""Paddle 3's functions on legacy Variables: what they compute, where their ops go, and that nothing stays switched."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import legacy_survey as survey
import numpy as np
import paddle
import pytest
from paddle.base import framework

import slimkit
from slimkit.errors import TranslationError
from slimkit.ir import legacy_api, legacy_ir

#: What ``python tests/ir/legacy_survey.py`` says works, and what of it CI runs: builtins, methods, operators.
APIS = (
    "paddle.multiply", "paddle.matmul", "paddle.sum", "paddle.maximum", "paddle.tanh", "paddle.abs", "paddle.argmax",
    "paddle.logsumexp", "paddle.isclose", "paddle.roll", "paddle.tril", "paddle.logical_and", "paddle.amax",
    "paddle.greater_than", "paddle.expand_as", "paddle.index_put", "paddle.max", "paddle.split", "paddle.concat",
    "F.sigmoid", "F.gelu", "F.softplus", "F.grid_sample", "F.log_softmax", "F.normalize",
    "F.softmax_with_cross_entropy", "F.interpolate", "F.scaled_dot_product_attention", "paddle.metric.accuracy",
    "paddle.linalg.solve",
    "Variable.sum", "Variable.sqrt", "Variable.matmul", "Variable.round", "Variable.__abs__", "Variable.__matmul__",
    "Variable.__getitem__", "Variable.__rsub__", "Variable.__mod__", "Variable.__invert__", "Variable.__ge__",
)  # fmt: skip


@pytest.fixture
def accepting():
    with legacy_api.accepting_variables(), legacy_ir(), paddle.utils.unique_name.guard():
        with paddle.static.program_guard(paddle.static.Program(), paddle.static.Program()):
            yield


@pytest.mark.parametrize("api", APIS)
def test_functions_compute_what_dynamic_mode_does(api):
    case = survey.case_of(api)
    assert case is not None
    with legacy_api.accepting_variables():
        assert survey.problem(case) is None


@pytest.mark.slow
def test_survey():
    """The figure of docs/static_scripts.md."""
    with legacy_api.accepting_variables():
        problems = [case.expression for case in survey.cases() if survey.problem(case) is not None]
    assert len(problems) <= 55


def _gradients(build, names, arrays):
    """Paddle's own append_backward, and central differences, of a scalar."""
    main, startup = paddle.static.Program(), paddle.static.Program()
    with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
        feeds = [paddle.static.data(name, a.shape, a.dtype) for name, a in zip(names, arrays)]
        for feed in feeds:
            feed.stop_gradient = False
        loss = build(*feeds)
        grads = paddle.static.gradients([loss], feeds)
    run = paddle.static.Executor(paddle.CPUPlace()).run
    with paddle.static.scope_guard(paddle.static.Scope()):
        found = run(main, feed=dict(zip(names, arrays)), fetch_list=grads)

        def value(changed):
            return float(run(main, feed=dict(zip(names, changed)), fetch_list=[loss])[0])

        differences = []
        for k, array in enumerate(arrays):
            slope = np.zeros_like(array)
            for place in np.ndindex(array.shape):
                ends = []
                for step in (1e-5, -1e-5):
                    moved = [a.copy() for a in arrays]
                    moved[k][place] += step
                    ends.append(value(moved))
                slope[place] = (ends[0] - ends[1]) / 2e-5
            differences.append(slope)
    return found, differences


@pytest.mark.parametrize(
    "build",
    [
        lambda x, y: paddle.sum(paddle.multiply(paddle.tanh(x), F.sigmoid(y))),
        lambda x, y: paddle.matmul(x, y, transpose_y=True).exp().sum(),
        lambda x, y: (paddle.maximum(x, y) * x.square() / (paddle.abs(y) + 1)).mean(),
        lambda x, y: paddle.logsumexp(paddle.sqrt(x * x + 1) - F.gelu(y), axis=1).sum(),
    ],
)
def test_gradients_are_the_slopes(accepting, build):
    rng = np.random.default_rng(0)
    found, slopes = _gradients(build, ["x", "y"], [rng.normal(size=(2, 3)), rng.normal(size=(2, 3))])
    for ours, slope in zip(found, slopes):
        np.testing.assert_allclose(ours, slope, rtol=1e-6, atol=1e-7)


F = paddle.nn.functional


def test_ops_go_to_the_current_block_with_its_marks(accepting):
    x = paddle.static.data("x", [-1, 4])
    with paddle.static.device_guard("cpu"), paddle.static.name_scope("skip_quant"):
        product = paddle.multiply(x, x, name="mine")
    block = paddle.static.default_main_program().global_block()
    assert [op.type for op in block.ops] == ["elementwise_mul"]
    assert product.name == "mine.tmp_0" and product.shape == (-1, 4) and product.block is block
    assert block.ops[0].attr("op_namescope") == "/skip_quant/"
    assert block.ops[0].attr("op_device") == "cpu"
    assert F.sigmoid(x).name == "sigmoid_0.tmp_0"


def test_functions_within_branches(accepting):
    x = paddle.static.data("x", [3])
    chosen = paddle.static.nn.cond(paddle.sum(x) > 0, lambda: paddle.tanh(x), lambda: paddle.multiply(x, x))
    count = paddle.full([1], 0, "int64")
    (count, total) = paddle.static.nn.while_loop(
        lambda i, _: i < 3, lambda i, s: [i + 1, paddle.maximum(s, paddle.exp(x))], [count, x * 0]
    )
    run = paddle.static.Executor(paddle.CPUPlace()).run
    for array in (np.array([1, 2, 3], "float32"), np.array([-1, -2, -3], "float32")):
        branch, loop = run(paddle.static.default_main_program(), feed={"x": array}, fetch_list=[chosen, total])
        np.testing.assert_allclose(branch, np.tanh(array) if array.sum() > 0 else array**2, rtol=1e-6)
        np.testing.assert_allclose(loop, np.exp(array), rtol=1e-6)


def test_what_is_no_tensor_is_told(accepting):
    array = paddle.tensor.create_array("float32")
    with pytest.raises(TranslationError, match=r"tanh is given .* DENSE_TENSOR_ARRAY; it takes dense tensors"):
        paddle.tanh(array)


def test_everything_is_as_before():
    """Functions, classes and methods, that is; the tracer and the programs are Paddle's to renew."""
    kinds = (types.FunctionType, types.BuiltinFunctionType, type)
    holders = [vars(module) for name, module in sys.modules.items() if name.startswith("paddle") and vars(module)]
    holders.append(vars(framework.Variable))
    before = [{name: item for name, item in holder.items() if isinstance(item, kinds)} for holder in holders]
    with pytest.raises(KeyError), legacy_api.installed():
        paddle.enable_static()
        assert paddle.static.Program is framework.Program
        assert paddle.multiply(*[paddle.static.data("x", [2])] * 2).name
        raise KeyError
    assert not legacy_api.is_installed()
    assert paddle.framework.in_pir_mode()
    paddle.disable_static()
    for holder, old in zip(holders, before):
        assert [name for name, item in old.items() if holder.get(name) is not item] == []


def test_on_a_paddle_imported_with_the_legacy_ir():
    script = (
        "import zlib, paddle\nfrom slimkit.ir import legacy_api\nlegacy_api.install()\n"
        "exec(\"paddle.enable_static()\", {'paddle': paddle, '__name__': '__main__'})\n"
        "x = paddle.static.data('x', [2, 3])\nprint(paddle.tanh(x).sum(axis=1).name)"
    )
    environment = {**os.environ, "FLAGS_enable_pir_api": "0", "PYTHONPATH": str(Path(slimkit.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.strip() == "reduce_sum_0.tmp_0", done.stderr[-2000:]


def test_the_script_switches_and_paddle_does_not(tmp_path):
    """``enable_static`` of the user's module builds legacy programs, also through names imported before."""
    user = types.ModuleType("user_script")
    exec("import paddle\nfrom paddle import multiply\nfrom paddle.static import Program, program_guard", vars(user))
    sys.modules["user_script"] = user
    try:
        with legacy_api.installed():
            with paddle.pir_utils.IrGuard():
                assert paddle.static.Program is paddle.pir.Program
            assert paddle.in_dynamic_mode()
            exec("paddle.enable_static()", vars(user))
            exec("main = Program()\nwith program_guard(main):\n    x = paddle.static.data('x', [2])", vars(user))
            exec("with program_guard(main):\n    y = multiply(x, x)", vars(user))
            assert isinstance(user.main, framework.Program) and isinstance(user.y, framework.Variable)
            with paddle.pir_utils.IrGuard():  # slimkit's own tracing, for one, within a static script
                program = paddle.static.Program()
                with paddle.static.program_guard(program):
                    value = paddle.static.data("v", [2])
                    assert isinstance(paddle.multiply(value, value), paddle.pir.Value)
            exec("paddle.disable_static()", vars(user))
            assert user.Program is paddle.pir.Program
            one = paddle.ones([2])
            assert user.multiply(one, one).sum() == 2
    finally:
        del sys.modules["user_script"]
    assert paddle.in_dynamic_mode()
