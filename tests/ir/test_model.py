"""``Model``: parameters, running, cloning, saving, tracing without side effects."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from comparing import assert_close, tensors
from paddle import nn
from paddle.jit.dy2static import program_translator
from paddle.static import InputSpec

from slimkit.errors import ModelError
from slimkit.ir import Model, legacy_ir

SPEC = [InputSpec([-1, 4], "float32", "x")]
X = np.random.RandomState(0).rand(3, 4).astype("float32")


class Net(nn.Layer):
    """Its first argument is not called self, and its loss is inside."""

    def __init__(this) -> None:  # noqa: N805
        super().__init__()
        this.one, this.norm, this.two = nn.Linear(4, 5), nn.BatchNorm1D(5), nn.Linear(5, 2)

    def forward(this, x: Any) -> Any:  # noqa: N805
        return this.two(nn.functional.relu(this.norm(this.one(x))))


def test_params_read_and_write():
    net = Net()
    model = Model.from_layer(net, SPEC)
    assert set(model.params) == {t.name for t in net.state_dict().values()}
    name = net.one.weight.name
    np.testing.assert_array_equal(model.params[name], net.one.weight.numpy())
    before = model.run([X])[0]
    model.params[name] = model.params[name] * 2
    assert not np.allclose(model.run([X])[0], before)
    with pytest.raises(ModelError, match=r"\[4, 5\]"):
        model.params[name] = np.zeros((5, 4), "float32")
    with pytest.raises(KeyError, match="did you mean"):
        model.params[f"{name}0"]
    with pytest.raises(ModelError, match="cannot be removed"):
        del model.params[name]


def test_parameters_are_parameters_with_the_layers_trainability():
    net = Net()
    net.two.weight.stop_gradient = True
    model = Model.from_layer(net, SPEC, train=True)
    block = model.program.global_block()
    for tensor in net.parameters():
        var = block.var(tensor.name)
        assert isinstance(var, paddle.base.framework.Parameter)
        assert var.trainable == (not tensor.stop_gradient), tensor.name
    assert not block.var(net.norm._mean.name).trainable
    assert block.var(net.norm._mean.name).persistable


def test_batch_norm_updates_its_statistics_in_place():
    net = Net()
    model = Model.from_layer(net, SPEC, train=True)
    (op,) = [op for op in model.program.global_block().ops if op.type == "batch_norm"]
    assert op.output("MeanOut") == op.input("Mean")
    assert op.output("VarianceOut") == op.input("Variance")
    model.run([X])
    assert not np.allclose(model.params[net.norm._mean.name], 0)


def test_run_by_name_by_order_and_of_any_variable():
    model = Model.from_layer(Net(), SPEC)
    (a,) = model.run({"x": X})
    (b,) = model.run([X])
    (c,) = model.run(X)
    np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(a, c)
    (middle,) = model.run([X], fetch=["relu_0.tmp_0"])
    assert middle.shape == (3, 5)


def test_run_refuses_what_it_cannot_run():
    model = Model.from_layer(Net(), SPEC)
    with pytest.raises(ModelError, match="the feed lacks x"):
        model.run({})
    with pytest.raises(ModelError, match="y is fed but unknown"):
        model.run({"x": X, "y": X})
    with pytest.raises(ModelError, match="give one each"):
        model.run([X, X])
    with pytest.raises(ModelError, match=r"did you mean relu_0\.tmp_0"):
        model.run([X], fetch=["relu_0.tmp_1"])
    with pytest.raises(ModelError, match=r"\[3, 7\]"):
        model.run([np.zeros((3, 7), "float32")])


def test_clone_for_test_shares_parameters_unless_told():
    net = Net()
    model = Model.from_layer(net, SPEC, train=True)
    test, apart = model.clone(for_test=True), model.clone(copy_params=True)
    ops = {op.type: op for op in test.program.global_block().ops}
    assert ops["batch_norm"].attr("is_test")
    name = net.one.weight.name
    model.params[name] = model.params[name] + 1
    np.testing.assert_array_equal(test.params[name], model.params[name])
    assert not np.allclose(apart.params[name], model.params[name])


def test_the_layer_is_left_as_it_was():
    net = Net()
    net.train()
    net.norm.eval()
    before = copy.deepcopy(net.state_dict())
    forwards = [vars(layer).get("forward") for layer in net.sublayers(include_self=True)]
    for train in (False, True):
        Model.from_layer(net, SPEC, train=train).run([X])
    assert (net.training, net.norm.training, net.one.training) == (True, False, True)
    assert forwards == [vars(layer).get("forward") for layer in net.sublayers(include_self=True)]
    assert paddle.in_dynamic_mode()
    for name, tensor in net.state_dict().items():
        np.testing.assert_array_equal(tensor.numpy(), before[name].numpy())
    assert len(net.sublayers()) == 3


class Keeping(Net):
    """Keeps its inputs, as PaddleDetection's do, and counts."""

    def forward(self, x: Any) -> Any:
        self.inputs = {"x": x}
        self.calls = getattr(self, "calls", 0) + 1
        return super().forward(x)


