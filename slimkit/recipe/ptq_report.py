"""The schema of the ``report.json`` that ``slimkit ptq`` and ``slimkit verify`` leave.

``schema_version`` goes up when a field changes its meaning or goes away; added fields leave it as it is.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Literal, Optional, Union

from pydantic import BaseModel, ConfigDict, Field

from slimkit.files import atomic_write
from slimkit.recipe.run_report import Histogram, SkippedOp

__all__ = [
    "PTQ_SCHEMA_VERSION",
    "Closeness",
    "DeployedReport",
    "DeployedResult",
    "GridRange",
    "LayerError",
    "PlannedLayer",
    "PtqRunReport",
    "RuntimePlan",
    "TensorGrid",
    "Timing",
    "write_ptq_report",
]

PTQ_SCHEMA_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Closeness(_Part):
    """Outputs against those of another run of the same data; null where a figure is not finite."""

    cosine: Optional[float] = Field(None, description="Cosine of the angle between all values of both.")
    sqnr_db: Optional[float] = Field(None, description="10 log10(|reference|^2 / |difference|^2); null when equal.")
    max_abs: Optional[float] = Field(None, description="Largest absolute difference.")
    relative: Optional[float] = Field(None, description="|difference| / |reference|, Euclidean over all values.")
    top1: Optional[float] = Field(None, description="Samples (or steps of a sequence) with the same arg max.")
    samples: int = Field(0, description="Samples compared.")


class Timing(_Part):
    """One inference's time on pinned threads."""

    median_ms: float = Field(description="Median over all calls.")
    p10_ms: float = Field(description="10th percentile.")
    p90_ms: float = Field(description="90th percentile.")
    cpu_ms: float = Field(description="CPU time, summed over threads; median over the rounds.")
    threads: int = Field(1, description="Threads.")


class DeployedResult(_Part):
    """One model on one runtime."""

    runtime: str = Field(description="A row of slimkit.deploy.runtime.RUNTIMES.")
    title: str = Field(description="The runtime and its mode, for people.")
    model: str = Field(
        description="float: as given; simulated: quantize ops in float; int8: integer arithmetic; or what else the "
        "runtime made of it."
    )
    status: Literal["ok", "unavailable", "failed", "converted"] = Field(
        "ok", description="converted: made for a processor that is not here, so not run."
    )
    reason: str = Field("", description="Why it is not ok, and the remedy.")
    notes: List[str] = Field(default_factory=list, description="What was executed, and why it is not faster.")
    metrics: Dict[str, float] = Field(default_factory=dict, description="The task's figures, as fractions.")
    samples: int = Field(0, description="Samples run.")
    size_bytes: Optional[int] = Field(None, description="Size on disk in the runtime's own form.")
    size_ratio: Optional[float] = Field(None, description="Its size over that of this runtime's float model.")
    latency: Dict[str, Timing] = Field(default_factory=dict, description="Batch size -> time.")
    speed_ratio: Dict[str, float] = Field(
        default_factory=dict, description="Batch size -> float's time over this one's, median of alternating rounds."
    )
    against_float: Optional[Closeness] = Field(None, description="All outputs against this runtime's float model.")
    outputs_against_float: List[Closeness] = Field(default_factory=list, description="Each output, if several.")
    against_simulated: Optional[Closeness] = Field(None, description="All outputs against the simulated model.")
    across_runtimes: Optional[Closeness] = Field(
        None, description="Of a float result: its outputs against float's on the first runtime."
    )
    int8_ops: Optional[int] = Field(None, description="Convolutions and matrix products that ran in int8.")
    float_ops: Optional[int] = Field(None, description="The same that ran in float.")
    fallback: List[Dict[str, str]] = Field(
        default_factory=list, description="Ops that the runtime ran in float although quantized, with the reason."
    )


class GridRange(_Part):
    """The range of a tensor's integer grid; values beyond are clipped."""

    runtimes: List[str] = Field(description="Where it holds.")
    low: float = Field(description="Lower end.")
    high: float = Field(description="Upper end.")
    bits: int = Field(8, description="Bits.")
    clipped: Optional[float] = Field(None, description="Fraction of the calibration's values beyond it.")


class TensorGrid(_Part):
    """A quantized activation: what calibration saw and where it is clipped."""

    name: str = Field(description="The tensor.")
    ranges: List[GridRange] = Field(description="Its grids; one when all runtimes agree.")
    histogram: Optional[Histogram] = Field(None, description="Values seen in calibration.")


class PlannedLayer(_Part):
    """A quantized op."""

    name: str = Field(description="Output variable of the op.")
    op_type: str = Field(description="Type of the op.")
    weight: str = Field("", description="Its parameter, if it has one.")
    activations: List[str] = Field(default_factory=list, description="Its quantized inputs.")
    weight_bits: Optional[int] = Field(None, description="Bits of the weight.")
    activation_bits: Optional[int] = Field(None, description="Bits of the activations.")
    per_channel: Optional[bool] = Field(None, description="Whether the weight has a scale per channel.")
    quantized_result: bool = Field(False, description="Whether its result lies on a grid too.")


