"""What ``slimkit analyze`` does: load or quantize the model, open the data, measure."""

from __future__ import annotations

import argparse
import datetime
import shlex
import sys
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from slimkit.errors import ConfigError, ModelError
from slimkit.ir.model import Model
from slimkit.quant.analysis import Analysis, analyze
from slimkit.quant.quantized import Quantized
from slimkit.quant.table import QuantTable
from slimkit.recipe.environment import describe_environment

__all__ = ["AnalyzeReport", "run_analysis"]

#: Samples that a float model is calibrated on.
_CALIBRATION = 32
#: What ``slimkit ptq`` leaves beside an export.
_TABLE = "quant_table.json"
_EQUALIZED = (
    "The quantized model's channels were equalized, so the float model's weights cannot be set beside its own, and "
    "weights show no error of their own; analyze the float model to see it."
)


@dataclass
class AnalyzeReport:
    """An analysis and where it comes from.

    Attributes:
        title: the model and how it is quantized.
        analysis: what was found.
        headline: the metric of the curve; "" when there is none.
        created, command, environment: of the run.
        model, data: what they say of themselves.
        skipped: what is float anyway: rows of op, type and reason.
        notes: what the reader should know.
    """

    title: str
    analysis: Analysis
    headline: str
    created: str
    command: str
    environment: Dict[str, str]
    model: Dict[str, Any]
    data: Dict[str, Any]
    skipped: List[Dict[str, str]] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)

    def to_dict(self) -> Dict[str, Any]:
        """Plain values for JSON."""
        values = {name: value for name, value in self.__dict__.items() if name != "analysis"}
        return {"schema_version": 1, **values, **self.analysis.to_dict()}


def run_analysis(arguments: argparse.Namespace) -> AnalyzeReport:
    """Runs ``slimkit analyze``.

    Raises:
        ConfigError: an option that does not go with the model.
        ModelError, DataError: a model or the data is missing, cannot be read, or does not fit the other.
    """
    from slimkit.quant.load_quantized import is_quantized, read_quantized
    from slimkit.recipe.tasks import open_samples

    loaded = Model.load(arguments.model)
    notes: List[str] = []
    quantized: Optional[Quantized] = None
    if is_quantized(loaded):
        if arguments.algo or arguments.runtime:
            raise ConfigError("--algo and --runtime are for a float MODEL, and this one is quantized; leave them out.")
        quantized = read_quantized(loaded, arguments.model)
        quantized, notes = _with_float_weights(quantized, arguments.model, arguments.against)
    elif arguments.against:
        raise ConfigError(f"--against is for a quantized MODEL, and {arguments.model} is float; leave it out.")
    task, samples = open_samples(quantized.model if quantized is not None else loaded, arguments.data, arguments.task)
    with _bar(arguments.json) as tell:
        how = "as it was quantized"
        if quantized is None:
            quantized, how = _quantize(loaded, arguments, samples)
        metric = _metric(arguments, task, samples)
        found = analyze(
            quantized,
            samples.feeds(min(samples.batch_size, arguments.limit), arguments.limit),
            leave_float=arguments.leave_float,
            metric=metric,
            limit=arguments.limit,
            progress=tell,
        )
    return AnalyzeReport(
        title=f"{Path(arguments.model).name or arguments.model}, {how}",
        analysis=found,
        headline=task.headline if metric is not None else "",
        created=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        command=shlex.join(["slimkit", *sys.argv[1:]]),
        environment=describe_environment(),
        model={"path": arguments.model, "ops": sum(quantized.model.op_counts().values())},
        data={**samples.report(), "measured_on": found.samples},
        skipped=list(quantized.table.skipped),
        notes=notes,
    )


def _quantize(model: Model, arguments: argparse.Namespace, samples: Any) -> Tuple[Quantized, str]:
    from slimkit.quant.ptq import post_training_quantize

    runtime = arguments.runtime or "paddle"
    config = {"algo": arguments.algo} if arguments.algo else None
    feeds = samples.calibration().feeds(None, _CALIBRATION)
    result = post_training_quantize(model, feeds, [runtime], config)
    return result.quantized[runtime], f"quantized for {runtime} by {result.config.algo}"


def _with_float_weights(quantized: Quantized, model: str, against: Optional[str]) -> Tuple[Quantized, List[str]]:
    """The same grids on the float model's own weights.

    They are found by name: in the table that ``slimkit ptq`` leaves beside its exports, since an export for a runtime
    may have other layers and names, or in the model itself.
    """
    if not against:
        return quantized, [
            "The float weights are not known, so weights show no error of their own; give the float model (--against)."
        ]
    from slimkit.quant.ptq import prepare

    place = Path(model)
    beside = [place / _TABLE if place.is_dir() else place.parent / _TABLE]
    tables = [QuantTable.load(path) for path in beside if path.is_file()] + [quantized.table]
    floats = Model.load(against)
    candidates = [floats, prepare(floats)]
    for table in tables:
        for candidate in candidates:
            if _same_layers(table, candidate):
                return (
                    (Quantized(candidate, table), []) if _same_weights(table, candidate) else (quantized, [_EQUALIZED])
                )
    raise ModelError(
        f"{against} is not the float model of this one: its layers have other names or shapes; give the model that was "
        "quantized, or leave --against out."
    )


def _same_layers(table: QuantTable, model: Model) -> bool:
    made = _computed(model)
    return all(made.get(op.output) == op.type for op in table.ops)


def _same_weights(table: QuantTable, model: Model) -> bool:
    """Whether a model has weights of the shapes of a table's grids."""
    params = model.params
    for grid in table.weights().values():
        axis, known = grid.axis, grid.tensor in params
        if not known or (axis is not None and params[grid.tensor].shape[axis] != grid.scale.size):
            return False
    return True


def _computed(model: Model) -> Dict[str, str]:
    """Variable -> type of the op that computes it."""
    ops = [op for block in model.program.blocks for op in block.ops]
    return {name: op.type for op in ops for name in op.output_arg_names}


def _metric(
    arguments: argparse.Namespace, task: Any, samples: Any
) -> Optional[Callable[[Quantized], Mapping[str, float]]]:
    from slimkit.quant.export import export_program
    from slimkit.recipe.ptq_problem import evaluate_model

    if arguments.eval_images is None:
        return None
    if not samples.labelled or not task.headline:
        raise ConfigError(f"--eval-images needs labels, and {arguments.data} has none; leave it out.")

    def measure(quantized: Quantized) -> Mapping[str, float]:
        exported = export_program(quantized.model, quantized.table)
        return evaluate_model(exported, samples.stream(None, arguments.eval_images), task.metric())

    return measure


def _bar(quiet: bool) -> Any:
    """A context whose value is told where the work stands."""
    if quiet:
        return nullcontext(None)
    from slimkit.recipe.screen import Screen

    class Bar(Screen):
        def __enter__(self) -> Any:
            super().__enter__()
            return self.tell

        def tell(self, name: str, done: int, total: int) -> None:
            if done == 0:
                self.begin(name, total)
            self.at(done)

    return Bar()
