"""``report.html`` of ``slimkit ptq`` and ``slimkit verify``: one self-contained page, no script, no network."""

from __future__ import annotations

from collections import Counter
from typing import Any, Dict, List, Optional, Tuple

from slimkit.recipe.html_parts import (
    DASH,
    card,
    duration,
    facts,
    percent,
    render_page,
    size_text,
    skipped_groups,
)
from slimkit.recipe.ptq_report import LayerError, PtqRunReport, RuntimePlan, TensorGrid
from slimkit.recipe.ptq_rows import delta_text, deployed, deployed_rows, figure_name, verdict
from slimkit.recipe.svg_charts import histogram

__all__ = ["render"]

#: Classes of the lines of a histogram, for up to three groups of runtimes.
_LINES = ("after", "before", "third")


def render(report: PtqRunReport) -> str:
    """Returns the page."""
    import yaml
    from markupsafe import Markup

    groups = _range_groups(report)
    names = sorted({name for item in report.results for name in item.metrics})
    top = max([10.0, *(x.sqnr_db or 0.0 for x in report.layers)])
    rows = {id(x): _layer_row(x, top) for x in report.layers}
    return render_page(
        "ptq_report.html",
        report=report,
        verdict=verdict(report),
        cards=_cards(report),
        rows=deployed_rows(report),
        headline=figure_name(report.headline),
        metric_names=[(name, figure_name(name)) for name in names],
        metric_rows=[
            (item.title, [percent(item.metrics.get(name)) for name in names]) for item in report.results if item.metrics
        ],
        steps=_steps(report),
        plans=[_plan(plan, names_) for plan, names_ in _plan_groups(report)],
        errors=[rows[id(x)] for x in sorted(report.layers, key=lambda x: x.sqnr_db or 0.0)],
        errors_in_order=[rows[id(x)] for x in report.layers],
        sqnr_top=f"{top:.0f}",
        line_names=_line_names(groups),
        histograms=[{**h, "svg": Markup(h["svg"])} for h in _histograms(report.tensors, groups)],
        facts=_facts(report),
        config_text=yaml.safe_dump(report.config, sort_keys=False, allow_unicode=True).rstrip()
        if report.config
        else "",
    )


def _cards(report: PtqRunReport) -> List[Dict[str, Any]]:
    cards = [_accuracy_card(report), _size_card(report), _speed_card(report)]
    if report.seconds:
        cards.append(_time_card(report))
    return cards


def _short(title: str) -> str:
    """A runtime's name without its mode."""
    return title.split(" (")[0].split(",")[0]


def _accuracy_card(report: PtqRunReport) -> Dict[str, Any]:
    items = deployed(report)
    best = items[0] if items else None
    if report.headline is None or report.accuracy(best) is None:
        against = [(item, item.against_float) for item in items if item.against_float]
        lines = [f"{_short(item.title)}: cosine {c.cosine:.4f}" for item, c in against if c.cosine is not None]
        first = against[0][1] if against else None
        big = DASH if first is None else "equal" if first.sqnr_db is None else f"{first.sqnr_db:.1f} dB"
        return card("Outputs against float (SQNR)", big, lines)
    lines, tone = [], ""
    integer = {item.runtime for item in items if item.model == "int8"}
    for item in items:
        stands_in = item.model == "simulated" and item.runtime in integer
        if report.accuracy(item) is not None and not stands_in:
            lines.append(f"{_short(item.title)}: {percent(report.accuracy(item))}, {delta_text(report, item)}")
    base = report.base(best) if best else None
    if base is not None and best is not None:
        lost = (report.accuracy(base) or 0.0) - (report.accuracy(best) or 0.0)
        tone = "good" if lost <= 0.005 else "bad" if lost > 0.02 else ""
    return card(f"{figure_name(report.headline)} as deployed", percent(report.accuracy(best)), lines, tone)


def _size_card(report: PtqRunReport) -> Dict[str, Any]:
    items = [item for item in report.results if item.size_ratio is not None and item.model != "simulated"]
    lines = [f"{_short(item.title)}: {size_text(item.size_bytes)}, {item.size_ratio:.2f}×" for item in items]
    return card("Size", f"{min(i.size_ratio or 1.0 for i in items):.2f}×" if items else DASH, lines)


def _speed_card(report: PtqRunReport) -> Dict[str, Any]:
    items = [item for item in report.results if item.speed_ratio and item.model == "int8"]
    lines = []
    for item in items:
        ratios = ", ".join(f"{ratio:.2f}× (batch {size})" for size, ratio in item.speed_ratio.items())
        lines.append(f"{_short(item.title)}: {ratios}")
    best = max((ratio for item in items for ratio in item.speed_ratio.values()), default=None)
    return card("Speed", DASH if best is None else f"{best:.2f}×", lines or ["no int8 arithmetic to time"])


def _time_card(report: PtqRunReport) -> Dict[str, Any]:
    seconds, seen = report.seconds, report.calibration
    lines = []
    if seen.get("samples"):
        lines.append(f"calibrated on {seen['samples']} samples in {duration(seconds.get('calibrate', 0.0))}")
    if report.float_seconds:
        ptq = sum(seconds.get(step, 0.0) for step in ("prepare", "calibrate", "quantize"))
        lines.append(f"{ptq / report.float_seconds:.1f}× float inference of the same data")
    return card("Wall time", duration(seconds.get("total", sum(seconds.values()))), lines)


