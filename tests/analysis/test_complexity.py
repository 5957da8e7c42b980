"""``complexity`` on every kind of network slimkit meets."""

from __future__ import annotations

import json
import zlib  # noqa: F401  (before paddle)

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.static import InputSpec
from small_programs import Net, random

import slimkit
from slimkit.analysis import complexity, model_size, tensor_shapes
from slimkit.errors import ConfigError, ModelError
from slimkit.ir import Model, legacy_ir, to_training

#: Published multiply-accumulates in millions: Howard et al. (MobileNets), He et al. (ResNet).
PUBLISHED = {"mobilenet_v1": 569, "resnet50": 4089}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_multiply_accumulates(name: str) -> None:
    layer = getattr(paddle.vision.models, name)()
    found = complexity(layer, [1, 3, 224, 224])
    assert round(found.macs / 1e6) == PUBLISHED[name]
    assert found.parameters == sum(array.size for array in layer.state_dict().values())
    assert not found.uncounted
    assert sum(op.macs for op in found.ops) == found.macs and sum(op.flops for op in found.ops) == found.flops


PPOCR = {
    "ch_ppocr_mobile_v2_cls_infer": [1, 3, 48, 192],
    "ch_PP-OCRv4_det_infer": [1, 3, 160, 160],
    "ch_PP-OCRv4_rec_infer": [1, 3, 48, 320],
}


@pytest.mark.parametrize("name", PPOCR)
def test_real_models_of_dynamic_shape(name: str, rapidocr_models) -> None:
    model = Model.load(rapidocr_models / name)
    found = complexity(model, {"x": PPOCR[name]})
    assert found.macs == _by_fetching(model, PPOCR[name])
    assert found.parameters == sum(array.size for array in model.params.values()) > 0
    assert not found.uncounted
    with pytest.raises(ModelError, match=r"feed 'x' has the dynamic shape \[-1, 3, .*give input_shapes=\{'x': \[1, 3,"):
        complexity(model)


def _by_fetching(model: Model, shape: list) -> int:
    """The models' four ops with multiply-accumulates, on the shapes that a run gives."""
    weighted = ("conv2d", "depthwise_conv2d", "conv2d_transpose", "matmul_v2")
    ops = [op for op in model.program.global_block().ops if op.type in weighted]
    arrays = model.run([np.zeros(shape, "float32")], [name for op in ops for name in _tensors(op)])
    total, values = 0, iter(arrays)
    for op in ops:
        x, y, out = (next(values) for _ in range(3))
        if op.type == "matmul_v2":
            total += out.size * (x.shape[-2] if op.attr("trans_x") else x.shape[-1])
        else:
            total += (x if op.type == "conv2d_transpose" else out).size * int(np.prod(y.shape[1:]))
    return total


def _tensors(op) -> list:
    if op.type == "matmul_v2":
        return [op.input("X")[0], op.input("Y")[0], op.output("Out")[0]]
    return [op.input("Input")[0], op.input("Filter")[0], op.output("Output")[0]]


def _classifier() -> nn.Layer:
    return nn.Sequential(
        nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5), nn.Dropout(), nn.Softmax()
    )


def test_a_training_program_counts_its_forward_pass_only() -> None:
    model = Model.from_layer(_classifier(), [InputSpec([-1, 3, 8, 8], "float32", "x")])
    before = complexity(model)
    assert before.macs == 4 * 36 * 27 + 144 * 5
    loss = to_training(model, train_batch_norm=True)
    with legacy_ir():
        startup = paddle.static.Program()
        with paddle.static.program_guard(model.program, startup):
            paddle.optimizer.Adam(0.1).minimize(model.program.global_block().var(loss))
    after = complexity(model, {"x": [1, 3, 8, 8]})
    assert (after.macs, after.parameters) == (before.macs, before.parameters)
    assert model_size(model.program) == before.parameters  # not Adam's moments
    assert complexity(model.program).macs == before.macs


def test_an_inference_model_saved_and_loaded_counts_the_same(tmp_path) -> None:
    layer = _classifier()
    model = Model.from_layer(layer, [InputSpec([-1, 3, 8, 8], "float32", "x")])
    model.save(tmp_path / "net")
    built, loaded = complexity(model), complexity(tmp_path / "net")
    assert loaded.macs == built.macs
    assert loaded.parameters == built.parameters == model_size(tmp_path / "net")
    assert loaded.macs_of() == built.macs_of()


def test_a_pir_program(tmp_path) -> None:
    with paddle.pir_utils.IrGuard():
        program, startup = paddle.static.Program(), paddle.static.Program()
        with paddle.static.program_guard(program, startup):
            x = paddle.static.data("x", [-1, 3, 8, 8], "float32")
            y = nn.Conv2D(3, 4, 3)(x)
            y = nn.Linear(4 * 36, 5)(y.flatten(1))
            loss = nn.functional.relu(y).mean()
        inference = complexity(program)
        with paddle.static.program_guard(program, startup):
            paddle.optimizer.SGD(0.1).minimize(loss)
        training = complexity(program)
    assert inference.macs == training.macs == 4 * 36 * 27 + 144 * 5
    assert inference.parameters == training.parameters == 4 * 27 + 4 + 144 * 5 + 5
    assert inference.flops == training.flops


def test_a_loop_counts_once_a_turn() -> None:
    class Loop(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4, bias_attr=False)

        def forward(self, x):
            i = paddle.zeros([1], "int64")
            while i < 3:
                x = self.fc(x)
                i = i + 1
            return x

    found = complexity(Model.from_layer(Loop(), [InputSpec([-1, 4], "float32", "x")]))
    assert found.macs == 3 * 16
    assert [(op.type, op.macs) for op in found.ops if op.macs] == [("matmul_v2", 48)]


