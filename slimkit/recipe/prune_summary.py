"""From a run of ``slimkit prune`` to its report, and what the terminal shows of it."""

from __future__ import annotations

import os
from datetime import datetime
from typing import TYPE_CHECKING, Any, Dict, List

from slimkit.deploy.size import model_size
from slimkit.recipe.config import config_hash
from slimkit.recipe.environment import describe_environment
from slimkit.recipe.prune_report import PrunedGroup, PruneRunReport
from slimkit.recipe.ptq_report_parts import deployed_results
from slimkit.recipe.ptq_rows import deployed_rows, figure_name
from slimkit.recipe.run_report import Curves, SkippedOp

if TYPE_CHECKING:
    from slimkit.recipe.prune_run import PruneRun

__all__ = ["assemble", "show", "show_sensitivities", "title"]


def title(run: PruneRun) -> str:
    """Returns the network, the method and the target, such as ``resnet20, sensitivity, MACs −30%``."""
    recipe = run.recipe
    name = recipe.model or (recipe.network.name or recipe.network.model if recipe.network else "")
    target = recipe.prune.target
    unit = {"macs": "MACs", "flops": "FLOPs"}.get(target.unit, target.unit) if target else ""
    asked = f"{unit} \u2212{100 * target.removed:g}%" if target else "given ratios"
    return ", ".join([os.path.basename(str(name).rstrip("/")), *([recipe.prune.method] if target else []), asked])


def assemble(run: PruneRun) -> PruneRunReport:
    """Returns the report of a finished run."""
    recipe, problem, choice = run.recipe, run.problem, run.choice
    curve = run.tuned.progress.curve if run.tuned else None
    found = choice.sensitivities if choice is not None else None
    seconds = {name: round(value, 3) for name, value in run.seconds.items()}
    if run.tuned:
        seconds["train"] = round(max(seconds.get("train", 0.0), run.tuned.progress.seconds), 3)
    return PruneRunReport(
        title=title(run),
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        command=run.command,
        environment=describe_environment(),
        model={**problem.about, "size_bytes": model_size(run.exported["float"][recipe.to[0]]).total},
        data=problem.data_report(),
        seconds=seconds,
        task=problem.task,
        headline=problem.headline,
        threads=recipe.verify.threads,
        batch_sizes=list(recipe.verify.batch_sizes),
        results=deployed_results(run.verified) if run.verified is not None else [],
        notes=run.notes,
        files=_files(run),
        seed=recipe.run.seed,
        resumed=bool(run.tuned and run.tuned.resumed),
        config=recipe.model_dump(),
        config_file=run.config_file,
        config_hash=config_hash(recipe),
        costs=run.costs,
        stages=run.stages,
        masked_difference=run.masked_difference,
        level=choice.level if choice is not None else None,
        baseline=found.baseline if found is not None else None,
        groups=_groups(run, found),
        stayed=_stayed(run),
        curves=Curves(
            steps=curve.steps, loss=curve.loss, rate=curve.rate, evaluations=run.tuned.progress.evaluations
        ) if run.tuned and curve else Curves(),
        best_step=run.tuned.progress.best_step if run.tuned else 0,
    )  # fmt: skip


def _groups(run: PruneRun, found: Any) -> List[PrunedGroup]:
    layers: Dict[str, str] = run.problem.layers
    rows = []
    for group in run.groups.prunable:
        names = list(dict.fromkeys(member.parameter for member in group.producers))
        points = found[group.name] if found is not None and group.name in found else {}
        rows.append(
            PrunedGroup(
                name=group.name,
                layer=layers.get(group.name, "").rpartition(".")[0],
                parameters=names,
                before=group.size,
                after=run.kept[group.name],
                losses={f"{ratio:g}": round(loss, 6) for ratio, loss in sorted(points.items())},
            )
        )
    return rows


def _stayed(run: PruneRun) -> List[SkippedOp]:
    return [
        SkippedOp(
            op=group.name, type=group.producers[0].op_type if group.producers else "", reason=str(group.refused)
        )
        for group in run.groups.refused
    ]


def _files(run: PruneRun) -> Dict[str, str]:
    files = {
        f"{form}, {runtime}": os.path.relpath(path, run.out)
        for form, paths in run.exported.items()
        for runtime, path in paths.items()
    }
    more = {"plan": "plan.json", "sensitivities": "sensitivity.json", "best checkpoint": "checkpoints/best.npz"}
    return {**files, **{what: path for what, path in more.items() if (run.out / path).exists()}}


def show(run: PruneRun, report: PruneRunReport, paths: List[str]) -> None:
    """Prints the table of runtimes and the sentence that sums the run up."""
    from slimkit.recipe.prune_html import verdict

    rows = deployed_rows(report)
    if rows:
        columns = ["runtime", "model", figure_name(report.headline), "against float", "size", "ratio"]
        columns += [f"batch {size}" for size in report.batch_sizes]
        cells = []
        for row in rows:
            latency = [" ".join(part for part in (c["median"], c["speed"]) if part) for c in row["latency"]]
            cells.append(
                (row["runtime"], row["model"], row["figure"], row["delta"], row["size"], row["ratio"], *latency)
            )
        run.screen.table(columns, cells)
    for item in report.results:
        for note in [item.reason] if item.reason else item.notes:
            run.screen.warn(f"{item.title}: {note}")
    run.screen.line()
    run.screen.line(verdict(report), "bold")
    for path in paths:
        run.screen.fact("report", path)


def show_sensitivities(run: PruneRun, found: Any) -> None:
    """Writes the plot beside the points and prints each layer's losses."""
    from slimkit.files import atomic_write
    from slimkit.prune.sensitivity import plot_sensitivities

    ratios = sorted({ratio for points in found.values() for ratio in points})
    rows = [
        (name, "", *(f"{100 * points[ratio]:.2f}%" if ratio in points else "" for ratio in ratios))
        for name, points in found.items()
    ]
    run.screen.table(["layer", "", *(f"{ratio:g}" for ratio in ratios)], rows)
    plot = run.chooser.file.with_suffix(".svg")
    atomic_write(plot, plot_sensitivities(found).encode())
    run.screen.fact("baseline", f"{found.baseline:.4f}; losses are fractions of it")
    run.screen.fact("points", run.chooser.file)
    run.screen.fact("plot", plot)
