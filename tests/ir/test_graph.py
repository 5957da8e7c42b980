"""``Graph``: adjacency, edits, order, and programs that survive the trip."""

from __future__ import annotations

import zlib  # noqa: F401  (before paddle)

import numpy as np
import paddle
import pytest
from paddle.base import core
from small_programs import Net, mobile_net, random

from slimkit.errors import ModelError
from slimkit.ir import Graph, legacy_ir
from slimkit.ir.graph import OpRole

FP32 = core.VarDesc.VarType.FP32
IMAGES = {"x": random(0, 4, 3, 8, 8), "label": np.array([[0], [1], [2], [3]], "int64")}


def chain() -> Net:
    """x -> relu -> a -> scale(2) -> b -> scale(3) -> c, and a + b -> d."""
    net = Net()
    x = net.data("x", [-1, 4])
    net.relu(x, "a")
    net.op("scale", {"Out": "b"}, {"scale": 2.0}, X="a")
    net.op("scale", {"Out": "c"}, {"scale": 3.0}, X="b")
    net.add("a", "b", "d")
    return net


def adjacency(graph: Graph) -> set:
    """Edges as seen from both sides; they must agree."""
    forward = {(op.type, "reads", v.name) for op in graph.ops() for v in op.inputs}
    backward = {(op.type, "reads", v.name) for v in graph.vars() for op in v.consumers}
    assert forward == backward
    made = {(op.type, "writes", v.name) for op in graph.ops() for v in op.outputs}
    assert made == {(v.producer.type, "writes", v.name) for v in graph.vars() if v.producer is not None}
    return forward | made


def paddles_view(graph: Graph) -> set:
    """The same edges out of Paddle's own nodes."""
    found = set()
    for node in graph.ir_graph().all_op_nodes():
        found |= {(node.name(), "reads", n.name()) for n in node.inputs if not n.node.is_ctrl_var()}
        found |= {(node.name(), "writes", n.name()) for n in node.outputs if not n.node.is_ctrl_var()}
    return found


def test_adjacency_is_that_of_the_program():
    graph = Graph(chain().program)
    a, b = graph.var("a"), graph.var("b")
    assert a.producer.type == "relu" and [op.type for op in a.consumers] == ["scale", "elementwise_add"]
    assert [op.type for op in Graph.consumers(b)] == ["scale", "elementwise_add"]
    assert Graph.producer(graph.var("x")) is None
    assert adjacency(graph) == paddles_view(graph)
    assert [op.type for op in graph.ops()] == ["relu", "scale", "scale", "elementwise_add"]
    assert [op.type for op in graph.ops("scale", "relu")] == ["relu", "scale", "scale"] and len(graph) == 4


def test_slots_of_an_op():
    (op,) = Graph(chain().program).ops("elementwise_add")
    assert op.input_names("X") == ["a"] and op.input_var("Y").name == "b" and op.output_var("Out").name == "d"
    assert op.input_names("Nope") == [] and op.input_var("Nope") is None and op.output_var("Out", 1) is None
    assert op.attr("axis") == -1 and op.attr("nope", 7) == 7
    op.set_attr("axis", 0)
    assert op.attr("axis") == 0


def test_insert_and_replace_input():
    net = chain()
    graph = Graph(net.program)
    a = graph.var("a")
    new = graph.create_var("a10", a.shape, FP32)
    graph.insert_op("scale", {"X": a}, {"Out": new}, {"scale": 10.0})
    graph.replace_input(graph.ops("elementwise_add")[0], a, new)
    assert adjacency(graph) == paddles_view(graph)
    feed = {"x": random(1, 2, 4)}
    (d,) = net.run(feed, ["d"], graph.to_program())
    np.testing.assert_allclose(d, np.maximum(feed["x"], 0) * 12, rtol=1e-6)
    (same,) = net.run(feed, ["d"])  # the source program is not changed
    np.testing.assert_allclose(same, np.maximum(feed["x"], 0) * 3, rtol=1e-6)


def test_replace_output_and_all_uses_and_remove():
    net = chain()
    graph = Graph(net.program)
    b = graph.var("b")
    raw = graph.create_var("raw", b.shape, FP32)
    graph.replace_output(graph.ops("scale")[0], b, raw)
    graph.insert_op("abs", {"X": raw}, {"Out": b})
    (last,) = [op for op in graph.ops("scale") if op.output_var("Out").name == "c"]
    graph.remove_op(last)
    assert not graph.has_op(last) and not graph.has_var("c")
    graph.replace_all_uses(b, graph.var("a"))
    assert adjacency(graph) == paddles_view(graph)
    (d,) = net.run({"x": np.ones((1, 4), "float32")}, ["d"], graph.to_program())
    np.testing.assert_array_equal(d, np.full((1, 4), 2.0))


