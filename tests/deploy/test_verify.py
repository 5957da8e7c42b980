from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from slimkit.deploy import verify
from slimkit.deploy.batches import Samples, check_shapes, one_batch
from slimkit.deploy.notes import hazard_notes, speed_notes
from slimkit.deploy.runtime import RUNTIMES, Latency, get_runtime
from slimkit.deploy.verify_latency import ratio
from slimkit.deploy.verify_metric import Top1
from slimkit.deploy.verify_report import VerifyRow
from slimkit.deploy.verify_run import Contender, run_side_by_side
from slimkit.deploy.verify_runtimes import VERIFIERS, Prepared, verifier
from slimkit.errors import ConfigError, DataError, ModelError

from .conftest import INPUT, SHAPE, WEIGHT
from .programs import Builder


@pytest.fixture(scope="module")
def fc_report(models):
    """A model with class scores: the int8 fc that Paddle gets wrong, against itself simulated as float."""
    labels = [np.array([[1], [3]])]
    return verify(models["fc"], models["fc"], [INPUT], labels, batch_sizes=(1, 3), latency_seconds=0.05)


def test_rows_and_numbers(fc_report):
    assert [row.precision for row in fc_report.rows] == ["float", "simulated", "int8"]
    base, simulated, int8 = fc_report.rows
    assert base.accuracy in (0, 0.5, 1) and base.size_bytes == int8.size_bytes > 0
    assert simulated.against_float.top1 == 1 and int8.against_simulated.samples == 2
    assert set(base.latency) == set(int8.latency) == {1, 3} and set(int8.speed_ratio) == {1, 3}
    assert (int8.int8_primitives, int8.float_primitives) == (1, 0)
    assert set(int8.profile) == {1, 3} and int8.profile[3]["int8 compute"] > 0
    assert fc_report.samples == 2 and fc_report.machine["cpu"]


def test_notes_warn_of_the_hazard(fc_report):
    notes = " ".join(fc_report.row("paddle", "int8").notes)
    assert "Distrust the int8 result of fc w" in notes and "1 of 1 convolutions" in notes and "batch 1" in notes


def test_report_is_json(fc_report):
    read = json.loads(json.dumps(fc_report.to_dict()))
    assert read["rows"][2]["speed_ratio"].keys() == {"1", "3"}
    assert read["metric"] == "top1"


def test_model_that_int8_refuses_is_reported_not_raised(models):
    report = verify(models["float"], models["four_bits"], [INPUT], latency_seconds=0)
    row = report.row("paddle", "int8")
    assert "8-bit activations only" in row.error and row.accuracy is None and row.latency == {}
    assert report.row("paddle", "simulated").error is None and report.metric is None


class Counting:
    """A metric that counts what it is given."""

    def __init__(self):
        self.seen = []

    def update(self, outputs, labels):
        assert isinstance(outputs, list)
        self.seen.append((outputs[0].shape, list(labels)))

    def result(self):
        return {"recall": 0.5, "hmean": 100.0 + len(self.seen)}


def test_metric_and_reference_of_the_caller(models):
    reference = [np.zeros((1, 16), "float32"), [np.zeros((1, 16), "float32")]]
    report = verify(
        models["fc"],
        models["fc"],
        [[INPUT[:1]], {"x": INPUT[1:]}],
        [["a"], ["b"]],
        metric=Counting,
        reference=(batch for batch in reference),
        latency_seconds=0,
        headline="hmean",
    )
    assert report.rows[0].accuracy == 102 and report.metric == "hmean"
    assert report.rows[0].metrics == {"recall": 0.5, "hmean": 102}
    assert report.row("paddle", "int8").against_simulated.relative == 1  # the reference is all zeros


def test_reference_of_fewer_batches():
    with pytest.raises(DataError, match="fewer batches in reference"):
        run_side_by_side([], Samples([INPUT, INPUT]), 1, reference=[np.zeros(1)])


class Stream:
    """A data set that is read anew each time, in batches of different shapes, and never held."""

    def __init__(self, sides=(10, 14)):
        self.sides, self.passes = sides, 0

    def __iter__(self):
        self.passes += 1
        for index, side in enumerate(self.sides):
            yield {"x": np.random.RandomState(index).randn(2, 4, side, side).astype("float32")}, None


