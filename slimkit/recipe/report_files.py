"""Putting a run's figures together and writing ``report.json`` and ``report.html``."""

from __future__ import annotations

import datetime
import os
from typing import TYPE_CHECKING, Any, Dict, List

from slimkit.files import atomic_write
from slimkit.recipe.config import RecipeConfig, config_hash
from slimkit.recipe.environment import describe_environment
from slimkit.recipe.html_report import render
from slimkit.recipe.run_report import Curves, RunReport, SkippedOp

if TYPE_CHECKING:
    from slimkit.recipe.runner import Recipe

__all__ = ["assemble", "title", "write"]


def title(config: RecipeConfig) -> str:
    """Returns the network, the method and the bits, such as ``mobilenet_v3_small, PACT, W8A8``."""
    name = config.network.name or os.path.basename(str(config.network.model))
    method = "calibration" if config.train.epochs == 0 else "PACT" if config.pact else "QAT"
    return f"{name}, {method}, W{config.quant.weight_bits}A{config.quant.activation_bits}"


def assemble(run: Recipe, command: str) -> RunReport:
    """Returns the report of a finished run."""
    curve = run.progress.curve
    return RunReport(
        title=title(run.config),
        created=datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
        command=command,
        seconds={**run.seconds, "train": max(run.seconds["train"], run.progress.seconds)},
        seed=run.config.run.seed,
        resumed=run.resumed,
        config=run.config.model_dump(),
        config_file=run.config_file,
        config_hash=config_hash(run.config),
        environment=describe_environment(),
        network=run.network.about,
        data={"train": run.train_set.report(), "test": run.test_set.report()},
        results=run.results,
        curves=Curves(steps=curve.steps, loss=curve.loss, rate=curve.rate, evaluations=run.progress.evaluations),
        best_step=run.progress.best_step,
        quantized=run.layers,
        skipped=[_skipped(item) for item in run.summary["skipped"]],
        other_ops=_other_ops(run),
        notes=run.notes,
        files=_files(run.output),
    )


def _other_ops(run: Recipe) -> Dict[str, int]:
    """Returns the op types of the float model that the config does not name, with their counts."""
    asked = {name for names in run.config.quant.op_types() for name in names}
    counts = run.network.inference.op_counts()
    return {name: count for name, count in counts.items() if name not in {*asked, "feed", "fetch"}}


def _skipped(item: Dict[str, Any]) -> SkippedOp:
    return SkippedOp(op=str(item["op"]), type=str(item["type"]), reason=str(item["reason"]))


def _files(output: str) -> Dict[str, str]:
    """Returns what is in the output folder, by what it is."""
    names = {
        "int8 model for Paddle Inference": os.path.join("int8", "model.pdmodel"),
        "int8 model for Paddle-Lite's opt": os.path.join("lite", "model.pdmodel"),
        "Paddle-Lite model for ARM": os.path.join("lite", "model_arm.nb"),
        "quantization table": os.path.join("int8", "quant_table.json"),
        "float model": os.path.join("float", "model.pdmodel"),
        "best checkpoint": os.path.join("checkpoints", "best.npz"),
    }
    return {what: path for what, path in names.items() if os.path.exists(os.path.join(output, path))}


def write(report: RunReport, output: str) -> List[str]:
    """Writes both reports; returns their paths."""
    pages = {
        "report.html": render(report),
        "report.json": report.model_dump_json(indent=1),
    }
    return [str(atomic_write(os.path.join(output, name), text.encode())) for name, text in pages.items()]
