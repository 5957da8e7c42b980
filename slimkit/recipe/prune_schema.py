"""The config of ``slimkit prune`` and ``slimkit sensitivity``: every key of their file."""

from __future__ import annotations

from typing import Any, Dict, List, Literal, Optional, Union

from pydantic import Field, field_validator, model_validator

from slimkit.quant.config import PactConfig, QuantConfig
from slimkit.quant.ptq_config import PtqConfig
from slimkit.recipe.schema import LrSection, OptimizerSection, RunSection, TrainSection
from slimkit.recipe.schema_data import DataSection, NetworkSection
from slimkit.recipe.section import Section

__all__ = ["PruneRecipe", "PruneSamples", "PruneSection", "PruneVerify", "SensitivitySection", "TuneSection"]

_TARGETS = ("macs", "flops", "parameters", "latency")


class PruneSamples(Section):
    """Data of a model without labels to train on: it is fine-tuned to the outputs of the unpruned model."""

    path: str = Field(description="What is fine-tuned on: a folder of images, or rendered:KIND:COUNT[:SEED].")
    eval: str = Field(description="What is evaluated on, with labels: a folder with a label file, or rendered:...")
    task: Optional[str] = Field(
        default=None, description="classification, ppocr_cls, ppocr_rec or ppocr_det; null: told from model and data."
    )
    options: Dict[str, Any] = Field(default={}, description="Further options of the task, such as mean, std, labels.")
    eval_images: Optional[int] = Field(default=None, ge=1, description="Evaluate on at most so many; null: all.")
    crop: Optional[int] = Field(
        default=None, ge=32, description="Train on random squares of this side; null: on whole images of one shape."
    )
    batch_size: int = Field(default=8, ge=1, description="Training batch.")
    steps: int = Field(default=100, ge=1, description="Batches in an epoch.")


class PruneTarget(Section):
    """What goes, as a fraction of the unpruned network's: give exactly one."""

    macs: Optional[float] = Field(default=None, gt=0, lt=1, description="Multiply-accumulates.")
    flops: Optional[float] = Field(default=None, gt=0, lt=1, description="Floating-point operations.")
    parameters: Optional[float] = Field(default=None, gt=0, lt=1, description="Parameters.")
    latency: Optional[float] = Field(
        default=None, gt=0, lt=1, description="Time of one inference, measured on the first runtime of `to`."
    )

    @model_validator(mode="after")
    def _one(self) -> PruneTarget:
        given = [name for name in _TARGETS if getattr(self, name) is not None]
        if len(given) != 1:
            what = f"not {' and '.join(given)}" if given else "none is given"
            raise ValueError(f"a target is exactly one of {', '.join(_TARGETS)}; {what}")
        return self

    @property
    def unit(self) -> str:
        """Which of the keys is given."""
        return next(name for name in _TARGETS if getattr(self, name) is not None)

    @property
    def removed(self) -> float:
        """Its value."""
        return float(getattr(self, self.unit))


class PruneSection(Section):
    """What is pruned, by how much, and how the filters that go are chosen."""

    method: Literal["uniform", "sensitivity", "iterative", "ratios"] = Field(
        default="sensitivity",
        description="uniform: one ratio for all layers; sensitivity: one loss line across all layers' curves; "
        "iterative: the same in steps, fine-tuned and measured anew after each; ratios: those of `ratios`.",
    )
    target: Optional[PruneTarget] = Field(default=None, description="How much goes; of no use with method ratios.")
    ratios: Dict[str, float] = Field(
        default={}, description="method ratios: parameter -> fraction of its filters that goes, 0 to below 1."
    )
    criterion: Literal["l1_norm", "l2_norm", "geometry_median", "bn_scale", "taylor", "taylor_abs"] = Field(
        default="l1_norm", description="How important a filter is."
    )
    round_to: int = Field(default=8, ge=1, description="Channels that stay are a multiple of this: 8 suits int8.")
    floor: Union[int, float] = Field(
        default=1, description="The least that stays of a layer: channels when an integer, a fraction when not."
    )
    max_ratio: float = Field(default=0.9, gt=0, le=1, description="No layer loses a greater fraction.")
    skip: List[str] = Field(default=[], description="Parameters whose layers stay whole; * and ? stand for any text.")
    greedy: bool = Field(
        default=False, description="Filters are scored without the inputs that earlier layers lost (Li et al., 3.2)."
    )
    normalize: Optional[Literal["mean", "max", "l2"]] = Field(
        default=None, description="Layers that are pruned together weigh the same: scores are divided by this."
    )
    gradient_batches: int = Field(default=8, ge=1, description="taylor criteria: training batches for gradients.")
    layer_norm: bool = Field(
        default=False, description="Prune channels that a layer_norm normalizes over too; this changes its means."
    )
    steps: int = Field(default=3, ge=2, description="iterative: steps to the target.")
    step_epochs: int = Field(default=1, ge=1, description="iterative: epochs of fine-tuning after each step.")

    @model_validator(mode="after")
    def _consistent(self) -> PruneSection:
        if self.method == "ratios" and not self.ratios:
            raise ValueError("method ratios needs prune.ratios, e.g. ratios: {conv2d_3.w_0: 0.5}")
        if self.method == "ratios" and self.target is not None:
            raise ValueError("method ratios has no use for prune.target; remove it, or choose another method")
        if self.method != "ratios" and self.ratios:
            raise ValueError(f"prune.ratios are only for method ratios, not {self.method}; remove them")
        if self.method != "ratios" and self.target is None:
            raise ValueError(f"method {self.method} needs prune.target, e.g. target: {{macs: 0.5}}")
        wrong = next((f"{name} is {ratio}" for name, ratio in self.ratios.items() if not 0 <= ratio < 1), None)
        if wrong:
            raise ValueError(f"the ratio of {wrong}; give a fraction from 0 to below 1")
        return self