@pytest.fixture(scope="module")
def open_sides(tmp_path_factory):
    """Prefixes of a float convolution whose image may have any side, and of the same quantized."""
    folder, prefixes = tmp_path_factory.mktemp("open_sides"), []
    for name, weight in (("float", lambda b: b.param("w", WEIGHT)), ("int8", lambda b: b.weight(WEIGHT, "w"))):
        builder = Builder()
        x = "x" if name == "float" else builder.qdq("x", 4.0, "a")
        prefixes.append(builder.save(folder / name, [-1, 4, -1, -1], builder.conv(x, weight(builder), "out")))
    return prefixes


def test_shapes_may_differ_between_batches(open_sides):
    stream = Stream()
    report = verify(*open_sides, stream, latency_seconds=0)
    int8 = report.row("paddle", "int8")
    assert report.samples == 4 and int8.against_float.samples == 4 and int8.against_float.sqnr_db > 30
    assert int8.error is None and int8.int8_primitives == 1 and report.metric is None
    assert stream.passes > 1


@pytest.mark.lite
@pytest.mark.usefixtures("needs_lite")
def test_paddle_lite_is_right_for_every_shape(open_sides):
    """Its x86 kernels are not when a predictor meets a second shape."""
    report = verify(*open_sides, Stream((10, 14, 10)), runtimes=("paddle", "lite-x86"), latency_seconds=0)
    row = report.row("lite-x86", "float")
    assert row.across_runtimes.relative < 1e-5 and row.notes == []
    assert report.row("paddle", "float").across_runtimes is None


def test_a_runtime_that_computes_float_otherwise_is_distrusted(open_sides):
    contenders = [
        Contender(verifier(name), verifier(name).variants[0], open_sides[0], Top1, False) for name in ("paddle", "onnx")
    ]
    right = np.random.RandomState(0).randn(2, 3)
    for contender, outputs in zip(contenders, (right, right + 0.5)):
        contender.prepared = Prepared(Path("m"), 1)
        contender.take([outputs], None, None, None, [right])
        contender.finish(2, None, "Paddle Inference")
    assert "other outputs here than on Paddle Inference (cosine 0." in contenders[1].row.notes[0]
    assert contenders[0].row.notes == [] and contenders[0].row.across_runtimes.relative == 0


def test_nan_outputs_are_said(models, tmp_path):
    builder = Builder()
    broken = WEIGHT.copy()
    broken[0, 0] = np.nan
    prefix = builder.save(tmp_path / "m", SHAPE, builder.conv("x", builder.param("w", broken), "out"))
    report = verify(prefix, models["onnx"], [INPUT, INPUT], latency_seconds=0)
    row = report.row("paddle", "float")
    assert row.error.startswith("The outputs hold NaN on Paddle Inference, float, so there is no accuracy")
    assert row.accuracy is None and row.size_bytes > 0 and report.samples == 4
    assert report.row("paddle", "int8").error is None and report.row("paddle", "int8").against_float is None


def test_corrupt_and_missing_models(models, tmp_path):
    (tmp_path / "m.pdmodel").write_bytes(open(models["onnx"] + ".pdmodel", "rb").read()[:100])
    (tmp_path / "m.pdiparams").write_bytes(b"12")
    with pytest.raises(ModelError, match=r"m\.pdmodel"):
        verify(models["float"], tmp_path / "m", [INPUT])
    with pytest.raises(ModelError, match="nowhere"):
        verify(tmp_path / "nowhere", models["onnx"], [INPUT])


