"""The page of `slimkit ptq`: well formed, self-contained, and saying what report.json says."""

from __future__ import annotations

import numpy as np
import pytest
from test_html_report import text_of

from slimkit.errors import SlimkitError
from slimkit.recipe.html_parts import points
from slimkit.recipe.ptq_html import render
from slimkit.recipe.ptq_report import (
    PTQ_SCHEMA_VERSION,
    Closeness,
    DeployedResult,
    GridRange,
    LayerError,
    PlannedLayer,
    PtqRunReport,
    RuntimePlan,
    TensorGrid,
    Timing,
    write_ptq_report,
)
from slimkit.recipe.ptq_rows import verdict
from slimkit.recipe.run_report import Histogram, SkippedOp


def timing(ms):
    return Timing(median_ms=ms, p10_ms=ms * 0.9, p90_ms=ms * 1.2, cpu_ms=ms)


def result(runtime, title, model, accuracy, size, ms, **more):
    return DeployedResult(
        runtime=runtime, title=title, model=model, metrics={"exact_match": accuracy, "edit": accuracy + 0.01},
        samples=64, size_bytes=size, latency={"1": timing(ms), "8": timing(ms * 7)}, **more,
    )  # fmt: skip


def plan(runtime, types=("conv2d",), reason="an average pool <follows>"):
    layers = [
        PlannedLayer(name=f"{kind}.out", op_type=kind, weight=f"{kind}.w_0", activations=["relu.out"], weight_bits=8,
                     activation_bits=8, per_channel=True)
        for kind in types
    ]  # fmt: skip
    skipped = [SkippedOp(op="fc.out", type="matmul_v2", reason=reason)]
    return RuntimePlan(runtime=runtime, quantized=layers, skipped=skipped, other_ops={"softmax": 2})


@pytest.fixture
def report():
    counts = np.exp(-(np.linspace(-3, 3, 64) ** 2) * 2) * 4000
    seen = Histogram(low=-1.5, high=3.0, counts=counts.astype(int).tolist())
    ranges = [GridRange(runtimes=["paddle", "lite-arm"], low=-2.5, high=2.5, clipped=0.002),
              GridRange(runtimes=["onnx"], low=-1.4, high=2.5, clipped=0.004)]  # fmt: skip
    close = Closeness(cosine=0.9987, sqnr_db=26.1, max_abs=0.2, relative=0.05, top1=0.984, samples=64)
    return PtqRunReport(
        title="ch_PP-OCRv4_rec, hist, W8A8", created="2026-01-01T00:00:00+00:00", command="slimkit ptq a b --data d",
        asked={"model": "rec", "data": "d", "runtimes": "paddle, onnx, lite-arm", "batches": 4},
        config={"algo": "hist", "weight_bits": 8}, environment={"slimkit": "0.2.0", "python": "3.11"},
        model={"ops": 210, "parameters": 2_700_000}, data={"kind": "text lines", "samples": 64, "skipped": 1},
        calibration={"batches": 4, "samples": 32},
        seconds={"prepare": 0.4, "calibrate": 6.1, "quantize": 0.3, "export": 4.0, "verify": 41.0, "total": 52.0},
        float_seconds=4.5, task="ppocr_rec", headline="exact_match", batch_sizes=[1, 8],
        results=[
            result("paddle", "Paddle Inference, float", "float", 0.95, 10_800_000, 20.0),
            result("paddle", "Paddle Inference, oneDNN int8", "int8", 0.94, 3_200_000, 12.0, size_ratio=0.2963,
                   speed_ratio={"1": 1.7, "8": 2.1}, against_float=close, int8_ops=38, float_ops=13,
                   notes=["38 of 51 convolutions and matrix products ran in int8.", "see `slimkit inspect`"]),
            result("onnx", "ONNX Runtime, float", "float", 0.95, 10_900_000, 25.0),
            result("onnx", "ONNX Runtime, int8", "int8", 0.945, 3_000_000, 10.0, size_ratio=0.2752,
                   speed_ratio={"1": 2.5, "8": 2.6}, against_float=close),
            DeployedResult(runtime="lite-arm", title="Paddle-Lite ARM (converted, not run), quantized", model="int8",
                           status="converted", size_bytes=3_000_000, size_ratio=0.28, int8_ops=45, float_ops=6),
            DeployedResult(runtime="lite-x86", title="Paddle-Lite x86", model="int8", status="unavailable",
                           reason="No Paddle-Lite was found."),
        ],
        plans=[plan("paddle"), plan("lite-arm"), plan("onnx", ("conv2d", "matmul_v2"), "rule")],
        tensors=[TensorGrid(name=f"relu_{i}.out", ranges=ranges, histogram=seen) for i in range(14)],
        layers=[LayerError(name=f"c{i}", op_type="conv2d", weight=f"conv{i}.w_0", sqnr_db=31.0 - i, cosine=0.99,
                           isolated_sqnr_db=40.0 - i) for i in range(10)],
        notes=["The rule *fc* of rules matched no op."], files={"paddle model": "paddle/model.pdmodel"},
    )  # fmt: skip