def test_an_op_that_reads_one_tensor_twice():
    net = Net()
    net.relu(net.data("x", [-1, 4]), "a")
    net.op("elementwise_mul", {"Out": "sq"}, {"axis": -1}, X="a", Y="a")
    graph = Graph(net.program)
    a, (op,) = graph.var("a"), graph.ops("elementwise_mul")
    new = graph.create_var("a3", a.shape, FP32)
    graph.insert_op("scale", {"X": a}, {"Out": new}, {"scale": 3.0})
    graph.replace_input(op, a, new)
    assert op.input_names("X") == op.input_names("Y") == ["a3"] and new.consumers == [op]
    (sq,) = net.run({"x": np.full((1, 4), 2.0, "float32")}, ["sq"], graph.to_program())
    np.testing.assert_array_equal(sq, np.full((1, 4), 36.0))


def test_remove_keeps_what_others_read():
    graph = Graph(chain().program)
    graph.remove_op(graph.ops("scale")[1])
    assert graph.has_var("b") and not graph.has_var("c")
    graph = Graph(chain().program)
    graph.remove_op(graph.ops("scale")[1], remove_dangling=False)
    assert graph.has_var("c") and graph.var("c").producer is None


def test_versions_come_in_the_order_they_are_written():
    net = chain()
    for _ in range(6):
        net.op("scale", {"Out": "c"}, {"scale": 1.5}, X="c")
    for _ in range(5):  # Paddle hands nodes out in no order
        versions = Graph(net.program).vars("c")
        ids = [v.node.id() for v in versions]
        assert ids == sorted(ids) and len(ids) == 7 and versions[0].producer.input_names("X") == ["b"]
        assert not Graph(net.program).var("c").consumers


def _counter() -> tuple:
    """A state variable s, and y = x + s."""
    net = Net()
    net.data("x", [1])
    net.param("s", np.full(1, 5.0, "float32"), trainable=False)
    net.add("x", "s", "y")
    return net, Graph(net.program)


@pytest.mark.parametrize("reader_first", [True, False])
def test_a_write_waits_for_the_readers_of_the_version_before(reader_first):
    net, graph = _counter()
    s = graph.var("s")
    z = graph.create_var("z", (1,), FP32)

    def read():
        graph.insert_op("scale", {"X": s}, {"Out": z}, {"scale": 10.0})

    if reader_first:
        read()
    graph.insert_op("increment", {"X": s}, {"Out": graph.new_version(s)}, {"step": 1.0})
    if not reader_first:
        read()
    feed = {"x": np.ones(1, "float32")}
    program = graph.to_program()
    assert [float(v[0]) for v in net.run(feed, ["y", "z"], program)] == [6.0, 50.0]
    assert [float(v[0]) for v in net.run(feed, ["y", "z"], program)] == [7.0, 60.0]


def test_two_writes_keep_their_order():
    net, graph = _counter()
    for value in (2.0, 3.0):
        last = graph.new_version(graph.var("s"))
        attrs = {"value": value, "shape": [1], "dtype": int(FP32)}
        graph.insert_op("fill_constant", {}, {"Out": last}, attrs)
    net.run({"x": np.ones(1, "float32")}, ["y"], graph.to_program())
    assert net.value("s")[0] == 3.0


def test_a_reader_that_others_wait_for_can_be_removed():
    net, graph = _counter()
    s = graph.var("s")
    (reader,) = graph.ops("elementwise_add")
    writer = graph.insert_op("increment", {"X": s}, {"Out": graph.new_version(s)}, {"step": 1.0})
    assert [op for op, _ in writer.waits_for] == [reader]
    graph.remove_op(reader)
    assert writer.waits_for == []
    net.run({}, ["s"], graph.to_program())
    assert net.value("s")[0] == 6.0