def _steps(report: PtqRunReport) -> List[Dict[str, Any]]:
    """Each step's time, beside float inference of the calibration's batches."""
    steps = [(name, value) for name, value in report.seconds.items() if name != "total"]
    if report.float_seconds:
        steps.append(("float inference of the same batches, for comparison", report.float_seconds))
    longest = max([1e-9, *(value for _, value in steps)])
    return [
        {"name": name.replace("_", " "), "seconds": duration(value), "width": f"{100 * value / longest:.1f}"}
        for name, value in steps
    ]


def _plan_groups(report: PtqRunReport) -> List[Tuple[RuntimePlan, List[str]]]:
    """Plans with the runtimes that share them."""
    groups: List[Tuple[RuntimePlan, List[str]]] = []
    for plan in report.plans:
        same = next((g for g in groups if g[0].model_dump(exclude={"runtime"}) == plan.model_dump(exclude={"runtime"})),
                    None)  # fmt: skip
        if same:
            same[1].append(plan.runtime)
        else:
            groups.append((plan, [plan.runtime]))
    return groups


def _plan(plan: RuntimePlan, runtimes: List[str]) -> Dict[str, Any]:
    scales = {True: "a scale per channel", False: "one scale", None: ""}
    kinds = Counter(
        (x.op_type, x.weight_bits, x.activation_bits, scales[x.per_channel], x.quantized_result) for x in plan.quantized
    )
    stored = sum(not x.activations for x in plan.quantized)
    return {
        "runtimes": " and ".join(runtimes),
        "quantized": [
            {
                "type": kind,
                "count": count,
                "bits": f"W{weight or DASH} A{activation or DASH}",
                "scales": scheme,
                "result": "on a grid" if result else "float",
            }
            for (kind, weight, activation, scheme, result), count in kinds.most_common()
        ],
        "lead": _plan_lead(len(plan.quantized) - stored, stored, len(plan.skipped)),
        "skipped": skipped_groups(plan.skipped),
        "other_ops": plan.other_ops,
    }


def _plan_lead(count: int, stored: int, left: int) -> str:
    """Says how many ops are computed in integers, only stored so, and left in float."""
    said = [f"{count} op{' is' if count == 1 else 's are'} computed in integers there"]
    if stored:
        said.append(f"{stored} only store{'s its' if stored == 1 else ' their'} weight in integers")
    if left > stored:
        said.append(f"{left} of the types that could be stay{'s' if left == 1 else ''} float, for the reasons below")
    return "; ".join(said) + ("." if left or stored else ", all of the types that can be.")


def _layer_row(item: LayerError, top: float) -> Dict[str, Any]:
    sqnr = item.sqnr_db
    alone = DASH if item.isolated_sqnr_db is None else f"{item.isolated_sqnr_db:.1f} dB"
    return {
        "name": item.weight or item.name,
        "about": f"{item.op_type} {item.runtime}".strip(),
        "bits": alone,
        "sqnr": DASH if sqnr is None else f"{sqnr:.1f} dB",
        "width": f"{max(0.0, min(100.0, 100 * (sqnr or 0.0) / top)):.1f}",
        "cosine": DASH if item.cosine is None else f"{item.cosine:.4f}",
    }


def _range_groups(report: PtqRunReport) -> Dict[Tuple[str, ...], str]:
    """Runtimes with a range in common -> the class of their lines; a part of a larger group has the group's."""
    found = dict.fromkeys(tuple(r.runtimes) for tensor in report.tensors for r in tensor.ranges)
    whole: List[Tuple[str, ...]] = []
    for group in sorted(found, key=len, reverse=True):
        if not any(set(group) <= set(other) for other in whole):
            whole.append(group)
    order = [group for group in found if group in whole]
    lines = {group: _LINES[min(index, len(_LINES) - 1)] for index, group in enumerate(order)}
    return {**lines, **{g: next(lines[w] for w in order if set(g) <= set(w)) for g in found if g not in lines}}


def _line_names(groups: Dict[Tuple[str, ...], str]) -> List[Dict[str, str]]:
    named: Dict[str, str] = {}
    for group, css in groups.items():
        named.setdefault(css, " and ".join(group))
    return [{"css": css, "name": name} for css, name in named.items()]


def _histograms(tensors: List[TensorGrid], groups: Dict[Tuple[str, ...], str]) -> List[Dict[str, str]]:
    shown = []
    for tensor in tensors:
        seen = tensor.histogram
        if seen is None:
            continue
        ends = " and ".join(dict.fromkeys(f"{r.low:.3g} to {r.high:.3g}" for r in tensor.ranges))
        clipped: Optional[float] = next((r.clipped for r in tensor.ranges if r.clipped is not None), None)
        lines = [(groups[tuple(r.runtimes)], r.low, r.high) for r in tensor.ranges]
        title = f"Histogram of {tensor.name}, clipped to {ends}"
        shown.append({
            "name": tensor.name,
            "ends": ends,
            "clipped": percent(clipped),
            "svg": histogram(seen.counts, seen.low, seen.high, title=title, ranges=lines),
        })  # fmt: skip
    return shown


def _facts(report: PtqRunReport) -> List[Tuple[str, str]]:
    rows = facts([
        ("Asked for", report.asked),
        ("Model", report.model),
        ("Data", report.data),
        ("Calibration", report.calibration),
        ("Environment", report.environment),
        ("Steps", {name: duration(value) for name, value in report.seconds.items()}),
    ])  # fmt: skip
    return rows + [(name[:1].upper() + name[1:], path) for name, path in report.files.items()]