class RuntimePlan(_Part):
    """What of the model a runtime computes in integers."""

    runtime: str = Field(description="A row of slimkit.quant.capabilities.CAPABILITIES.")
    quantized: List[PlannedLayer] = Field(description="The quantized ops, in the order of the network.")
    skipped: List[SkippedOp] = Field(description="What stays float on this runtime, and why.")
    other_ops: Dict[str, int] = Field(
        default_factory=dict, description="Op types that are not computed in integers there -> their count."
    )


class LayerError(_Part):
    """How much quantizing a layer hurts."""

    name: str = Field(description="Output variable of the op.")
    op_type: str = Field("", description="Type of the op.")
    weight: str = Field("", description="Its parameter, if it has one.")
    runtime: str = Field("", description="Whose plan was analysed.")
    sqnr_db: Optional[float] = Field(None, description="SQNR of the output with all layers before it quantized.")
    cosine: Optional[float] = Field(None, description="Cosine of the same.")
    isolated_sqnr_db: Optional[float] = Field(None, description="SQNR with this layer alone quantized.")
    isolated_cosine: Optional[float] = Field(None, description="Cosine of the same.")


class DeployedReport(_Part):
    """What every report has that says how models do on their runtimes."""

    title: str = Field(description="Model, method and bits.")
    created: str = Field(description="When the run ended, ISO 8601 with zone.")
    command: str = Field(description="The command that made it.")
    environment: Dict[str, str] = Field(description="Versions of slimkit, Python and packages, processor, system.")
    model: Dict[str, Any] = Field(default_factory=dict, description="Ops, parameters, inputs of the float model.")
    data: Dict[str, Any] = Field(default_factory=dict, description="What the data say of themselves, skipped files.")
    seconds: Dict[str, float] = Field(
        default_factory=dict,
        description="Wall time of each step (prepare, calibrate, quantize, ...) and total.",
    )
    task: str = Field("", description="The task that the metric belongs to.")
    headline: Optional[str] = Field(None, description="Which of the metrics is the accuracy; null without labels.")
    threads: int = Field(1, description="CPU threads of the latencies.")
    batch_sizes: List[int] = Field(default_factory=list, description="Batch sizes that were timed.")
    results: List[DeployedResult] = Field(
        default_factory=list, description="Accuracy, size and latency: for each runtime float, then compressed."
    )
    notes: List[str] = Field(default_factory=list, description="What a reader should know: fall-backs, unused rules.")
    files: Dict[str, str] = Field(default_factory=dict, description="What was written, relative to the output folder.")

    def base(self, item: DeployedResult) -> Optional[DeployedResult]:
        """Returns the float result that a result is compared with: that of its own runtime."""
        return next((r for r in self.results if (r.runtime, r.model) == (item.runtime, "float")), None)

    def accuracy(self, item: Optional[DeployedResult]) -> Optional[float]:
        """Returns a result's headline metric, None where there is none."""
        return item.metrics.get(self.headline) if item is not None and self.headline else None


class PtqRunReport(DeployedReport):
    """Everything a post-training quantization, or a verification, has to say."""

    schema_version: int = Field(PTQ_SCHEMA_VERSION, description="Version of this schema.")
    kind: Literal["ptq", "verify"] = Field("ptq", description="What made it.")
    asked: Dict[str, Any] = Field(
        default_factory=dict, description="What was asked for: model, data, runtimes, batches, algorithm."
    )
    config: Dict[str, Any] = Field(default_factory=dict, description="The whole PtqConfig, defaults filled in.")
    calibration: Dict[str, Any] = Field(default_factory=dict, description="Batches and samples calibrated on.")
    float_seconds: Optional[float] = Field(
        None, description="Wall time of float inference of the calibration's batches, to compare calibration with."
    )
    plans: List[RuntimePlan] = Field(default_factory=list, description="What is quantized for each runtime.")
    tensors: List[TensorGrid] = Field(default_factory=list, description="Thresholds of the quantized activations.")
    layers: List[LayerError] = Field(default_factory=list, description="Error of each layer, if it was analysed.")


def write_ptq_report(report: PtqRunReport, folder: Union[str, Path]) -> List[str]:
    """Writes ``report.html`` and ``report.json`` into a folder; returns their paths.

    Raises:
        SlimkitError: a file cannot be written.
    """
    from slimkit.recipe.ptq_html import render

    pages = {"report.html": render(report), "report.json": report.model_dump_json(indent=1)}
    return [str(atomic_write(Path(folder) / name, text.encode())) for name, text in pages.items()]
