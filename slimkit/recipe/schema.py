"""The schema of a recipe's config file, apart from its ``network`` and ``data`` sections
(``schema_data.py``) and its ``quant``
and ``pact`` sections (``slimkit/quant/config.py``).

One class a section; a new key is one field here with its description, and ``docs/config.md`` follows
(``python tools/gen_config_docs.py``).
"""

from __future__ import annotations

from typing import List, Literal, Optional

from pydantic import Field, field_validator, model_validator

from slimkit.recipe.section import Section

__all__ = [
    "LrSection",
    "OptimizerSection",
    "ReportSection",
    "RunSection",
    "TrainSection",
    "VerifySection",
]

Wanted = Literal["auto", "require", "skip"]


class RunSection(Section):
    """Where the run writes, what it runs on, and its seed."""

    output: str = Field("output/run", min_length=1, description="Folder for the model, checkpoints and report.")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of data order, augmentation, dropout and initialisation.")
    place: str = Field(
        "cpu",
        pattern=r"^(cpu|(gpu|xpu|npu)(:[0-9]+)?)$",
        description="Device that trains: cpu, gpu:0, xpu:0 or npu:0.",
    )
    checkpoint_steps: int = Field(
        0,
        ge=0,
        description="Also save a resumable checkpoint every so many steps; 0: at the end of each epoch only.",
    )


class OptimizerSection(Section):
    """The optimizer of the weights."""

    name: Literal["Momentum", "SGD", "Adam", "AdamW"] = Field("Momentum", description="Paddle's name of the optimizer.")
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum (only Momentum reads it).")
    weight_decay: float = Field(0.0, ge=0, description="L2 regularization of the weights (AdamW: decoupled decay).")
    clip_norm: Optional[float] = Field(None, gt=0, description="Clip the gradients' global norm to this.")


class LrSection(Section):
    """The learning rate as a pure function of the global step, so that a resumed run continues it exactly."""

    schedule: Literal["cosine", "piecewise", "constant"] = Field("cosine", description="Shape after the warm-up.")
    base: float = Field(0.001, gt=0, description="Learning rate after the warm-up.")
    final: float = Field(0.0, ge=0, description="cosine: learning rate at the last step.")
    warmup_epochs: float = Field(0.0, ge=0, description="Epochs (or a fraction of one) of linear warm-up from near 0.")
    boundaries: List[float] = Field(default_factory=list, description="piecewise: epochs at which the rate drops.")
    factor: float = Field(0.1, gt=0, le=1, description="piecewise: factor at each boundary.")

    @model_validator(mode="after")
    def _consistent(self) -> LrSection:
        if self.schedule == "piecewise" and not self.boundaries:
            raise ValueError("train.lr.schedule piecewise needs train.lr.boundaries, e.g. boundaries: [2, 3]")
        if sorted(self.boundaries) != list(self.boundaries):
            raise ValueError("train.lr.boundaries must ascend")
        return self


class TrainSection(Section):
    """The training loop."""

    epochs: int = Field(1, ge=0, description="Epochs of quantization-aware training; 0 only calibrates.")
    max_steps: int = Field(0, ge=0, description="Stop each epoch after so many steps; 0: the whole training set.")
    calibration_batches: int = Field(
        8,
        ge=1,
        description="Batches observed before training: activation scales and PACT's alpha start from them.",
    )
    evaluate_epochs: int = Field(1, ge=1, description="Evaluate the simulated int8 model every so many epochs.")
    optimizer: OptimizerSection = Field(default_factory=OptimizerSection, description="Optimizer of the weights.")
    lr: LrSection = Field(default_factory=LrSection, description="Learning-rate schedule.")


class VerifySection(Section):
    """The exported model on the runtimes it is for. auto: run where it can be had, else say why not."""

    paddle_inference: Wanted = Field("require", description="Run Paddle Inference's oneDNN int8 path on the test set.")
    lite: Wanted = Field("auto", description="Convert with Paddle-Lite's opt for arm and x86, and run x86.")
    images: int = Field(2000, ge=1, description="Test images to verify on, at most.")
    batch_sizes: List[int] = Field(default_factory=lambda: [1, 8], min_length=1, description="Batch sizes to time.")
    latency_seconds: float = Field(
        1.0, ge=0, description="How long each model is timed at each batch size, about; 0: not at all."
    )
    threads: int = Field(1, ge=1, description="CPU threads of the runtimes while timing.")

    @field_validator("batch_sizes")
    @classmethod
    def _positive(cls, value: List[int]) -> List[int]:
        if any(size < 1 for size in value):
            raise ValueError("every batch size must be at least 1")
        return value


class ReportSection(Section):
    """What report.html looks into."""

    layers: bool = Field(True, description="Activation histograms and per-layer error (a few seconds).")
    images: int = Field(64, ge=1, description="Test images they are measured on.")
    bins: int = Field(128, ge=16, le=2048, description="Bins of an activation histogram.")