class SensitivitySection(Section):
    """What each layer loses at each ratio, measured before methods `sensitivity` and `iterative`."""

    file: Optional[str] = Field(
        default=None, description="Where the points are kept; null: sensitivity.json in the output folder."
    )
    ratios: List[float] = Field(
        default=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9], min_length=1, description="Fractions that are tried."
    )
    data: Literal["train", "test"] = Field(
        default="train",
        description="Images to measure on: training images without augmentation, so that test images decide nothing; "
        "or test images. With `samples`, train is the agreement with the unpruned model on `path`, test the metric on "
        "`eval`.",
    )
    images: Optional[int] = Field(default=1000, ge=1, description="At most so many; null: all.")
    workers: int = Field(default=1, ge=1, description="Processes that measure at the same time.")
    executor: Literal["local", "ray"] = Field(default="local", description="Where they run.")

    @field_validator("ratios")
    @classmethod
    def _fractions(cls, value: List[float]) -> List[float]:
        if any(not 0 < ratio < 1 for ratio in value):
            raise ValueError("every ratio must be above 0 and below 1")
        return value


class TuneSection(Section):
    """Fine-tuning of the pruned network."""

    epochs: int = Field(default=1, ge=0, description="Epochs; 0: none.")
    max_steps: int = Field(default=0, ge=0, description="Stop each epoch after so many steps; 0: all of it.")
    evaluate_epochs: int = Field(default=1, ge=1, description="Evaluate every so many epochs; the best state is kept.")
    optimizer: OptimizerSection = Field(default=OptimizerSection(), description="Optimizer.")
    lr: LrSection = Field(default=LrSection(), description="Learning-rate schedule.")


class QatSection(Section):
    """Quantization-aware training of the pruned network."""

    quant: QuantConfig = Field(default=QuantConfig(), description="What is quantized and how; see config.md.")
    pact: Optional[PactConfig] = Field(default=None, description="PACT: on when the section is there.")
    train: TrainSection = Field(default=TrainSection(), description="Its training loop; see config.md.")


class QuantizeSection(Section):
    """Quantization after pruning: one of both."""

    ptq: Optional[PtqConfig] = Field(default=None, description="Post-training quantization; see ptq_config.md.")
    samples: int = Field(default=64, ge=1, description="ptq: training samples to calibrate on.")
    qat: Optional[QatSection] = Field(default=None, description="Quantization-aware training.")

    @model_validator(mode="after")
    def _one(self) -> QuantizeSection:
        if (self.ptq is None) == (self.qat is None):
            raise ValueError("give exactly one of quantize.ptq and quantize.qat")
        return self


class PruneVerify(Section):
    """How the exported models are run."""

    run: bool = Field(default=True, description="Run what was exported on its runtime; false: export only.")
    images: Optional[int] = Field(default=None, ge=1, description="Test samples to run; null: all.")
    threads: int = Field(default=1, ge=1, description="CPU threads.")
    batch_sizes: List[int] = Field(default=[1], min_length=1, description="Latency is measured at these.")
    latency_seconds: float = Field(
        default=1.0, ge=0, description="How long each model is timed at each batch size; 0: not at all."
    )


class PruneRecipe(Section):
    """A pruning: of a `network` that is trained on labelled `data`, or of a `model` that is trained to give the outputs
    it had on `samples`."""

    model: Optional[str] = Field(
        default=None, description="An inference model: ppocr:det, ppocr:rec, ppocr:cls, or a .pdmodel or .json."
    )
    to: List[str] = Field(default=["paddle"], description="Runtimes: paddle, onnx, lite-arm, lite-x86.")
    run: RunSection = Field(default=RunSection(), description="Output, seed, device.")
    network: Optional[NetworkSection] = Field(default=None, description="The float network, trained with labels.")
    data: Optional[DataSection] = Field(default=None, description="Its images.")
    samples: Optional[PruneSamples] = Field(default=None, description="Data of `model`.")
    prune: PruneSection = Field(description="What is pruned.")
    sensitivity: SensitivitySection = Field(default=SensitivitySection(), description="Sensitivity of the layers.")
    train: TuneSection = Field(default=TuneSection(), description="Fine-tuning.")
    quantize: Optional[QuantizeSection] = Field(default=None, description="Quantization of the pruned network.")
    verify: PruneVerify = Field(default=PruneVerify(), description="Verification.")

    @model_validator(mode="after")
    def _one_source(self) -> PruneRecipe:
        if (self.network is None) == (self.model is None):
            raise ValueError("give exactly one of network and model")
        if self.network is not None and (self.data is None or self.samples is not None):
            raise ValueError("network needs a data section, and no samples")
        if self.model is not None and (self.samples is None or self.data is not None):
            raise ValueError("model needs a samples section, and no data")
        return self

    @field_validator("to")
    @classmethod
    def _known_runtimes(cls, value: List[str]) -> List[str]:
        from slimkit.deploy.runtime import RUNTIMES
        from slimkit.errors import suggestion

        if not value:
            raise ValueError("name at least one runtime")
        wrong = next((name for name in value if name not in RUNTIMES), None)
        if wrong is not None:
            meant = suggestion(wrong, RUNTIMES).rstrip(".")
            raise ValueError(f"there is no runtime {wrong}; allowed are {', '.join(RUNTIMES)}{meant}")
        return list(dict.fromkeys(value))
