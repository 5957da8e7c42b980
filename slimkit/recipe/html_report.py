"""``report.html`` from a :class:`RunReport`: one self-contained page, no script, no network."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

import yaml

from slimkit.recipe.html_parts import (
    DASH,
    STATE_NAMES,
    card,
    duration,
    facts,
    percent,
    points,
    render_page,
    size_text,
    skipped_groups,
)
from slimkit.recipe.run_report import LayerResult, RunReport, RuntimeResult
from slimkit.recipe.svg_charts import histogram, training_charts

__all__ = ["render", "runtime_rows", "verdict"]


def render(report: RunReport) -> str:
    """Returns the page."""
    from markupsafe import Markup

    verify, errors = report.config["verify"], [x for x in report.quantized if x.sqnr_db is not None]
    top = max([10.0, *(x.sqnr_db or 0.0 for x in errors)])
    rows = {id(x): _layer_row(x, top) for x in errors}
    return render_page(
        "report.html",
        report=report,
        verdict=verdict(report),
        cards=_cards(report),
        rows=runtime_rows(report),
        batch_sizes=verify["batch_sizes"],
        threads=verify["threads"],
        training_lead=_training_lead(report),
        charts=[{"name": name, "svg": Markup(svg)} for name, svg in _charts(report)],
        errors=[rows[id(x)] for x in sorted(errors, key=lambda x: x.sqnr_db or 0.0)],
        errors_in_order=[rows[id(x)] for x in errors],
        sqnr_top=f"{top:.0f}",
        layer_images=report.config["report"]["images"],
        histograms=[{**h, "svg": Markup(h["svg"])} for h in _histograms(report.quantized)],
        skipped=skipped_groups(report.skipped),
        asked=", ".join(dict.fromkeys(layer.op_type for layer in report.quantized)) or "none",
        facts=_facts(report),
        config_text=yaml.safe_dump(report.config, sort_keys=False, allow_unicode=True).rstrip(),
    )


def deployed(report: RunReport) -> Optional[RuntimeResult]:
    """Returns the exported model's own result: int8 on a runtime, else simulated on one."""
    for model in ("int8", "simulated"):
        for item in report.results:
            if item.model == model and item.runtime != "training" and item.top1 is not None:
                return item
    return None


def _float_like(report: RunReport, item: RuntimeResult) -> Optional[RuntimeResult]:
    """Returns the float result to compare with: of the same runtime, else any."""
    return report.result("float", item.runtime) or report.result("float")


def verdict(report: RunReport) -> str:
    """Returns the one sentence that says what the run came to."""
    item = deployed(report)
    if item is None:
        if all(report.config["verify"][key] == "skip" for key in ("paddle_inference", "lite")):
            return "The exported model was not run on any runtime, as the config asked (verify: skip)."
        return "The exported model could not be run on any runtime; the table says why."
    base = _float_like(report, item)
    text = f"Run on {item.title}, the exported model is right on {percent(item.top1)} of the test images"
    if base and base.top1 is not None and item.top1 is not None:
        text += f", {points(item.top1 - base.top1)} points against float"
        if base.size_bytes and item.size_bytes:
            text += f", at {item.size_bytes / base.size_bytes:.2f} of the size"
    if item.speed_ratio:
        size, factor = max(item.speed_ratio.items(), key=lambda pair: pair[1])
        text += f" and {factor:.2f} times the speed (batch {size})"
    return text + "."


def _cards(report: RunReport) -> List[Dict[str, Any]]:
    item, seconds = deployed(report), report.seconds
    return [
        _accuracy_card(report, item),
        _size_card(report, item),
        _speed_card(report, item),
        card("Wall time", duration(seconds["total"]), [
            f"training {duration(seconds.get('train', 0.0))}",
            f"saving and verifying {duration(seconds.get('save_and_verify', 0.0))}",
        ]),
    ]  # fmt: skip


def _accuracy_card(report: RunReport, item: Optional[RuntimeResult]) -> Dict[str, Any]:
    base = _float_like(report, item) if item else report.result("float")
    trained = report.result("simulated", "training")
    lines, tone = [f"float {percent(base.top1 if base else None)}"], ""
    lines.append(f"simulated in training {percent(trained.top1 if trained else None)}")
    if base and item and base.top1 is not None and item.top1 is not None:
        delta = item.top1 - base.top1
        lines.insert(0, f"{points(delta)} points against float")
        tone = "good" if delta >= -0.005 else "bad"
    return card("Accuracy as deployed", percent(item.top1 if item else None), lines, tone)