def test_order_of_the_source_outlives_edits():
    """Paddle's graph knows no write after read; an op put before a reader must not push it behind the writer."""
    net = Net()
    net.data("x", [1])
    net.param("s", np.full(1, 5.0, "float32"), trainable=False)
    net.add("x", "s", "y")
    net.op("increment", {"Out": "s"}, {"step": 1.0}, X="s")
    graph = Graph(net.program)
    (reader,) = graph.ops("elementwise_add")
    (writer,) = graph.ops("increment")
    assert [op for op, _ in writer.waits_for] == [reader] and [op for op, _ in reader.awaited_by] == [writer]
    x = graph.var("x")
    for i in range(5):
        new = graph.create_var(f"x{i}", (1,), FP32)
        graph.insert_op("scale", {"X": x}, {"Out": new}, {"scale": 1.0})
        x = new
    graph.replace_input(reader, graph.var("x"), x)
    assert net.run({"x": np.ones(1, "float32")}, ["y"], graph.to_program())[0][0] == 6.0
    assert not any("control" in v.name for v in graph.vars())


def test_a_second_writer_is_refused():
    graph = Graph(chain().program)
    with pytest.raises(ModelError, match=r"'a' is already written by op 'relu'.*new_version"):
        graph.insert_op("abs", {"X": graph.var("x")}, {"Out": graph.var("a")})


def test_a_cycle_is_refused():
    graph = Graph(chain().program)
    graph.replace_input(graph.ops("relu")[0], graph.var("x"), graph.var("d"))
    with pytest.raises(ModelError, match="cycle"):
        graph.to_program()


def test_errors_name_what_is_missing():
    with pytest.raises(ModelError, match="no variable 'nope'"):
        Graph(chain().program).var("nope")
    with pytest.raises(ModelError, match=r"legacy paddle\.static\.Program, got int"):
        Graph(3)


def test_parameters_keep_what_a_description_cannot_hold():
    net = chain()
    decay = paddle.regularizer.L2Decay(0.5)
    net.param("w", random(1, 4, 2), regularizer=decay, optimize_attr={"learning_rate": 0.1})
    net.param("frozen", random(1, 2, 2))
    frozen = net.block.vars["frozen"]
    frozen.trainable, frozen.stop_gradient = False, True
    net.op("matmul_v2", {"Out": "y"}, {}, X="d", Y="w")
    net.op("matmul_v2", {"Out": "z"}, {}, X="y", Y="frozen")
    net.program.random_seed = 11
    program = Graph(net.program).to_program()
    held = {p.name: p for p in program.all_parameters()}
    assert held["w"].trainable and held["w"].regularizer is decay and not held["w"].stop_gradient
    assert held["w"].optimize_attr == {"learning_rate": 0.1}
    assert not held["frozen"].trainable and held["frozen"].stop_gradient
    assert program.random_seed == 11


@pytest.mark.parametrize("optimizer", [paddle.optimizer.Momentum, paddle.optimizer.Adam])
def test_training_programs_train_the_same_after_the_trip(optimizer):
    losses, weights = [], []
    for trip in (False, True):
        net = mobile_net()
        net.minimize(lambda: optimizer(0.05, weight_decay=paddle.regularizer.L2Decay(1e-3)))
        program = Graph(net.program).to_program() if trip else net.program
        losses.append([float(net.run(IMAGES, ["loss"], program)[0]) for _ in range(4)])
        weights.append({p.name: net.value(p.name) for p in net.program.all_parameters()})
    assert losses[0] == losses[1] and losses[0][-1] < losses[0][0]
    for name, value in weights[0].items():
        np.testing.assert_array_equal(value, weights[1][name])


def test_minimize_works_after_the_trip():
    net = mobile_net()
    net.program = Graph(net.program).to_program()
    net.minimize(lambda: paddle.optimizer.SGD(0.1))
    before = net.value("stem.w")
    first = float(net.run(IMAGES, ["loss"])[0])
    for _ in range(5):
        net.run(IMAGES, ["loss"])
    assert float(net.run(IMAGES, ["loss"])[0]) < first and np.abs(net.value("stem.w") - before).max() > 0


def test_roles():
    net = mobile_net()
    net.minimize(lambda: paddle.optimizer.Momentum(0.1))
    graph = Graph(net.program)
    ops = {op.type: op for op in graph.ops()}
    assert ops["conv2d"].is_forward and ops["mean"].is_forward and not ops["conv2d"].is_backward
    assert ops["conv2d_grad"].is_backward and not ops["conv2d_grad"].is_forward
    assert ops["momentum"].role == OpRole.OPTIMIZE and not ops["momentum"].is_forward
    ops["relu"].set_attr("op_role", OpRole.LR_SCHEDULE)
    assert not ops["relu"].is_forward


