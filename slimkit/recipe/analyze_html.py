"""The page of ``slimkit analyze``: self-contained, no script, no network."""

from __future__ import annotations

from typing import Any, Dict, List

from slimkit.quant.analysis import LayerAnalysis, TensorRange
from slimkit.recipe.analyze_rows import curve_rows, decibel, layer_rows, rules_text, verdict
from slimkit.recipe.analyze_run import AnalyzeReport
from slimkit.recipe.html_parts import DASH, card, duration, facts, percent, render_page, skipped_groups
from slimkit.recipe.run_report import SkippedOp
from slimkit.recipe.svg_bars import paired_bars
from slimkit.recipe.svg_charts import histogram, line_chart

__all__ = ["render"]

_SHOWN = 10


def render(report: AnalyzeReport) -> str:
    """Returns the page."""
    from markupsafe import Markup

    found = report.analysis
    rows = layer_rows(found)
    skipped = [SkippedOp(op=row["op"], type=row["type"], reason=row["reason"]) for row in report.skipped]
    return render_page(
        "analyze_report.html",
        report=report,
        verdict=verdict(found, report.headline),
        cards=_cards(report),
        rows=rows[:_SHOWN],
        more=rows[_SHOWN:],
        bars=Markup(_bars(report)),
        charts=[{"name": name, "svg": Markup(svg)} for name, svg in _charts(report)],
        curve=curve_rows(found, report.headline),
        headline=report.headline,
        rules=rules_text(found),
        histograms=[{**h, "svgs": [Markup(svg) for svg in h["svgs"]]} for h in _histograms(report)],
        skipped=skipped_groups(skipped),
        samples=found.samples,
        facts=facts([
            ("Model", report.model),
            ("Data", report.data),
            ("Environment", dict(report.environment)),
            ("Steps", {name: duration(value) for name, value in found.seconds.items()}),
        ]),
    )  # fmt: skip


def _cards(report: AnalyzeReport) -> List[Dict[str, Any]]:
    found = report.analysis
    worst = found.layer(found.ranking[0])
    cards = [
        card("Everything quantized", f"{decibel(found.final)} dB", ["SQNR of the model's results"]),
        card("The most harmful layer", f"{decibel(worst.final)} dB", [worst.name, "results with it alone quantized"]),
    ]
    if found.curve:
        end = found.curve[found.suggested]
        named = [found.layer(op).name for op in found.float_ops[:2]]
        more = [f"and {found.suggested - 2} more"] if found.suggested > 2 else []
        big = f"{found.suggested} float" if found.suggested else "none float"
        cards.append(card("Suggested", big, [f"{decibel(end.final)} dB", *named, *more]))
    total = sum(found.seconds.values())
    alone = found.seconds.get("each layer alone", 0.0) / max(1, len(found.layers))
    cards.append(card("Wall time", duration(total), [f"{alone:.2f} s a layer, {found.samples} samples"]))
    return cards


def _bars(report: AnalyzeReport) -> str:
    found = report.analysis
    items = [(row.name, row.own.sqnr_db, row.accumulated.sqnr_db) for row in found.layers]
    return paired_bars(
        items,
        title="SQNR of each layer's output, alone and with everything quantized",
        y_label="SQNR, dB",
        marked=[found.layer(op).name for op in found.float_ops],
    )


def _charts(report: AnalyzeReport) -> List[Any]:
    found = report.analysis
    if len(found.curve) < 2:
        return []
    points = [(float(step.count), step.final.sqnr_db or 0.0) for step in found.curve]
    charts = [
        ("SQNR of the results, dB", line_chart(points, title="SQNR over layers left float", x_label="layers left float",
                                               dots=True)),
    ]  # fmt: skip
    if report.headline:
        values = [(float(step.count), step.metrics[report.headline]) for step in found.curve]
        charts.append((report.headline, line_chart(
            values, title=f"{report.headline} over layers left float", x_label="layers left float", css="line-b",
            dots=True, percent=True)))  # fmt: skip
    ranked = [(float(i + 1), found.layer(name).final.sqnr_db or 0.0) for i, name in enumerate(found.ranking)]
    title = "SQNR of the results with one layer alone quantized"
    charts.append(("Results with one layer alone quantized, dB",
                   line_chart(ranked, title=title, x_label="rank of the layer")))  # fmt: skip
    return charts


def _histograms(report: AnalyzeReport) -> List[Dict[str, Any]]:
    found = report.analysis
    shown = []
    for name in found.ranking:
        row: LayerAnalysis = found.layer(name)
        parts = [("activation", part) for part in row.activations]
        parts += [("weight", row.weight)] if row.weight is not None else []
        drawn = [(kind, part) for kind, part in parts if part.histogram is not None]
        if drawn:
            shown.append({
                "name": row.name,
                "lines": [_range_text(kind, part) for kind, part in drawn],
                "svgs": [_histogram(kind, part) for kind, part in drawn],
            })  # fmt: skip
    return shown


def _range_text(kind: str, part: TensorRange) -> str:
    ends = DASH if part.low is None or part.high is None else f"{part.low:.3g} to {part.high:.3g}"
    return f"{kind}: {ends}, {percent(part.clipped)} clipped"


def _histogram(kind: str, part: TensorRange) -> str:
    assert part.histogram is not None
    ranges = [] if part.low is None or part.high is None else [("after", part.low, part.high)]
    counts = part.histogram
    return histogram(
        counts.counts, counts.low, counts.high, title=f"Histogram of the {kind} {part.tensor}", ranges=ranges
    )
