"""``report.html`` from a :class:`RunReport`: one self-contained page, no script, no network."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Optional, Tuple

import yaml

from slimkit.recipe.run_report import LayerResult, RunReport, RuntimeResult
from slimkit.recipe.svg_charts import histogram, line_chart

__all__ = ["render", "runtime_rows", "verdict"]

STATE_NAMES = {"ok": "run", "unavailable": "not available", "failed": "failed", "converted": "converted only"}
DASH = "–"


def render(report: RunReport) -> str:
    """Returns the page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup, escape

    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates")
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = lambda text: Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
    with open(os.path.join(folder, "report.css"), encoding="utf-8") as handle:
        css = handle.read()
    verify, errors = report.config["verify"], [x for x in report.quantized if x.sqnr_db is not None]
    top = max([10.0, *(x.sqnr_db or 0.0 for x in errors)])
    rows = {id(x): _layer_row(x, top) for x in errors}
    return environment.get_template("report.html").render(
        report=report,
        css=Markup(css),
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
        skipped=_skipped(report),
        asked=", ".join(dict.fromkeys(layer.op_type for layer in report.quantized)) or "none",
        facts=_facts(report),
        config_text=yaml.safe_dump(report.config, sort_keys=False, allow_unicode=True).rstrip(),
    )


def _percent(value: Optional[float], digits: int = 2) -> str:
    return DASH if value is None else f"{value * 100:.{digits}f}%"


def _bytes(value: Optional[int]) -> str:
    if value is None:
        return DASH
    return f"{value / 1e6:.2f} MB" if value >= 1e5 else f"{value / 1e3:.1f} kB"


def _points(value: float) -> str:
    """Formats a difference of accuracies in percentage points, with a real minus sign."""
    return f"{value * 100:+.2f}".replace("-", "\u2212")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


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
    text = f"Run on {item.title}, the exported model is right on {_percent(item.top1)} of the test images"
    if base and base.top1 is not None and item.top1 is not None:
        text += f", {_points(item.top1 - base.top1)} points against float"
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
        _card("Wall time", _duration(seconds["total"]), [
            f"training {_duration(seconds.get('train', 0.0))}",
            f"saving and verifying {_duration(seconds.get('save_and_verify', 0.0))}",
        ]),
    ]  # fmt: skip


def _card(name: str, big: str, lines: List[str], tone: str = "") -> Dict[str, Any]:
    """Returns a card; ``tone`` colours its first line."""
    tones = [tone] + [""] * len(lines)
    return {"name": name, "big": big, "lines": [{"text": t, "tone": c} for t, c in zip(lines, tones)]}


def _accuracy_card(report: RunReport, item: Optional[RuntimeResult]) -> Dict[str, Any]:
    base = _float_like(report, item) if item else report.result("float")
    trained = report.result("simulated", "training")
    lines, tone = [f"float {_percent(base.top1 if base else None)}"], ""
    lines.append(f"simulated in training {_percent(trained.top1 if trained else None)}")
    if base and item and base.top1 is not None and item.top1 is not None:
        delta = item.top1 - base.top1
        lines.insert(0, f"{_points(delta)} points against float")
        tone = "good" if delta >= -0.005 else "bad"
    return _card("Accuracy as deployed", _percent(item.top1 if item else None), lines, tone)


def _size_card(report: RunReport, item: Optional[RuntimeResult]) -> Dict[str, Any]:
    base = _float_like(report, item) if item else None
    if not (item and base and item.size_bytes and base.size_bytes):
        return _card("Size", DASH, [])
    lines = [f"{_bytes(item.size_bytes)} on disk", f"float {_bytes(base.size_bytes)}"]
    return _card("Size", f"{item.size_bytes / base.size_bytes:.2f}×", lines)


def _speed_card(report: RunReport, item: Optional[RuntimeResult]) -> Dict[str, Any]:
    base = _float_like(report, item) if item else None
    if not (item and base and item.speed_ratio):
        return _card("Speed", DASH, ["no int8 arithmetic to time"])
    lines = [
        f"batch {size}: {item.latency_ms[size]:.2f} ms, float {base.latency_ms[size]:.2f}"
        for size in item.speed_ratio
        if size in item.latency_ms and size in base.latency_ms
    ]
    return _card("Speed", f"{max(item.speed_ratio.values()):.2f}×", lines)


def runtime_rows(report: RunReport) -> List[Dict[str, Any]]:
    """Returns the cells of the table of runtimes, a row a result."""
    return [_runtime_row(report, item, report.config["verify"]["batch_sizes"]) for item in report.results]


def _runtime_row(report: RunReport, item: RuntimeResult, batch_sizes: List[int]) -> Dict[str, Any]:
    base = _float_like(report, item)
    delta = DASH
    if base and item.model != "float" and item.top1 is not None and base.top1 is not None:
        delta = _points(item.top1 - base.top1)
    agreement = DASH if item.same_as_simulated is None else _percent(item.same_as_simulated, 1)
    return {
        "runtime": item.title,
        "notes": [item.reason] if item.reason else item.notes,
        "model": item.model,
        "status": item.status,
        "state": STATE_NAMES[item.status],
        "top1": _percent(item.top1),
        "delta": delta,
        "agreement": agreement,
        "size": _bytes(item.size_bytes),
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
    ends = (0.0, float(curves.steps[-1]))
    reference = (base.top1, "float") if base and base.top1 is not None else None
    accuracy = [(e["step"], e["top1"]) for e in curves.evaluations]
    loss, rate = list(zip(curves.steps, curves.loss)), list(zip(curves.steps, curves.rate))
    return [
        ("Training loss", line_chart(
            loss, title="Training loss over steps", x_label="step", smooth=len(loss) > 60, x_range=ends)),
        ("Top-1 of the simulated model", line_chart(
            accuracy, title="Test accuracy over steps", x_label="step", x_range=ends, dots=True, percent=True,
            reference=reference)),
        ("Learning rate", line_chart(
            rate, title="Learning rate over steps", x_label="step", css="line-b", x_range=ends)),
    ]  # fmt: skip


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
            "clipped": _percent(item.clipped),
            "svg": histogram(
                item.histogram.counts, item.histogram.low, item.histogram.high, before=before, after=after,
                title=f"Histogram of {item.activation}, clipped at {before} before training, {after} after"),
        })  # fmt: skip
    return shown


def _skipped(report: RunReport) -> List[Dict[str, Any]]:
    groups: Dict[str, List[Any]] = {}
    for op in report.skipped:
        groups.setdefault(op.reason, []).append(op)
    return [
        {
            "reason": reason,
            "count": len(ops),
            "types": ", ".join(sorted({op.type for op in ops})),
            "names": ", ".join(op.op for op in ops[:40]) + (", …" if len(ops) > 40 else ""),
        }
        for reason, ops in sorted(groups.items(), key=lambda pair: -len(pair[1]))
    ]


def _facts(report: RunReport) -> List[Tuple[str, str]]:
    def line(values: Dict[str, Any]) -> str:
        return ", ".join(
            f"{key.replace('_', ' ')} {value}" for key, value in values.items() if value not in ("", None, [])
        )

    facts = [("Network", line(report.network))]
    facts += [(f"{part.capitalize()} data", line(values)) for part, values in report.data.items()]
    facts += [
        ("Environment", line(report.environment)),
        ("Steps", line({k: _duration(v) for k, v in report.seconds.items()})),
    ]
    return facts + [(name.capitalize(), path) for name, path in report.files.items()]