def test_what_a_layer_keeps_of_its_inputs_is_not_the_programs():
    net = Keeping()
    net.eval()
    model = Model.from_layer(net, SPEC)
    assert not hasattr(net, "inputs") and not hasattr(net, "calls")
    x = paddle.to_tensor(X)
    assert_close(model.run([X]), tensors(net(x)))
    Model.from_layer(net, SPEC)
    assert net.inputs["x"] is x and net.calls == 1
    assert_close(tensors(copy.deepcopy(net)(x)), model.run([X]))


def test_functions_static_functions_and_instance_forwards():
    net = Net()
    net.eval()
    expected = tensors(net(paddle.to_tensor(X)))
    patched = Net()
    patched.set_state_dict(net.state_dict())
    patched.eval()
    inner = patched.forward
    patched.forward = lambda x: inner(x) * 2
    assert_close(Model.from_layer(patched, SPEC).run([X]), [expected[0] * 2])
    static = Net()
    static.set_state_dict(net.state_dict())
    static = paddle.jit.to_static(static)
    assert_close(Model.from_layer(static, SPEC).run([X]), expected)
    assert type(static.forward).__name__.endswith("StaticFunction")
    assert_close(Model.from_layer(paddle.square, SPEC).run([X]), [X * X])


def test_hooks_of_the_traced_layer_run():
    net = Net()
    net.eval()
    handle = net.register_forward_post_hook(lambda layer, inputs, output: output + 1)
    expected = tensors(net(paddle.to_tensor(X)))
    assert_close(Model.from_layer(net, SPEC).run([X]), expected)
    handle.remove()


class Doubling(nn.Layer):
    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit = limit

    def forward(self, x):
        if x.sum() > self.limit:
            x = x * 2
        return x


def test_each_forward_is_converted_once(monkeypatch: pytest.MonkeyPatch):
    """However often its layers are called; Paddle's own cache is as it was afterwards, and misses as it did."""
    converted = []
    own = program_translator.FunctionCache._convert
    monkeypatch.setattr(
        program_translator.FunctionCache, "_convert", lambda self, f: (converted.append(f), own(self, f))[1]
    )
    layers = [Doubling(1), Doubling(100), Doubling(1)]
    x = np.full([1, 2], 1.5, "float32")
    model = Model.from_layer(nn.Sequential(*layers, layers[0]), [InputSpec([1, 2])])
    names = [f.__qualname__ for f in converted]
    assert names.count("Doubling.forward") == 1
    np.testing.assert_array_equal(model.run([x])[0], 8 * x)
    assert "convert_with_cache" not in vars(program_translator._FUNCTION_CACHE)


def test_untraceable_layer_is_one_sentence():
    class Bad(nn.Layer):
        def forward(self, x: Any) -> Any:
            return x.reshape([7, 11, 13])

    with pytest.raises(ModelError) as caught:
        Model.from_layer(Bad(), [InputSpec([2, 3], "float32", "x")])
    assert "Bad cannot be traced with inputs x [2, 3]" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert paddle.in_dynamic_mode()


def test_two_inputs_of_one_name():
    specs = [paddle.static.InputSpec([None, 3], name="x")] * 2
    with pytest.raises(ModelError, match="Two inputs of the spec are named 'x'"):
        Model.from_layer(nn.Bilinear(3, 3, 2), specs)