def test_a_loop_whose_tensors_grow_counts_every_turn_as_it_is() -> None:
    class Growing(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4, bias_attr=False)

        def forward(self, x):
            i = paddle.zeros([1], "int64")
            while i < 3:
                x = paddle.concat([x, self.fc(x)], 0)
                i = i + 1
            return x

    found = complexity(Model.from_layer(Growing(), [InputSpec([-1, 4], "float32", "x")]))
    assert found.macs == (1 + 2 + 4) * 16


def test_a_branch_counts_whether_or_not_it_is_taken() -> None:
    class Branch(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4, bias_attr=False)

        def forward(self, x):
            if x.sum() < 0:  # not so for ones
                x = self.fc(x)
            return x

    found = complexity(Model.from_layer(Branch(), [InputSpec([-1, 4], "float32", "x")]), {"x": [2, 4]})
    assert found.macs == 2 * 16


def test_shapes_that_only_a_run_tells() -> None:
    class Computed(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(6, 5, bias_attr=False)

        def forward(self, x):
            n, c, h, w = paddle.shape(x)
            return self.fc(x.reshape([n, h * w, c]))

    model = Model.from_layer(Computed(), [InputSpec([-1, 6, -1, -1], "float32", "x")])
    assert complexity(model, {"x": [2, 6, 3, 4]}).macs == 2 * 12 * 6 * 5
    assert tensor_shapes(model, {"x": [2, 6, 3, 4]})[model.fetches[0]] == (2, 12, 5)


def test_counting_changes_nothing() -> None:
    net = Net()
    net.data("x", [-1, 3, -1, -1])
    net.conv("x", random(0, 4, 3, 3, 3), "y")
    before = net.program.desc.serialize_to_string()
    assert complexity(net.program, {"x": [1, 3, 5, 5]}).macs == 4 * 25 * 27
    assert net.program.desc.serialize_to_string() == before


def test_a_shared_weight_is_one_parameter_and_works_twice() -> None:
    fc = nn.Linear(4, 4, bias_attr=False)
    found = complexity(nn.Sequential(fc, fc), [1, 4])
    assert (found.macs, found.parameters) == (32, 16)
    assert [op.parameters for op in found.ops] == [16, 0]
    assert found.macs_of() == {fc.weight.name: 32}


def test_an_embedding_has_parameters_and_no_macs() -> None:
    from slimkit.analysis import dygraph_flops

    net = nn.Sequential(nn.Embedding(10, 4), nn.Linear(4, 2, bias_attr=False))
    assert dygraph_flops(net, [[3, 5]], dtypes="int64") == 15 * 8
    found = complexity(Model.from_layer(net, [InputSpec([3, 5], "int64", "ids")]))
    assert [(op.parameters, op.macs) for op in found.ops] == [(40, 0), (8, 120)]


QUANTIZED = ("post_onnx", "post_old", "aware_onnx", "aware_old", "unfrozen_onnx", "unfrozen_old", "dygraph_onnx")


@pytest.mark.parametrize("name", QUANTIZED)
def test_quantization_costs_nothing(name: str, peers) -> None:
    plain, found = Model.load(peers / "float"), Model.load(peers / name)
    before, after = complexity(plain), complexity(found)
    assert after.macs == before.macs
    assert after.macs_of().keys() == before.macs_of().keys()
    assert not after.uncounted


def test_it_prints_and_is_json() -> None:
    found = complexity(_classifier(), [1, 3, 8, 8])
    text = str(found)
    assert "conv2d" in text and f"{found.macs:,}" in text.splitlines()[-1]
    again = json.loads(json.dumps(found.to_dict()))
    assert again["macs"] == found.macs and again["input_shapes"] == {"x0": [1, 3, 8, 8]}


def _dynamic() -> Model:
    return Model.from_layer(nn.Conv2D(3, 4, 3), [InputSpec([-1, 3, -1, 32], "float32", "image")])


@pytest.mark.parametrize(
    ("shapes", "error", "text"),
    [
        (None, ModelError, r"feed 'image' has the dynamic shape .* give input_shapes=\{'image': \[1, 3, 320, 32\]\}"),
        ({"imag": [1, 3, 32, 32]}, ConfigError, "did you mean 'image'"),
        ({"image": [3, 32, 32]}, ModelError, "it has 4 dimensions"),
        ([[1, 3, 32, 32], [1]], ConfigError, "2 input shapes were given"),
        ({"image": [1, 5, 32, 32]}, ModelError, r"made for \[-1, 3, -1, 32\], in which only -1 can be chosen"),
        ({"image": [1, 3, -1, 32]}, ModelError, "has the dynamic shape"),
    ],
)
def test_input_shapes_that_do_not_fit(shapes, error, text: str) -> None:
    with pytest.raises(error, match=text):
        complexity(_dynamic(), shapes)


def test_shapes_by_order_by_name_and_alone() -> None:
    model = _dynamic()
    counts = {complexity(model, s).macs for s in ({"image": [2, 3, 16, 32]}, [[2, 3, 16, 32]], [2, 3, 16, 32])}
    assert counts == {2 * 4 * 14 * 30 * 27}


def test_what_is_no_network() -> None:
    with pytest.raises(ModelError, match="A dict is no network"):
        complexity({})


def test_public() -> None:
    assert slimkit.analysis.complexity is complexity