def _loop() -> Net:
    """acc = x; three times: acc = matmul(acc, w)."""
    net = Net()
    net.data("x", [2, 2], grad=False)
    net.param("w", random(3, 2, 2))
    with legacy_ir(), paddle.static.program_guard(net.program):
        block = net.block
        for name, value in (("i", 0), ("n", 3)):
            block.create_var(name=name, shape=[1], dtype="int64")
            attrs = {"shape": [1], "dtype": int(core.VarDesc.VarType.INT64), "value": float(value)}
            block.append_op(type="fill_constant", outputs={"Out": [name]}, attrs=attrs)
        block.create_var(name="more", shape=[1], dtype="bool")
        block.create_var(name="acc", shape=[2, 2], dtype="float32")
        block.append_op(type="assign", inputs={"X": ["x"]}, outputs={"Out": ["acc"]})
        less = {"type": "less_than", "inputs": {"X": ["i"], "Y": ["n"]}, "attrs": {"axis": -1}}
        block.append_op(outputs={"Out": ["more"]}, **less)
        inner = net.program._create_block()
        inner.create_var(name="product", shape=[2, 2], dtype="float32")
        inner.append_op(type="matmul_v2", inputs={"X": ["acc"], "Y": ["w"]}, outputs={"Out": ["product"]})
        acc, i, more = (block.vars[n] for n in ("acc", "i", "more"))
        inner.append_op(type="assign", inputs={"X": ["product"]}, outputs={"Out": [acc]})
        inner.append_op(type="increment", inputs={"X": ["i"]}, outputs={"Out": [i]}, attrs={"step": 1.0})
        inner.append_op(outputs={"Out": [more]}, **less)
        net.program._rollback()
        scopes = block.create_var(name="scopes", type=core.VarDesc.VarType.STEP_SCOPES)
        block.append_op(
            type="while",
            inputs={"X": ["acc", "w", "i", "n"], "Condition": ["more"]},
            outputs={"Out": ["acc", "i", "more"], "StepScopes": [scopes]},
            attrs={"sub_block": inner, "is_test": True},
        )
        block.create_var(name="y", shape=[2, 2], dtype="float32")
        block.append_op(type="assign", inputs={"X": ["acc"]}, outputs={"Out": ["y"]})
    return net


def test_while_survives_and_its_block_can_be_edited():
    net = _loop()
    feed = {"x": random(5, 2, 2)}
    w = net.value("w")
    want = feed["x"] @ w @ w @ w
    np.testing.assert_allclose(net.run(feed, ["y"])[0], want, rtol=1e-5)
    graph = Graph(net.program)
    assert len(list(graph.all_graphs())) == 2
    np.testing.assert_allclose(net.run(feed, ["y"], graph.to_program())[0], want, rtol=1e-5)
    (inner,) = graph.sub_graphs
    (op,) = inner.ops("matmul_v2")
    old = op.output_var("Out")
    raw = inner.create_var("raw", (2, 2), FP32)
    inner.replace_output(op, old, raw)
    inner.insert_op("scale", {"X": raw}, {"Out": old}, {"scale": 2.0})
    np.testing.assert_allclose(net.run(feed, ["y"], graph.to_program())[0], want * 8, rtol=1e-5)


def test_conditional_block_survives():
    net = Net()
    net.data("x", [2], grad=False)
    net.data("on", [1], "bool", grad=False)
    with legacy_ir(), paddle.static.program_guard(net.program):
        block = net.block
        block.create_var(name="y", shape=[2], dtype="float32")
        block.append_op(type="scale", inputs={"X": ["x"]}, outputs={"Out": ["y"]}, attrs={"scale": 1.0})
        inner = net.program._create_block()
        inner.append_op(type="scale", inputs={"X": ["x"]}, outputs={"Out": [block.vars["y"]]}, attrs={"scale": 5.0})
        net.program._rollback()
        scopes = block.create_var(name="scopes", type=core.VarDesc.VarType.STEP_SCOPES)
        block.append_op(
            type="conditional_block",
            inputs={"Cond": ["on"], "Input": ["x"]},
            outputs={"Out": ["y"], "Scope": [scopes]},
            attrs={"sub_block": inner, "is_scalar_condition": True},
        )
    x = random(1, 2)
    program = Graph(net.program).to_program()
    for on, factor in ((True, 5.0), (False, 1.0)):
        np.testing.assert_allclose(net.run({"x": x, "on": np.array([on])}, ["y"], program)[0], x * factor, rtol=1e-6)