def test_a_runtime_that_fails_leaves_the_others(models, monkeypatch, tmp_path):
    from slimkit.deploy import lite
    from slimkit.errors import RuntimeFailedError

    def convert(model, out, target, python=None):
        if target == "x86":
            raise RuntimeFailedError("Paddle-Lite refused it.")
        kernels = {"conv2d": {"int8": 2, "float": 1}, "calib": {"int8": 1}}
        return lite.Converted(tmp_path / "m.nb", target, 7, "int8", kernels)

    monkeypatch.setattr(lite, "convert", convert)
    report = verify(models["float"], models["onnx"], [INPUT], runtimes=("lite-x86", "lite-arm"), latency_seconds=0)
    assert [row.runtime for row in report.rows] == ["lite-x86"] * 2 + ["lite-arm"] * 2
    assert [row.error for row in report.rows] == ["Paddle-Lite refused it."] * 2 + [None] * 2
    arm = report.row("lite-arm", "int8")
    assert (arm.size_bytes, arm.int8_primitives, arm.float_primitives) == (7, 2, 1)
    assert arm.notes[0].startswith("Not run: this machine has no ARM. Paddle-Lite chose int8 kernels for 2 of the 3")
    assert report.base(arm) is report.row("lite-arm", "float")


def test_no_room_for_a_batch_is_the_rows_error(models, monkeypatch):
    def full(*arguments, **arrays):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    report = verify(models["float"], models["onnx"], [INPUT], latency_seconds=0)
    assert [("No space left on device; free space" in row.error) for row in report.rows] == [True] * 3


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"samples": []}, DataError, "no samples"),
        ({"samples": iter([INPUT])}, DataError, "read only once"),
        ({"labels": []}, DataError, "Batch 0 has samples but no labels"),
        ({"labels": [np.zeros(5)]}, DataError, "2 samples and 5 labels"),
        ({"samples": [(INPUT, np.zeros(5))]}, DataError, "2 samples and 5 labels"),
        ({"quantized": {"lite-arm": "m"}}, DataError, "one for 'paddle' is needed"),
        ({"runtimes": ["padle"]}, ConfigError, "did you mean 'paddle'"),
        ({"samples": [INPUT[:, :3]]}, DataError, r"\(2, 3, 10, 10\), but .* takes \(any, 4, 10, 10\)"),
        ({"samples": [INPUT * np.nan]}, DataError, "Batch 0 of the data holds NaN in input '0'"),
        ({"samples": [{"y": INPUT}]}, DataError, "no array for input 'x'"),
    ],
)
def test_wrong_arguments(models, arguments, error, says):
    with pytest.raises(error, match=says):
        verify(models["float"], **{"quantized": models["onnx"], "samples": [INPUT], "latency_seconds": 0, **arguments})


@pytest.mark.lite
@pytest.mark.usefixtures("needs_lite")
def test_lite_rows(models):
    names = ("paddle", "lite-x86", "lite-arm")
    exports = {"paddle": models["onnx"], "lite-arm": models["old"]}
    report = verify(models["float"], exports, [INPUT], runtimes=names, batch_sizes=(1,), latency_seconds=0.05)
    grid = report.row("lite-x86", "float on the int8 grid")
    assert grid.against_simulated.relative < 0.05 and "int8 kernels are wrong" in grid.notes[0]
    arm = report.row("lite-arm", "int8")
    assert arm.int8_primitives == 1 and arm.accuracy is None and "Not run" in arm.notes[0]
    assert arm.size_bytes < report.row("lite-arm", "float").size_bytes


def test_missing_lite_is_an_error_in_its_rows(models, monkeypatch):
    from slimkit.deploy import lite
    from slimkit.errors import RuntimeUnavailableError

    def missing(*args, **kwargs):
        raise RuntimeUnavailableError("No Paddle-Lite was found.")

    monkeypatch.setattr(lite, "find_interpreter", missing)
    report = verify(models["float"], models["onnx"], [INPUT], runtimes=("lite-arm",), latency_seconds=0)
    assert [row.error for row in report.rows if row.runtime == "lite-arm"] == ["No Paddle-Lite was found."] * 2


def test_one_batch_repeats_what_there_is():
    x = np.arange(6).reshape(3, 2)
    assert one_batch(Samples([{"x": x}]), 5)["x"][:, 0].tolist() == [0, 2, 4, 0, 2]
    assert one_batch(Samples([x[:1], x[1:]]), 2)[0].tolist() == x[:2].tolist()
    assert len(one_batch(Samples([[x, x]]), 1)) == 2


def test_one_batch_keeps_to_the_first_shape():
    batches = Samples([np.zeros((1, 2)), np.ones((1, 2)), np.ones((1, 3))])
    assert one_batch(batches, 3)[0][:, 0].tolist() == [0, 1, 0]


