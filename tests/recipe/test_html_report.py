"""report.html: well formed, self-contained, escaped, and saying what report.json says."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from slimkit.recipe.config_file import load_config
from slimkit.recipe.html_report import render, verdict
from slimkit.recipe.run_report import (
    SCHEMA_VERSION,
    Curves,
    Histogram,
    LayerResult,
    RunReport,
    RuntimeResult,
    SkippedOp,
)
from slimkit.recipe.svg_charts import histogram, line_chart, ticks

VOID = {"meta", "br", "link", "img", "input", "hr"}


class Checker(HTMLParser):
    """Checks nesting and collects what a page would load."""

    def __init__(self):
        super().__init__()
        self.stack, self.loads, self.text = [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.loads += [values[k] for k in ("src", "href") if k in values]
        assert tag != "script"
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


@pytest.fixture
def report(config_file):
    layer = LayerResult(
        name="conv.out", op_type="conv2d", weight="conv.w_0", activation="relu.out", weight_bits=8,
        activation_bits=8,
        threshold_before=4.0, threshold_after=2.5, clipped=0.01, sqnr_db=25.0, cosine=0.999,
        histogram=Histogram(low=0.0, high=5.0, counts=[9, 5, 2, 1, 1]),
    )  # fmt: skip
    return RunReport(
        title="net <b>, QAT, W8A8",
        created="2026-01-01T00:00:00+00:00",
        command="slimkit quant -c a.yml",
        seconds={"choose": 0.1, "train": 61.0, "verify": 3.0, "total": 90.0},
        seed=3,
        config=load_config(config_file()).model_dump(),
        config_file="a.yml",
        config_hash="0123456789abcdef",
        environment={"slimkit": "0.1.0", "python": "3.11"},
        network={"name": "net", "parameters": 10},
        data={"train": {"kind": "k", "samples": 8}, "test": {"kind": "k", "samples": 4}},
        results=[
            RuntimeResult(runtime="training", title="T", model="float", top1=0.90, samples=4),
            RuntimeResult(runtime="training", title="T, simulated", model="simulated", top1=0.92, samples=4),
            RuntimeResult(runtime="paddle", title="P, float", model="float", top1=0.9, samples=4,
                          size_bytes=4_000_000, latency_ms={"1": 2.0, "8": 8.0}),
            RuntimeResult(runtime="paddle", title="P, int8", model="int8", top1=0.91, samples=4,
                          size_bytes=1_000_000, latency_ms={"1": 2.5, "8": 4.0}, same_as_simulated=0.875,
                          speed_ratio={"1": 0.8, "8": 2.0}, notes=["3 of 4 ran in int8."]),
            RuntimeResult(runtime="lite-x86", title="L", model="int8", status="unavailable",
                          reason="run `slimkit lite-install` first & again"),
        ],
        curves=Curves(steps=[1, 2], loss=[1.0, 0.5], rate=[0.1, 0.05],
                      evaluations=[{"epoch": 1, "step": 2, "top1": 0.92}]),
        best_step=2,
        quantized=[layer],
        skipped=[SkippedOp(op=f"p{i}", type="pool2d", reason="not asked for") for i in range(3)],
        notes=["a note"],
    )  # fmt: skip


def text_of(html):
    checker = Checker()
    checker.feed(html)
    assert checker.stack == []
    return checker, re.sub(r"\s+", " ", " ".join(checker.text))


def test_page_is_well_formed_and_loads_nothing(report):
    checker, _ = text_of(render(report))
    assert set(checker.loads) == {"report.json"}
    assert "url(" not in render(report) and "@import" not in render(report)


def test_page_says_the_figures(report):
    _, text = text_of(render(report))
    for shown in ("91.00%", "+1.00 points against float", "0.25×", "2.00×", "1 min 30 s",
                  "not available", "25.0 dB", "87.5%", "3 of 4 ran in int8.", "1.00% clipped",
                  "not asked for", "slimkit quant -c a.yml", "a note"):  # fmt: skip
        assert shown in text, shown


def test_verdict_takes_the_best_speed_and_the_same_runtimes_float(report):
    assert verdict(report) == (
        "Run on P, int8, the exported model is right on 91.00% of the test images, +1.00 points against "
        "float, at 0.25 of the size and 2.00 times the speed (batch 8)."
    )


def test_verdict_without_int8_arithmetic_is_of_the_simulated_run(report):
    report.results[3] = RuntimeResult(runtime="paddle", title="P, simulated", model="simulated", top1=0.5)
    assert verdict(report).startswith("Run on P, simulated, the exported model is right on 50.00%")
    assert "−40.00 points" in verdict(report)


def test_without_any_deployed_result(report):
    report.results = report.results[:2]
    assert "could not be run on any runtime" in verdict(report)
    text_of(render(report))


def test_text_is_escaped_and_backticks_become_code(report):
    html = render(report)
    assert "net &lt;b&gt;" in html and "<code>slimkit lite-install</code> first &amp; again" in html


def test_empty_run(report):
    report.curves, report.quantized, report.skipped, report.notes = Curves(), [], [], []
    _, text = text_of(render(report))
    assert "No training" in text


def test_json_round_trip_and_version(report):
    again = RunReport.model_validate_json(report.model_dump_json())
    assert again == report and again.schema_version == SCHEMA_VERSION == 1


def test_every_field_of_the_json_is_described():
    for model in (RunReport, RuntimeResult, LayerResult, Histogram, SkippedOp, Curves):
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"


@pytest.mark.parametrize(
    "low, high, want",
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 624, [0, 200, 400, 600]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round_and_inside(low, high, want):
    assert ticks(low, high) == want


def test_chart_leaves_out_what_is_not_finite():
    svg = line_chart([(0, 1.0), (1, float("nan")), (2, 3.0)], title="t", x_label="x")
    assert "nan" not in svg and svg.count("<polyline") == 1
    assert "nothing to show" in line_chart([(0, float("nan"))], title="t", x_label="x")


def test_histogram_thresholds_are_mirrored_only_where_there_are_negative_values():
    both = histogram([1, 2, 1], -1.0, 1.0, title="t", before=0.9, after=0.5)
    positive = histogram([1, 2, 1], 0.0, 1.0, title="t", before=0.9, after=0.5)
    assert both.count('class="after"') == 2 and positive.count('class="after"') == 1
    assert 'aria-label="t"' in both
