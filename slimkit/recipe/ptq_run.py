"""``slimkit ptq``: model and data in; exports that have been run on their runtimes, and a report, out.

load -> calibrate and quantize (or search) -> export for each runtime -> verify there -> report
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from slimkit.deploy.size import model_size
from slimkit.errors import ConfigError, SlimkitError
from slimkit.ir.model import Model
from slimkit.quant.ptq import PtqResult, post_training_quantize
from slimkit.recipe.data.real_models import model_path
from slimkit.recipe.environment import describe_environment
from slimkit.recipe.exporters import export_for, exporter, files_of
from slimkit.recipe.ptq_report import PtqRunReport, write_ptq_report
from slimkit.recipe.ptq_report_parts import deployed_results, runtime_plan, tensor_grids
from slimkit.recipe.ptq_schema import PtqRecipe
from slimkit.recipe.screen import Screen
from slimkit.recipe.tasks import Samples, open_samples

__all__ = ["PtqRun", "run_ptq"]

#: Samples that calibration takes where the number of batches is not given.
_SAMPLES = 64


@dataclass
class PtqRun:
    """A run on its way: what each step adds."""

    recipe: PtqRecipe
    command: str
    screen: Screen
    started: float = field(default_factory=time.perf_counter)
    seconds: Dict[str, float] = field(default_factory=dict)
    notes: List[str] = field(default_factory=list)

    model: Any = None
    task: Any = None
    samples: Any = None
    evaluation: Any = None
    result: Any = None
    exported: Dict[str, Path] = field(default_factory=dict)
    verified: Any = None
    layers: List[Any] = field(default_factory=list)

    @property
    def out(self) -> Path:
        return Path(self.recipe.output)

    def calibration(self) -> Tuple[Samples, Optional[int], Optional[int]]:
        """The samples, the batch size and the number of samples to calibrate on."""
        data = self.recipe.data
        samples: Samples = self.samples.calibration()
        size = data.batch_size or samples.batch_size
        return samples, size, data.batches * size if data.batches else _SAMPLES


def run_ptq(recipe: PtqRecipe, command: str = "", screen: Optional[Screen] = None) -> PtqRunReport:
    """Runs a recipe and writes the exports, ``report.html`` and ``report.json`` into its output folder.

    Raises:
        SlimkitError: one sentence; nothing half-written is left.
    """
    with screen or Screen() as shown:
        run = PtqRun(recipe, command, shown)
        _check_runtimes(run)
        _load(run)
        _quantize(run)
        _analyze(run)
        _export(run)
        _verify(run)
        report = _report(run)
        paths = write_ptq_report(report, run.out)
        _show(run, report, paths)
    return report


def _check_runtimes(run: PtqRun) -> None:
    """What is missing is said before anything is computed."""
    for runtime in run.recipe.to:
        missing = exporter(runtime).missing()
        if missing:
            raise ConfigError(f"--to {runtime}: {missing}")
    try:
        run.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SlimkitError(f"{run.out} cannot be made: {error.strerror}; choose another folder.") from None


def _load(run: PtqRun) -> None:
    recipe, data = run.recipe, run.recipe.data
    run.screen.heading("Load")
    run.model = Model.load(model_path(recipe.model))
    options = {"labels": data.labels, **data.options}
    run.task, run.samples = open_samples(run.model, data.path, data.task, **options)
    run.evaluation = run.samples
    if recipe.eval.path:
        other = {**options, "labels": recipe.eval.labels}
        run.evaluation = open_samples(run.model, recipe.eval.path, run.task.name, **other)[1]
    run.screen.fact("model", f"{recipe.model}: {sum(run.model.op_counts().values())} ops, {_sizes(run.model)}")
    labelled = "labelled" if run.evaluation.labelled else "no labels: outputs are compared with float's"
    run.screen.fact("data", f"{data.path}: {len(run.samples)} samples, task {run.task.name}, {labelled}")


def _sizes(model: Model) -> str:
    return f"{sum(array.size for array in model.params.values()):,} parameters"


def _quantize(run: PtqRun) -> None:
    recipe = run.recipe
    run.screen.heading("Quantize")
    samples, size, limit = run.calibration()
    feeds = samples.feeds(size, limit)
    total = -(-min(limit or len(samples), len(samples)) // (size or 1))
    shown: List[str] = []

    def progress(doing: str, done: int, count: int) -> None:
        if shown[-1:] != [doing]:
            shown.append(doing)
            run.screen.begin(doing, count or max(1, total))
        run.screen.at(done)

    progress("calibrating", 0, total)
    result = post_training_quantize(run.model, feeds, recipe.to, recipe.ptq, progress=progress)
    run.screen.end()
    run.seconds.update(result.seconds)
    seen = f"{result.batches} batches, {result.samples} samples"
    run.screen.fact("calibrated", f"{seen} in {result.seconds['calibrate']:.1f} s ({recipe.ptq.algo})")
    run.result = _search(run, result) if recipe.search.max_drop is not None else result
    for runtime, quantized in run.result.quantized.items():
        table = quantized.table
        run.screen.fact(runtime, f"{len(table.ops)} ops quantized, {len(table.skipped)} left float")
    for rule in next(iter(run.result.plans.values())).unused_rules:
        run.notes.append(f"The rule {rule} matched nothing.")


def _search(run: PtqRun, result: PtqResult) -> PtqResult:
    """Tries methods and float layers until the accuracy holds; see ``accuracy_aware``."""
    from slimkit.recipe.ptq_search import search_settings

    start = time.perf_counter()
    found = search_settings(run, result)
    run.seconds["search"] = time.perf_counter() - start
    return found


def _analyze(run: PtqRun) -> None:
    if not run.recipe.analyze:
        return
    from slimkit.recipe.ptq_analysis import layer_errors

    start = time.perf_counter()
    run.layers = layer_errors(run)
    run.seconds["analyze"] = time.perf_counter() - start


def _export(run: PtqRun) -> None:
    from slimkit.quant.quantized import Quantized
    from slimkit.quant.table import QuantTable

    run.screen.heading("Export")
    start = time.perf_counter()
    run.model.save(run.out / "float" / "model")
    run.exported["float"] = run.out / "float" / "model.pdmodel"
    if "onnx" in run.recipe.to:
        run.exported["float-onnx"] = export_for("onnx", Quantized(run.model, QuantTable()), run.out / "float-onnx")
    for runtime, quantized in run.result.quantized.items():
        main = export_for(runtime, quantized, run.out / runtime)
        quantized.table.save(run.out / runtime / "quant_table.json")
        run.exported[runtime] = main
        run.screen.fact(runtime, f"{main}, {_bytes(sum(files_of(main).values()))}")
    run.seconds["export"] = time.perf_counter() - start


def _bytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def _verify(run: PtqRun) -> None:
    from slimkit.deploy.verify import verify

    settings, recipe = run.recipe.verify, run.recipe
    if not settings.run:
        run.notes.append("The exports were not run (verify.run is false).")
        return
    run.screen.heading("Verify on the runtimes")
    start = time.perf_counter()
    floats = {"paddle": run.exported["float"]}
    if "float-onnx" in run.exported:
        floats["onnx"] = run.exported["float-onnx"]
    exported = {name: run.exported[name] for name in recipe.to}
    run.screen.begin("running", None)
    run.verified = verify(
        floats,
        exported,
        run.evaluation.stream(limit=recipe.eval.images),
        metric=run.task.metric if run.evaluation.labelled else _NoMetric,
        runtimes=recipe.to,
        batch_sizes=settings.batch_sizes,
        threads=settings.threads,
        latency_seconds=settings.latency_seconds,
        headline=run.task.headline if run.evaluation.labelled else None,
    )
    run.screen.end()
    run.seconds["verify"] = time.perf_counter() - start


class _NoMetric:
    """For data without labels: outputs are compared with those of the float model, and that is all."""

    def update(self, outputs: Any, labels: Any) -> None:
        pass

    def result(self) -> Dict[str, float]:
        return {}


def _report(run: PtqRun) -> PtqRunReport:
    recipe, result, verified = run.recipe, run.result, run.verified
    run.seconds["total"] = time.perf_counter() - run.started
    counts = result.float_model.op_counts()
    files = {name: os.path.relpath(path, run.out) for name, path in run.exported.items()}
    return PtqRunReport(
        title=f"{Path(recipe.model).name}, {result.config.algo}, "
        f"{result.config.weight_bits}-bit weights, {result.config.activation_bits}-bit activations",
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        command=run.command,
        asked=recipe.model_dump(exclude={"ptq"}),
        config=result.config.model_dump(),
        environment=describe_environment(),
        model={
            "path": recipe.model,
            "ops": sum(run.model.op_counts().values()),
            "parameters": int(sum(array.size for array in run.model.params.values())),
            "inputs": list(run.model.feeds),
            "size_bytes": model_size(run.exported["float"]).total,
        },
        data=run.samples.report(),
        calibration={"batches": result.batches, "samples": result.samples},
        seconds={name: round(value, 3) for name, value in run.seconds.items()},
        task=run.task.name,
        headline=verified.metric if verified is not None else None,
        threads=recipe.verify.threads,
        batch_sizes=list(recipe.verify.batch_sizes),
        results=deployed_results(verified) if verified is not None else [],
        plans=[runtime_plan(name, quantized.table, counts) for name, quantized in result.quantized.items()],
        tensors=tensor_grids({name: q.table for name, q in result.quantized.items()}, result.statistics),
        layers=run.layers,
        notes=run.notes,
        files=files,
    )


def _show(run: PtqRun, report: PtqRunReport, paths: List[str]) -> None:
    from slimkit.recipe.ptq_rows import deployed_rows, figure_name, verdict

    rows = deployed_rows(report)
    columns = ["runtime", "model", figure_name(report.headline), "against float", "SQNR", "size", "ratio"]
    columns += [f"batch {size}" for size in report.batch_sizes]
    cells = []
    for row in rows:
        latency = [" ".join(part for part in (c["median"], c["speed"]) if part) for c in row["latency"]]
        values = (row["figure"], row["delta"], row["sqnr"], row["size"], row["ratio"], *latency)
        cells.append((row["runtime"], row["model"], *values))
    if rows:
        run.screen.table(columns, cells)
    for item in report.results:
        for note in [item.reason] if item.reason else item.notes:
            run.screen.warn(f"{item.title}: {note}")
    for note in report.notes:
        run.screen.warn(note)
    if rows:
        run.screen.line()
        run.screen.line(verdict(report), "bold")
    for path in paths:
        run.screen.fact("report", path)
