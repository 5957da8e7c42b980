"""The schema of ``report.json``: what a run leaves to be read by machines.

``schema_version`` goes up when a field changes its meaning or goes away; added fields leave it as it is.
"""

from __future__ import annotations

from typing import Any, Dict, List, Literal, Optional

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "SCHEMA_VERSION",
    "Curves",
    "Histogram",
    "LayerResult",
    "RunReport",
    "RuntimeResult",
    "SkippedOp",
]

SCHEMA_VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RuntimeResult(_Part):
    """One model on one runtime."""

    runtime: str = Field(description="training (the training executor) or a row of slimkit.deploy.runtime.RUNTIMES.")
    title: str = Field(description="The runtime and its mode, for people.")
    model: str = Field(
        description="float: as given; simulated: with fake quantization; int8: the exported model in integer "
        "arithmetic; or what else the runtime made of it."
    )
    status: Literal["ok", "unavailable", "failed", "converted"] = Field(
        "ok", description="converted: made for a processor that is not here, so not run."
    )
    reason: str = Field("", description="Why it is not ok, and the remedy.")
    notes: List[str] = Field(default_factory=list, description="What was executed, and why it is not faster.")
    top1: Optional[float] = Field(None, description="Top-1 accuracy, a fraction.")
    top5: Optional[float] = Field(None, description="Top-5 accuracy, a fraction.")
    samples: int = Field(0, description="Images measured on.")
    size_bytes: Optional[int] = Field(None, description="Size on disk: program and parameters.")
    latency_ms: Dict[str, float] = Field(default_factory=dict, description="Batch size -> median milliseconds.")
    speed_ratio: Dict[str, float] = Field(
        default_factory=dict,
        description="Batch size -> float's time over this one's, median over alternating rounds.",
    )
    same_as_float: Optional[float] = Field(None, description="Images with the same class as the float model.")
    same_as_simulated: Optional[float] = Field(None, description="Images with the same class as simulated.")
    int8_ops: Optional[int] = Field(None, description="Convolutions and matrix products that ran in int8.")
    float_ops: Optional[int] = Field(None, description="The same that ran in float.")


class Histogram(_Part):
    """Counts of the values of a tensor in equal bins."""

    low: float = Field(description="Lower edge of the first bin.")
    high: float = Field(description="Upper edge of the last bin.")
    counts: List[int] = Field(description="Values in each bin.")


class LayerResult(_Part):
    """A quantized op: its activation's range and its output's error."""

    name: str = Field(description="Output variable of the op.")
    op_type: str = Field(description="Type of the op.")
    layer: str = Field("", description="Path of its layer in the network, where it is known.")
    weight: str = Field("", description="Its parameter, if it has one.")
    activation: str = Field("", description="Its quantized input.")
    weight_bits: Optional[int] = Field(None, description="Bits of the weight.")
    activation_bits: Optional[int] = Field(None, description="Bits of the activation.")
    threshold_before: Optional[float] = Field(None, description="Clipping threshold observed before training.")
    threshold_after: Optional[float] = Field(None, description="Clipping threshold after training (alpha or scale).")
    clipped: Optional[float] = Field(None, description="Fraction of float values beyond threshold_after.")
    histogram: Optional[Histogram] = Field(None, description="Values of the activation in the float model.")
    sqnr_db: Optional[float] = Field(None, description="10 log10(|float|^2 / |float - simulated|^2) of the output.")
    cosine: Optional[float] = Field(None, description="Cosine of float and simulated output.")


class SkippedOp(_Part):
    """An op that stayed float."""

    op: str = Field(description="Output variable of the op.")
    type: str = Field(description="Type of the op.")
    reason: str = Field(description="Why it stayed float.")


class Curves(_Part):
    """The training over its steps."""

    steps: List[int] = Field(default_factory=list, description="Step of each point of loss and rate.")
    loss: List[float] = Field(default_factory=list, description="Mean training loss up to that step.")
    rate: List[float] = Field(default_factory=list, description="Learning rate.")
    evaluations: List[Dict[str, Any]] = Field(
        default_factory=list, description="epoch, step, top1, top5, samples of the simulated quantized model."
    )


class RunReport(_Part):
    """Everything a run has to say."""

    schema_version: int = Field(SCHEMA_VERSION, description="Version of this schema.")
    title: str = Field(description="Network, method and bits.")
    created: str = Field(description="When the run ended, ISO 8601 with zone.")
    command: str = Field(description="The command that made it.")
    seconds: Dict[str, float] = Field(description="Wall time of each step, of training over all resumes, and total.")
    seed: int = Field(description="Seed of the run.")
    resumed: bool = Field(False, description="Whether the run was continued from a checkpoint.")
    config: Dict[str, Any] = Field(description="The whole config, defaults filled in.")
    config_file: str = Field(description="Where it was read from.")
    config_hash: str = Field(description="Hash of the keys that decide what is trained.")
    environment: Dict[str, str] = Field(description="Versions of slimkit, Python and packages, processor, system.")
    network: Dict[str, Any] = Field(description="Name, parameters, input shape, float weights.")
    data: Dict[str, Any] = Field(description="What each data set says of itself, skipped files included.")
    results: List[RuntimeResult] = Field(description="Accuracy, size and latency per model and runtime.")
    curves: Curves = Field(description="Loss, learning rate, evaluations.")
    best_step: int = Field(0, description="Step of the exported state.")
    quantized: List[LayerResult] = Field(description="The quantized ops, in the order of the network.")
    skipped: List[SkippedOp] = Field(description="What was not quantized and why.")
    other_ops: Dict[str, int] = Field(
        default_factory=dict, description="Op types that were not asked for, and so are in float -> their count."
    )
    notes: List[str] = Field(default_factory=list, description="What a reader should know: fall-backs, unused rules.")
    files: Dict[str, str] = Field(default_factory=dict, description="What was written, relative to the output folder.")

    def result(self, model: str, runtime: str = "") -> Optional[RuntimeResult]:
        """Returns the first result of a model that has an accuracy, on a runtime (any when empty)."""
        for item in self.results:
            if item.model == model and runtime in ("", item.runtime) and item.top1 is not None:
                return item
        return None
