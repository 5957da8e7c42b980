"""``report.html`` of ``slimkit prune``: one self-contained page, no script, no network."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Tuple

from slimkit.recipe.html_parts import (
    DASH,
    card,
    duration,
    facts,
    percent,
    points,
    render_page,
    size_text,
    skipped_groups,
)
from slimkit.recipe.prune_report import PrunedGroup, PruneRunReport, Stage
from slimkit.recipe.ptq_report import DeployedResult
from slimkit.recipe.ptq_rows import deployed_rows, figure_name
from slimkit.recipe.svg_charts import training_charts

__all__ = ["render", "verdict"]

_UNITS = {"macs": "MACs", "flops": "FLOPs", "parameters": "parameters"}


def render(report: PruneRunReport) -> str:
    """Returns the page."""
    import yaml
    from markupsafe import Markup

    return render_page(
        "prune_report.html",
        report=report,
        verdict=verdict(report),
        cards=_cards(report),
        headline=figure_name(report.headline),
        rows=deployed_rows(report),
        stages=[_stage(report, stage) for stage in report.stages],
        costs=[_cost(report, unit) for unit in report.costs],
        groups=[_group(group) for group in report.groups],
        sensitivities=Markup(_sensitivities(report)),
        stayed=skipped_groups(report.stayed),
        charts=[(name, Markup(svg)) for name, svg in _charts(report)],
        lead=_training_lead(report),
        facts=_facts(report),
        config_text=yaml.safe_dump(report.config, sort_keys=False, allow_unicode=True).rstrip(),
    )


def _final(report: PruneRunReport) -> Optional[Stage]:
    """The network as it was exported in float."""
    return report.stage("fine-tuned") or report.stage("pruned")


def verdict(report: PruneRunReport) -> str:
    """Returns the sentences that say what it came to."""
    went = ", ".join(
        f"{_minus(cost.removed)} {_UNITS[unit]}" for unit, cost in report.costs.items() if unit != "flops"
    )
    final, base = _final(report), report.figure("float")
    text = f"{went}"
    if final is not None and report.headline:
        own = final.metrics[report.headline]
        text += f"; {figure_name(report.headline).lower()} is {percent(own)}"
        text += "" if base is None else f", {points(own - base)} points against float"
    sentences = [f"{text}."]
    for item in report.results:
        if item.model == "float" or item.status != "ok" or not item.speed_ratio:
            continue
        size, factor = max(item.speed_ratio.items(), key=lambda pair: pair[1])
        sentences.append(f"On {item.title}: {_own(report, item)}{factor:.2f} times the speed (batch {size}).")
    return " ".join(sentences)


def _own(report: PruneRunReport, item: DeployedResult) -> str:
    own = report.accuracy(item)
    return "" if own is None else f"{percent(own)}, "


def _minus(fraction: float) -> str:
    return f"{-100 * fraction:+.1f}%".replace("-", "\u2212")


def _cards(report: PruneRunReport) -> List[Dict[str, Any]]:
    return [_accuracy_card(report), _cost_card(report), _size_card(report), _speed_card(report)]


def _accuracy_card(report: PruneRunReport) -> Dict[str, Any]:
    final, base = _final(report), report.figure("float")
    own = final.metrics.get(report.headline) if final is not None and report.headline else None
    lines, tone = [], ""
    if own is not None and base is not None:
        lines.append(f"{points(own - base)} points against float, {percent(base)}")
        tone = "good" if base - own <= 0.005 else "bad" if base - own > 0.02 else ""
    for stage in report.stages:
        if stage.name not in ("float", final.name if final is not None else "") and report.headline:
            lines.append(f"{stage.name}: {percent(stage.metrics.get(report.headline))}")
    return card(f"{figure_name(report.headline)}, pruned", percent(own), lines, tone)


def _cost_card(report: PruneRunReport) -> Dict[str, Any]:
    lines = [f"{_UNITS[unit]}: {_minus(cost.removed)}" for unit, cost in report.costs.items() if unit != "macs"]
    return card("MACs", _minus(report.costs["macs"].removed), lines)


def _size_card(report: PruneRunReport) -> Dict[str, Any]:
    items = [item for item in report.results if item.size_ratio is not None]
    lines = [f"{item.title}: {size_text(item.size_bytes)}, {item.size_ratio:.2f}×" for item in items]
    return card("Size", f"{min(i.size_ratio or 1.0 for i in items):.2f}×" if items else DASH, lines)


def _speed_card(report: PruneRunReport) -> Dict[str, Any]:
    items = [item for item in report.results if item.speed_ratio]
    lines = []
    for item in items:
        ratios = ", ".join(f"{ratio:.2f}× (batch {size})" for size, ratio in item.speed_ratio.items())
        lines.append(f"{item.title}: {ratios}")
    best = max((ratio for item in items for ratio in item.speed_ratio.values()), default=None)
    return card("Speed", DASH if best is None else f"{best:.2f}×", lines or ["not measured"])


def _stage(report: PruneRunReport, stage: Stage) -> Dict[str, Any]:
    base = report.stages[0]
    own = stage.metrics.get(report.headline or "")
    reference = base.metrics.get(report.headline or "")
    others = [f"{figure_name(k)} {percent(v)}" for k, v in stage.metrics.items() if k != report.headline]
    return {
        "name": stage.name,
        "figure": percent(own),
        "delta": DASH if stage is base or own is None or reference is None else points(own - reference),
        "others": ", ".join(others) or DASH,
        "macs": DASH if stage.macs is None else f"{stage.macs / 1e6:,.2f} M",
    }


def _cost(report: PruneRunReport, unit: str) -> Dict[str, str]:
    cost = report.costs[unit]
    return {
        "name": _UNITS[unit],
        "before": f"{cost.before:,.0f}",
        "after": f"{cost.after:,.0f}",
        "removed": _minus(cost.removed),
        "width": f"{100 * cost.after / max(1.0, cost.before):.1f}",
    }


def _group(group: PrunedGroup) -> Dict[str, Any]:
    rest = [name for name in group.parameters if name != group.name]
    named = [group.name] if group.layer else []
    return {
        "name": group.layer or group.name,
        "about": ", ".join(named + ([f"with {', '.join(rest)}"] if rest else [])),
        "before": group.before,
        "after": group.after,
        "ratio": percent(group.ratio, 1),
        "width": f"{100 * group.after / group.before:.1f}",
    }


def _sensitivities(report: PruneRunReport) -> str:
    """The curves with the chosen line, as inline SVG; empty without points."""
    losses = {g.name: {float(r): loss for r, loss in g.losses.items()} for g in report.groups if g.losses}
    if not losses:
        return ""
    from slimkit.prune.sensitivity import Sensitivities, plot_sensitivities

    chosen = {group.name: group.ratio for group in report.groups if group.name in losses}
    found = Sensitivities(losses, baseline=report.baseline)
    svg: str = plot_sensitivities(found, line=report.level, ratios=chosen)
    return svg


def _training_lead(report: PruneRunReport) -> str:
    steps = report.curves.steps[-1] if report.curves.steps else 0
    if not steps:
        return "No fine-tuning."
    epochs = report.config["train"]["epochs"]
    return (
        f"{epochs} epoch{'' if epochs == 1 else 's'}, {steps} steps. The exported state is that of step "
        f"{report.best_step}, the best on the test data."
    )


def _charts(report: PruneRunReport) -> List[Tuple[str, str]]:
    curves, base = report.curves, report.figure("float")
    if not curves.steps:
        return []
    name = figure_name(report.headline)
    measured = [(e["step"], e[report.headline]) for e in curves.evaluations if report.headline in e]
    pruned = report.figure("pruned")
    accuracy = [(0, pruned), *measured] if pruned is not None and pruned > 0.5 * (base or 1.0) else measured
    reference = (base, "float") if base is not None else None
    return training_charts(curves, accuracy, f"{name} of the pruned network", f"{name} over steps", reference)


def _facts(report: PruneRunReport) -> List[Tuple[str, str]]:
    difference = report.masked_difference
    rows = facts([
        ("Network", report.model),
        *((f"{part.capitalize()} data", values) for part, values in report.data.items()),
        ("Environment", report.environment),
        ("Steps", {name: duration(value) for name, value in report.seconds.items()}),
    ])  # fmt: skip
    if difference is not None:
        text = f"pruned and masked network give the same outputs: they differ by {difference:.1e} of the largest"
        rows.append(("Checked", text))
    return rows + [(name[:1].upper() + name[1:], path) for name, path in report.files.items()]
