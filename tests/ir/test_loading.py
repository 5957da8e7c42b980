"""Reading and writing model files: every layout, every way they can be wrong."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import paddle
import pytest
from comparing import assert_close, tensors
from paddle import nn
from paddle.static import InputSpec

from slimkit.errors import ModelError
from slimkit.ir import Model, convert, legacy_ir
from slimkit.ir.params_file import pack_tensors, read_combined

SPEC = [InputSpec([-1, 3, 8, 8], "float32", "image")]
FEED = [np.random.RandomState(0).rand(2, 3, 8, 8).astype("float32")]


class Small(nn.Layer):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4), nn.Swish(), nn.ReLU6(), nn.Flatten())
        self.head = nn.Linear(4 * 36, 5)

    def forward(self, x: Any) -> Any:
        return nn.functional.softmax(self.head(self.body(x)))


@pytest.fixture(scope="module")
def net() -> Small:
    paddle.seed(3)
    made = Small()
    made.eval()
    return made


@pytest.fixture(scope="module")
def expected(net: Small) -> list:
    return tensors(net(paddle.to_tensor(FEED[0])))


@pytest.fixture(scope="module")
def legacy(net: Small, tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("legacy")
    Model.from_layer(net, SPEC).save(folder / "inference")
    return folder


@pytest.fixture(scope="module")
def pir(net: Small, tmp_path_factory: Any) -> Path:
    folder = tmp_path_factory.mktemp("pir")
    copy = Small()
    copy.set_state_dict(net.state_dict())
    copy.eval()
    paddle.jit.save(copy, str(folder / "inference"), input_spec=SPEC)
    return folder


@pytest.mark.parametrize("path", ["", "inference", "inference.pdmodel", "inference.pdiparams"])
def test_legacy_by_folder_prefix_or_file(legacy: Path, path: str, expected: list):
    assert_close(Model.load(legacy / path).run(FEED), expected)


@pytest.mark.parametrize("path", ["", "inference", "inference.json"])
def test_pir_by_folder_prefix_or_file(pir: Path, path: str, expected: list):
    model = Model.load(pir / path)
    assert model.feeds == ["image"]
    assert_close(model.run(FEED), expected)


def test_any_file_names(legacy: Path, pir: Path, tmp_path: Path, expected: list):
    shutil.copy(legacy / "inference.pdmodel", tmp_path / "net.bin")
    shutil.copy(legacy / "inference.pdiparams", tmp_path / "weights")
    shutil.copy(pir / "inference.json", tmp_path / "graph")
    shutil.copy(pir / "inference.pdiparams", tmp_path / "weights3")
    for model, params in (("net.bin", "weights"), ("graph", "weights3")):
        assert_close(Model.load(tmp_path, model_filename=model, params_filename=params).run(FEED), expected)


def test_model_file_and_separate_parameter_files(legacy: Path, tmp_path: Path, expected: list):
    model = Model.load(legacy)
    shutil.copy(legacy / "inference.pdmodel", tmp_path / "__model__")
    for name, array in model.params.items():
        (tmp_path / name).write_bytes(pack_tensors([array]))
    assert_close(Model.load(tmp_path).run(FEED), expected)


def test_static_pir_program_with_fetch_ops(tmp_path: Path):
    paddle.enable_static()
    try:
        main, startup = paddle.static.Program(), paddle.static.Program()
        with paddle.static.program_guard(main, startup):
            x = paddle.static.data("x", [-1, 4], "float32")
            out = nn.functional.relu(paddle.static.nn.fc(x, 3))
        executor = paddle.static.Executor(paddle.CPUPlace())
        executor.run(startup)
        feed = np.random.RandomState(0).rand(2, 4).astype("float32")
        expected = executor.run(main, feed={"x": feed}, fetch_list=[out])
        paddle.static.save_inference_model(str(tmp_path / "m"), [x], [out], executor, program=main)
    finally:
        paddle.disable_static()
    assert (tmp_path / "m.json").is_file()
    assert_close(Model.load(tmp_path / "m").run([feed]), expected)


def test_what_is_saved_paddle_inference_reads(legacy: Path, expected: list):
    from paddle import inference

    config = inference.Config(str(legacy / "inference.pdmodel"), str(legacy / "inference.pdiparams"))
    config.enable_new_ir(False)
    config.disable_glog_info()
    predictor = inference.create_predictor(config)
    assert predictor.get_input_names() == ["image"]
    assert_close(tensors(predictor.run([paddle.to_tensor(FEED[0])])), expected)


def test_what_is_saved_paddle_itself_loads(legacy: Path, expected: list):
    with legacy_ir():
        executor = paddle.static.Executor(paddle.CPUPlace())
        with paddle.static.scope_guard(paddle.static.Scope()):
            program, feeds, fetches = paddle.static.load_inference_model(str(legacy / "inference"), executor)
            found = executor.run(program, feed={feeds[0]: FEED[0]}, fetch_list=fetches)
    assert_close(found, expected)


def test_what_paddle_3_loses_is_there(legacy: Path):
    block = Model.load(legacy).program.global_block()
    by_type = {op.type: op for op in block.ops}
    assert by_type["swish"].attr("beta") == 1.0
    assert by_type["relu6"].attr("threshold") == 6.0
    shape = by_type["flatten_contiguous_range"].output("XShape")
    assert list(block.var(shape[0]).shape) == [0, -1, 4, 6, 6]


def test_lost_attributes_are_restored_on_save(legacy: Path, tmp_path: Path):
    model = Model.load(legacy)
    for op in model.program.global_block().ops:
        if op.type == "swish":
            op.desc.remove_attr("beta")
        if op.type == "flatten_contiguous_range":
            op.desc.remove_output("XShape")
    model.save(tmp_path / "again")
    test_what_paddle_3_loses_is_there(tmp_path)


def test_a_loaded_program_is_differentiable(tmp_path: Path):
    """Also through ops whose backward insists on slots that a saved program leaves out."""
    Model.from_layer(lambda x: paddle.tile(x * x, [1, 2]), [InputSpec([2, 3], "float32", "x")]).save(tmp_path / "m")
    model = Model.load(tmp_path)
    with legacy_ir(), paddle.static.program_guard(model.program):
        block = model.program.global_block()
        block.var("x").stop_gradient = False
        for name in [name for op in block.ops for name in op.output_arg_names]:
            block.var(name).stop_gradient = False
        (gradient,) = paddle.base.backward.gradients([block.var(model.fetches[0])], [block.var("x")])
    x = np.random.RandomState(0).rand(2, 3).astype("float32")
    np.testing.assert_allclose(model.run([x], fetch=[gradient.name])[0], 4 * x, rtol=1e-6)


def test_nothing_of_the_authors_machine_is_saved(legacy: Path):
    data = (legacy / "inference.pdmodel").read_bytes()
    assert b"op_callstack" not in data
    assert b".py" not in data


def test_convert_to_folder_and_to_prefix(pir: Path, tmp_path: Path, expected: list):
    assert convert(pir / "inference.json", f"{tmp_path}/out/") == tmp_path / "out" / "inference.pdmodel"
    assert convert(pir, tmp_path / "other" / "net") == tmp_path / "other" / "net.pdmodel"
    for prefix in ("out/inference", "other/net"):
        assert_close(Model.load(tmp_path / prefix).run(FEED), expected)


# -- what can be wrong -----------------------------------------------------------------------------------------


def fails(path: Path, **names: str) -> str:
    with pytest.raises(ModelError) as caught:
        Model.load(path, **names)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_nothing_there(tmp_path: Path):
    assert "there is no model at" in fails(tmp_path / "nowhere" / "inference")
    (tmp_path / "readme.txt").touch()
    assert "readme.txt" in fails(tmp_path)


def test_missing_named_file(legacy: Path):
    assert "there is no model file other in" in fails(legacy, model_filename="other")
    assert "there is no parameter file w in" in fails(legacy, params_filename="w")


def test_several_models(legacy: Path, tmp_path: Path):
    for name in ("a", "b"):
        shutil.copy(legacy / "inference.pdmodel", tmp_path / f"{name}.pdmodel")
        shutil.copy(legacy / "inference.pdiparams", tmp_path / f"{name}.pdiparams")
    assert "several models (a.pdmodel, b.pdmodel)" in fails(tmp_path)
    assert Model.load(tmp_path, model_filename="b").feeds == ["image"]


def test_missing_parameters(legacy: Path, tmp_path: Path):
    shutil.copy(legacy / "inference.pdmodel", tmp_path)
    assert "no parameter file inference.pdiparams" in fails(tmp_path)


@pytest.mark.parametrize("keep", [0, 1, 40, 0.5, 0.999])
def test_truncated_parameters(legacy: Path, tmp_path: Path, keep: float):
    shutil.copy(legacy / "inference.pdmodel", tmp_path)
    data = (legacy / "inference.pdiparams").read_bytes()
    size = int(len(data) * keep) if isinstance(keep, float) else keep
    (tmp_path / "inference.pdiparams").write_bytes(data[:size])
    assert "inference.pdiparams" in fails(tmp_path)


def test_parameters_of_another_model(legacy: Path, tmp_path: Path):
    shutil.copy(legacy / "inference.pdmodel", tmp_path)
    other = Model.from_layer(nn.Conv2D(3, 4, 5), SPEC)
    other.save(tmp_path / "other" / "inference")
    shutil.copy(tmp_path / "other" / "inference.pdiparams", tmp_path)
    assert "different models" in fails(tmp_path)


def test_parameters_that_are_no_parameters(legacy: Path, tmp_path: Path):
    shutil.copy(legacy / "inference.pdmodel", tmp_path)
    (tmp_path / "inference.pdiparams").write_bytes(bytes(range(256)) * 40)
    assert "does not hold a tensor" in fails(tmp_path)


@pytest.mark.parametrize("name", ["inference.pdmodel", "inference.json"])
@pytest.mark.parametrize("keep", [0, 10, 0.6])
def test_damaged_model_file(legacy: Path, pir: Path, tmp_path: Path, name: str, keep: float):
    source = (legacy if name.endswith("pdmodel") else pir) / name
    data = source.read_bytes()
    (tmp_path / name).write_bytes(data[: int(len(data) * keep) if isinstance(keep, float) else keep])
    shutil.copy(legacy / "inference.pdiparams", tmp_path)
    assert name in fails(tmp_path / name)


def test_separate_file_missing(legacy: Path, tmp_path: Path):
    shutil.copy(legacy / "inference.pdmodel", tmp_path / "__model__")
    assert "cannot be read" in fails(tmp_path)


def test_every_dtype_through_a_file(tmp_path: Path):
    arrays = {
        name: np.arange(6).reshape(2, 3).astype(name)
        for name in ("bool", "int8", "uint8", "int16", "int32", "int64", "float16", "float32", "float64")
    }
    arrays["scalar"] = np.array(3.0, "float32")
    (tmp_path / "all").write_bytes(pack_tensors(arrays[name] for name in sorted(arrays)))
    found = read_combined(tmp_path / "all", {name: array.shape for name, array in arrays.items()})
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_parameters(tmp_path: Path, dtype: str):
    class Half(nn.Layer):
        def __init__(self) -> None:
            super().__init__()
            self.scale = self.create_parameter([8], dtype=dtype, default_initializer=nn.initializer.Constant(1.5))

        def forward(self, x: Any) -> Any:
            return x * self.scale.astype("float32")

    model = Model.from_layer(Half(), SPEC)
    model.save(tmp_path / "m")
    for one in (model, Model.load(tmp_path)):
        np.testing.assert_array_equal(one.run(FEED)[0], FEED[0] * 1.5)


def test_unsaveable_dtype():
    with pytest.raises(ModelError, match="uint32"):
        pack_tensors([np.zeros(2, "uint32")])