def test_saving_keeps_only_what_the_fetches_need(tmp_path: Path):
    class WithLoss(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.net = Net()

        def forward(self, x: Any, y: Any) -> Any:
            logits = self.net(x)
            return logits, nn.functional.cross_entropy(logits, y)

    model = Model.from_layer(WithLoss(), [*SPEC, InputSpec([-1, 1], "int64", "y")], train=True)
    with legacy_ir(), paddle.static.program_guard(model.program, paddle.static.Program()):
        paddle.optimizer.Adam(0.1).minimize(model.program.global_block().var(model.fetches[1]))
    test = model.clone(for_test=True)
    test.fetches = test.fetches[:1]
    test.save(tmp_path / "m")
    loaded = Model.load(tmp_path)
    assert loaded.feeds == ["x"]
    assert set(loaded.op_counts()) == {"matmul_v2", "elementwise_add", "batch_norm", "relu"}
    assert_close(loaded.run([X]), test.run({"x": X, "y": np.zeros((3, 1), "int64")}))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.pdiparams", "m.pdmodel"]


def test_saving_puts_a_training_model_in_test_mode(tmp_path: Path):
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1D(5), nn.Dropout(0.5))
    model = Model.from_layer(net, SPEC, train=True)
    for _ in range(3):
        model.run([X])
    model.save(tmp_path / "m")
    loaded = Model.load(tmp_path)
    assert_close(loaded.run([X]), model.clone(for_test=True).run([X]))
    (a,), (b,) = loaded.run([X]), loaded.run([X])
    np.testing.assert_array_equal(a, b)


def test_an_edited_program_is_run_as_edited():
    model = Model.from_layer(lambda x: x * 2, SPEC)
    (before,) = model.run([X])
    (op,) = [op for op in model.program.global_block().ops if op.type == "scale"]
    op._set_attr("scale", 3.0)
    np.testing.assert_allclose(model.run([X])[0], before * 1.5, rtol=1e-6)


def test_saving_to_where_nothing_can_be_written(tmp_path: Path):
    from slimkit.errors import SlimkitError

    (tmp_path / "file").touch()
    with pytest.raises(SlimkitError, match="could not be written"):
        Model.from_layer(Net(), SPEC).save(tmp_path / "file" / "m")


def test_saving_an_unknown_fetch(tmp_path: Path):
    model = Model.from_layer(Net(), SPEC)
    model.fetches = ["nothing"]
    with pytest.raises(ModelError, match="nothing is to be fetched"):
        model.save(tmp_path / "m")


def test_repr_says_what_it_is():
    text = repr(Model.from_layer(Net(), SPEC))
    assert "feeds=['x']" in text
    assert "matmul_v2 2" in text
    assert "8 parameters of 57 numbers" in text


def test_what_readers_take_for_granted_is_not_saved(tmp_path: Path):
    from paddle.base.proto import framework_pb2

    desc = framework_pb2.ProgramDesc()
    desc.ParseFromString(Model.from_layer(Net(), SPEC).save(tmp_path / "m").read_bytes())
    types = {op.type for op in desc.blocks[0].ops}
    assert {pair.op_name for pair in desc.op_version_map.pair} <= types
    for var in desc.blocks[0].vars:
        assert var.persistable or not var.HasField("persistable")
        assert var.stop_gradient or not var.HasField("stop_gradient")
    names = {attr.name for op in desc.blocks[0].ops for attr in op.attrs}
    assert not names & {"x_data_format", "op_callstack", "fused_reshape_X", "op_device"}


def test_a_models_memory_is_freed_with_it():
    """Paddle keeps every scope until the process ends; what is in it must go with the last one who holds it."""
    layer = paddle.nn.Linear(512, 512)
    model = Model.from_layer(layer, [InputSpec([-1, 512], "float32", "x")])
    name = max(model.params, key=lambda key: model.params[key].size)
    copy = model.clone(copy_params=True)
    params, tensor = copy.params, copy.scope.find_var(name).get_tensor()
    del copy
    assert params[name].size == 512 * 512  # the parameters hold what they show
    del params
    assert not tensor._is_initialized()
    assert model.params[name].size == 512 * 512