def test_page_is_well_formed_and_loads_nothing(report):
    html = render(report)
    checker, _ = text_of(html)
    assert set(checker.loads) == {"report.json"} and "url(" not in html


def test_page_says_the_figures(report):
    _, text = text_of(render(report))
    for shown in ("94.00%", points(-0.01), "0.28×", "2.60×", "38 / 13", "26.1 dB", "98.4%", "converted only",
                  "No Paddle-Lite was found.", "paddle and lite-arm", "an average pool <follows>", "2 softmax",
                  "-1.4 to 2.5", "0.20% clipped", "1.5× float inference of the same data", "22.0 dB", "matched no op",
                  "calibrated on 32 samples in 6.1 s", "12.00 ms", "10.80–14.40", "Exact match"):  # fmt: skip
        assert shown in text, shown


def test_runtimes_with_one_plan_share_a_section(report):
    html = render(report)
    assert html.count("What is quantized for") == 2 and html.count('class="third"') == 0
    assert html.count('class="after" x1') == 2 * 14 and html.count('class="before" x1') == 2 * 14


def test_part_of_a_group_of_runtimes_has_the_groups_line(report):
    report.tensors[3] = report.tensors[3].model_copy(deep=True)
    report.tensors[3].ranges[0].runtimes = ["lite-arm"]
    html = render(report)
    assert html.count('class="after" x1') == 2 * 14 and "range for lite-arm<" not in html
    assert html.count("range for ") == 2


def test_weights_that_are_only_stored_in_integers_are_not_called_computed(report):
    report.plans = report.plans[2:]
    report.plans[0].quantized[0].activations = []
    _, text = text_of(render(report))
    assert "1 op is computed in integers there; 1 only stores its weight in integers." in text
    report.plans[0].quantized, report.plans[0].skipped = report.plans[0].quantized[1:], []
    assert "1 op is computed in integers there, all of the types that can be." in text_of(render(report))[1]


def test_verdict_has_a_sentence_for_each_int8_runtime(report):
    said = verdict(report)
    assert said.startswith("On Paddle Inference, oneDNN int8, exact match is 94.00%, \u22121.00 points against float")
    assert "at 0.30 of the size and 2.10 times the speed (batch 8)." in said and "On ONNX Runtime, int8" in said


def test_without_labels_the_outputs_are_compared(report):
    report.headline = None
    for item in report.results:
        item.metrics = {}
    _, text = text_of(render(report))
    assert "outputs agree with float's to 26.1 dB SQNR, cosine 0.9987" in text and "points against" not in text


def test_equal_outputs(report):
    report.headline = None
    report.results[1].against_float = Closeness(cosine=1.0, sqnr_db=None, max_abs=0.0, relative=0.0, samples=1)
    assert verdict(report).startswith("On Paddle Inference, oneDNN int8, outputs equal float's, at 0.30")


def test_nothing_ran(report):
    report.results = report.results[4:]
    report.layers, report.tensors, report.plans, report.seconds = [], [], [], {}
    _, text = text_of(render(report))
    assert "could not be run on any runtime" in text


def test_verification_has_no_json_beside_it(report):
    report.kind = "verify"
    checker, text = text_of(render(report))
    assert checker.loads == [] and "verification report" in text


def test_json_round_trip_and_descriptions(report):
    assert PtqRunReport.model_validate_json(report.model_dump_json()) == report
    assert report.schema_version == PTQ_SCHEMA_VERSION == 1
    for model in (PtqRunReport, DeployedResult, Closeness, Timing, TensorGrid, GridRange, PlannedLayer, LayerError):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"


def test_written_whole_or_not_at_all(report, tmp_path, monkeypatch):
    paths = write_ptq_report(report, tmp_path / "out")
    assert [path.rsplit("/", 1)[1] for path in paths] == ["report.html", "report.json"]
    assert PtqRunReport.model_validate_json((tmp_path / "out" / "report.json").read_text()) == report

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(SlimkitError, match=r"report\.html could not be written: No space left on device; free space"):
        write_ptq_report(report, tmp_path / "other")
    assert list((tmp_path / "other").iterdir()) == []