def _size_card(report: RunReport, item: Optional[RuntimeResult]) -> Dict[str, Any]:
    base = _float_like(report, item) if item else None
    if not (item and base and item.size_bytes and base.size_bytes):
        return card("Size", DASH, [])
    lines = [f"{size_text(item.size_bytes)} on disk", f"float {size_text(base.size_bytes)}"]
    return card("Size", f"{item.size_bytes / base.size_bytes:.2f}×", lines)


def _speed_card(report: RunReport, item: Optional[RuntimeResult]) -> Dict[str, Any]:
    base = _float_like(report, item) if item else None
    if not (item and base and item.speed_ratio):
        return card("Speed", DASH, ["no int8 arithmetic to time"])
    lines = [
        f"batch {size}: {item.latency_ms[size]:.2f} ms, float {base.latency_ms[size]:.2f}"
        for size in item.speed_ratio
        if size in item.latency_ms and size in base.latency_ms
    ]
    return card("Speed", f"{max(item.speed_ratio.values()):.2f}×", lines)


def runtime_rows(report: RunReport) -> List[Dict[str, Any]]:
    """Returns the cells of the table of runtimes, a row a result."""
    return [_runtime_row(report, item, report.config["verify"]["batch_sizes"]) for item in report.results]


def _runtime_row(report: RunReport, item: RuntimeResult, batch_sizes: List[int]) -> Dict[str, Any]:
    base = _float_like(report, item)
    delta = DASH
    if base and item.model != "float" and item.top1 is not None and base.top1 is not None:
        delta = points(item.top1 - base.top1)
    agreement = DASH if item.same_as_simulated is None else percent(item.same_as_simulated, 1)
    return {
        "runtime": item.title,
        "notes": [item.reason] if item.reason else item.notes,
        "model": item.model,
        "status": item.status,
        "state": STATE_NAMES[item.status],
        "top1": percent(item.top1),
        "delta": delta,
        "agreement": agreement,
        "size": size_text(item.size_bytes),
        "latency": [f"{item.latency_ms[str(s)]:.2f} ms" if str(s) in item.latency_ms else DASH for s in batch_sizes],
    }


def _training_lead(report: RunReport) -> str:
    train, batch = report.config["train"], report.config["data"]["batch_size"]
    steps = report.curves.steps[-1] if report.curves.steps else 0
    if not steps:
        return "No training: scales come from calibration alone."
    return (
        f"{train['epochs']} epoch{'' if train['epochs'] == 1 else 's'}, {steps} steps of {batch} images. "
        f"The exported state is that of step {report.best_step}, the best on the test set."
    )


def _charts(report: RunReport) -> List[Tuple[str, str]]:
    curves, base = report.curves, report.result("float")
    if not curves.steps:
        return []
    reference = (base.top1, "float") if base and base.top1 is not None else None
    accuracy = [(e["step"], e["top1"]) for e in curves.evaluations]
    return training_charts(curves, accuracy, "Top-1 of the simulated model", "Test accuracy over steps", reference)


def _bits(item: LayerResult) -> str:
    return f"W{item.weight_bits or DASH} A{item.activation_bits or DASH}"


def _layer_row(item: LayerResult, top: float) -> Dict[str, Any]:
    sqnr = item.sqnr_db or 0.0
    return {
        "name": item.layer or item.weight or item.name,
        "about": f"{item.op_type}, {item.weight}" if item.layer else item.op_type,
        "bits": _bits(item),
        "sqnr": f"{sqnr:.1f} dB",
        "width": f"{max(0.0, min(100.0, 100 * sqnr / top)):.1f}",
        "cosine": DASH if item.cosine is None else f"{item.cosine:.4f}",
    }


def _histograms(layers: List[LayerResult]) -> List[Dict[str, str]]:
    shown, seen = [], set()
    for item in layers:
        if item.histogram is None or item.activation in seen:
            continue
        seen.add(item.activation)
        before, after = item.threshold_before, item.threshold_after
        shown.append({
            "name": item.activation,
            "before": DASH if before is None else f"{before:.3g}",
            "after": DASH if after is None else f"{after:.3g}",
            "clipped": percent(item.clipped),
            "svg": histogram(
                item.histogram.counts, item.histogram.low, item.histogram.high, before=before, after=after,
                title=f"Histogram of {item.activation}, clipped at {before} before training, {after} after"),
        })  # fmt: skip
    return shown


def _facts(report: RunReport) -> List[Tuple[str, str]]:
    rows = [("Network", report.network)]
    rows += [(f"{part.capitalize()} data", values) for part, values in report.data.items()]
    rows += [("Environment", report.environment), ("Steps", {k: duration(v) for k, v in report.seconds.items()})]
    return facts(rows) + [(name.capitalize(), path) for name, path in report.files.items()]