def test_shapes_of_empty_and_fitting_batches():
    check_shapes(INPUT, {"x": SHAPE}, "m")
    check_shapes(INPUT, {"x": [1, -1, -1, -1]}, "m")
    with pytest.raises(DataError, match="shape"):
        check_shapes(INPUT[:0], {"x": SHAPE}, "m")


def test_ratio_is_the_median_of_rounds():
    slow, fast = {"cpu_ms": [4, 40, 6], "wall_ms": [[1], [1], [1]]}, {"cpu_ms": [2, 20, 2], "wall_ms": [[4], [4], [4]]}
    assert ratio(slow, fast) == 2
    assert ratio(slow, fast, threads=2) == 0.25


def row(ratio_, profile, ms=10.0):
    found = VerifyRow("paddle", "t", "int8", int8_primitives=3, float_primitives=1, profile={1: profile})
    found.latency = {1: Latency(ms, ms, ms, ms, 1, 1)}
    found.speed_ratio = {1: ratio_}
    return found


def base_row(profile=None):
    return VerifyRow("paddle", "t", "float", profile={1: profile} if profile else {})


@pytest.mark.parametrize(
    ("profile", "says"),
    [
        ({"int8 compute": 1.0}, "90% of the time is the runtime's own cost per op and"),
        ({"int8 compute": 1.0, "float compute": 8.0}, "most arithmetic stayed float"),
        ({"int8 compute": 1.0, "reorder": 5.0, "other": 3.0}, "between them take 8.00 ms"),
        ({"int8 compute": 9.0}, "too small for int8 to pay"),
        ({}, "profile is not known"),
    ],
)
def test_why_int8_is_not_faster(profile, says):
    notes = speed_notes(base_row(), row(1.0, profile))
    assert notes[0] == "3 of 4 convolutions and matrix products ran in int8."
    assert "int8 is not faster at batch 1 (1.00x)" in notes[1] and says in notes[1]


@pytest.mark.parametrize(
    ("int8", "says"),
    [
        ({"int8 compute": 7.0, "reorder": 2.0}, "its arithmetic takes 7.00 ms and float's 7.00 ms: these layers gain"),
        ({"int8 compute": 3.0, "reorder": 5.0, "other": 1.0}, "takes 3.00 ms instead of 7.00 ms, but quantizing, "
         "dequantizing and the other ops take 6.00 ms instead of 1.00 ms"),
    ],
)  # fmt: skip
def test_where_int8_loses_what_it_gains(int8, says):
    assert says in speed_notes(base_row({"float compute": 7.0, "other": 1.0}), row(1.0, int8))[1]


def test_fallbacks_with_their_remedy():
    found = row(2.0, {})
    found.fallback = [{"op": "Conv", "reason": "its result has no grid"}] * 2
    notes = speed_notes(base_row(), found, "ONNX Runtime")
    assert notes[1] == "Left float: 2 because its result has no grid." and "slimkit ptq --to onnx" in notes[2]
    found.int8_primitives = 40
    assert not any("slimkit ptq" in note for note in speed_notes(base_row(), found, "ONNX Runtime"))
    found.int8_primitives = 0
    assert "no quantize ops that ONNX Runtime recognises" in speed_notes(base_row(), found, "ONNX Runtime")[1]


def test_faster_is_said_plainly():
    assert speed_notes(base_row(), row(2.5, {}))[-1] == "int8 is 2.50x as fast as float at batch 1."


def test_hazards_are_counted_not_repeated():
    found = row(1.0, {})
    found.hazards = [{"op": "pool2d", "weight": "", "output": f"p{i}", "problem": "shared scale"} for i in range(9)]
    assert hazard_notes(found) == ["Distrust the int8 result of 9 pool2d ops (first: p0): shared scale."]


def test_every_runtime_has_the_members_and_is_verified():
    assert set(RUNTIMES) <= set(VERIFIERS)
    for name in RUNTIMES:
        runtime = get_runtime(name)
        assert runtime.NAME == name
        assert all(callable(getattr(runtime, member)) for member in ("available", "export", "run", "bench"))
