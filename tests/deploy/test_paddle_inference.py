from __future__ import annotations

import numpy as np
import pytest

from slimkit.deploy import paddle_inference
from slimkit.errors import DataError, ModelError, RuntimeFailedError

from .conftest import INPUT, MIDDLE, SECOND, WEIGHT
from .programs import conv2d, hard_swish, on_grid, quantized


def relative(a, b):
    return np.linalg.norm(a - b) / np.linalg.norm(b)


def numpy_int8(x):
    y = hard_swish(conv2d(quantized(x, 3.0), on_grid(WEIGHT)))
    return conv2d(quantized(y, MIDDLE), on_grid(SECOND))


def test_float_agrees_with_numpy(outputs_of):
    wanted = conv2d(hard_swish(conv2d(INPUT, WEIGHT)), SECOND)
    assert relative(outputs_of("float", "float"), wanted) < 1e-5


@pytest.mark.parametrize("mode", ["plain", "int8"])
def test_onnx_format_agrees_with_numpy(outputs_of, mode):
    assert relative(outputs_of("onnx", mode), numpy_int8(INPUT)) < 2e-3  # a rounding tie may flip


def test_int8_equals_the_simulation(outputs_of):
    assert relative(outputs_of("onnx", "int8"), outputs_of("onnx", "plain")) < 1e-3


@pytest.mark.parametrize("mode", ["plain", "int8"])
def test_old_format_agrees_with_numpy(outputs_of, mode):
    wanted = conv2d(quantized(INPUT, 3.0), on_grid(WEIGHT))
    assert relative(outputs_of("old", mode), wanted) < 1e-4


def test_int8_kernels_really_ran(models):
    found = paddle_inference.executed_precision(models["onnx"], INPUT)
    assert (found["int8"], found["float"]) == (2, 0)
    assert found["primitives"]["convolution"] == {"int8": 2}
    assert found["ops"] == {"fused_conv2d": {"int8": 2}}
    assert found["fallback"] == found["hazards"] == []
    assert found["ms"]["int8 compute"] > 0
    assert found["summary"].startswith("2 of 2 ")


def test_float_model_runs_nothing_in_int8(models):
    found = paddle_inference.executed_precision(models["float"], INPUT, int8=False)
    assert (found["int8"], found["float"]) == (0, 2)


def test_shared_pool_scale_is_wrong_and_flagged(outputs_of, models):
    assert relative(outputs_of("se", "int8"), outputs_of("se", "plain")) > 0.1
    hazards = paddle_inference.executed_precision(models["se"], INPUT)["hazards"]
    assert [h["op"] for h in hazards] == ["pool2d"] and "assign" in hazards[0]["problem"]


def test_assign_behind_the_pool_makes_it_right(outputs_of, models):
    assert relative(outputs_of("se_assign", "int8"), outputs_of("se_assign", "plain")) < 5e-3
    assert paddle_inference.executed_precision(models["se_assign"], INPUT)["hazards"] == []


def test_int8_fc_is_wrong_and_flagged(outputs_of, models):
    assert relative(outputs_of("fc", "int8"), outputs_of("fc", "plain")) > 0.02
    assert [h["op"] for h in paddle_inference.executed_precision(models["fc"], INPUT)["hazards"]] == ["fc"]


@pytest.mark.parametrize(
    ("name", "says"), [("four_bits", "8-bit activations only"), ("transposed", "leave conv2d_transpose out")]
)
def test_what_the_int8_passes_refuse_is_one_sentence(paddle_session, models, name, says):
    with pytest.raises(RuntimeFailedError, match=says) as caught:
        paddle_inference.load(paddle_session, name, models[name], "int8")
        paddle_session.run(name, INPUT)
    assert "\n" not in str(caught.value) and "/paddle/" not in str(caught.value)


@pytest.mark.parametrize("name", ["four_bits", "transposed"])
def test_refused_models_still_run_simulated(outputs_of, name):
    assert np.isfinite(outputs_of(name, "plain")).all()


def test_wrong_shape_is_one_sentence(outputs_of):
    with pytest.raises(RuntimeFailedError, match="channels") as caught:
        outputs_of("float", "float", np.zeros((1, 3, 10, 10), "float32"))
    assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)


def test_missing_input_is_named(outputs_of):
    with pytest.raises(DataError, match="'x'"):
        outputs_of("float", "float", {"image": INPUT})


def test_truncated_model(tmp_path, models, paddle_session):
    for suffix in (".pdmodel", ".pdiparams"):
        data = open(models["float"] + suffix, "rb").read()
        (tmp_path / f"cut{suffix}").write_bytes(data[: len(data) // 2])
    with pytest.raises(RuntimeFailedError, match="Paddle Inference"):
        with paddle_inference.open_session(pin=False) as session:
            paddle_inference.load(session, "cut", tmp_path / "cut", "float")


def test_json_program_is_sent_to_convert(tmp_path):
    (tmp_path / "m.json").write_text("{}")
    (tmp_path / "m.pdiparams").write_bytes(b"x")
    with pytest.raises(ModelError, match="slimkit convert"):
        paddle_inference.run(tmp_path / "m", [INPUT])


def test_run_reads_batches_one_at_a_time(models, outputs_of):
    found = paddle_inference.run(models["onnx"], (INPUT[i : i + 1] for i in range(2)), int8=True)
    assert len(found) == 2
    np.testing.assert_allclose(np.concatenate([b[0] for b in found]), outputs_of("onnx", "int8"), rtol=1e-5, atol=1e-5)


def test_bench_together_alternates(models):
    pairs = [(models["float"], "float"), (models["onnx"], "int8")]
    results = paddle_inference.bench_together(pairs, INPUT, rounds=4, budget_seconds=0.05)
    for latency, times in results:
        assert len(times["cpu_ms"]) == len(times["wall_ms"]) == 4
        assert 0 < latency.p10_ms <= latency.median_ms <= latency.p90_ms and latency.threads == 1


def test_export_copies_both_files(models, tmp_path):
    written = paddle_inference.export(models["float"], tmp_path / "deep" / "copy")
    assert written.read_bytes() == open(models["float"] + ".pdmodel", "rb").read()
    assert sorted(f.name for f in written.parent.iterdir()) == ["copy.pdiparams", "copy.pdmodel"]
