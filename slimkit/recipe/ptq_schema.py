"""The config of ``slimkit ptq``: every key of its file, and what each flag of its command line sets."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from pydantic import Field, field_validator

from slimkit.quant.ptq_config import PtqConfig
from slimkit.recipe.section import Section

__all__ = ["PtqData", "PtqEvaluation", "PtqRecipe", "PtqSearch", "PtqVerify"]


class PtqData(Section):
    """What activations are observed on."""

    path: str = Field(
        description="Folder of images, label file, FILE.npy, FILE.npz, fashion_mnist, or rendered:KIND:COUNT[:SEED] "
        "with KIND rec, cls or det."
    )
    task: Optional[str] = Field(
        default=None,
        description="array, image, classification, ppocr_cls, ppocr_rec or ppocr_det; null: told from model and data.",
    )
    labels: Optional[str] = Field(default=None, description="Label file; null: looked for in the folder.")
    options: Dict[str, Any] = Field(
        default={}, description="Further options of the task, such as mean, std, dictionary."
    )
    batch_size: Optional[int] = Field(default=None, ge=1, description="Samples a batch; null: what suits the task.")
    batches: Optional[int] = Field(default=None, ge=1, description="Batches to calibrate on; null: about 64 samples.")


class PtqEvaluation(Section):
    """What the accuracy is measured on."""

    path: Optional[str] = Field(default=None, description="Data with labels; null: the calibration's.")
    labels: Optional[str] = Field(default=None, description="Its label file; null: looked for in the folder.")
    images: Optional[int] = Field(default=None, ge=1, description="At most so many samples; null: all.")


class PtqVerify(Section):
    """How the exported models are run."""

    run: bool = Field(default=True, description="Run what was exported on its runtime; false: export only.")
    threads: int = Field(default=1, ge=1, description="CPU threads.")
    batch_sizes: List[int] = Field(default=[1], description="Latency is measured at these.")
    latency_seconds: float = Field(
        default=2.0, ge=0, description="How long each model is timed at each batch size; 0: not at all."
    )


class PtqSearch(Section):
    """Accuracy-aware quantization: methods and float layers are tried until the accuracy holds."""

    max_drop: Optional[float] = Field(
        default=None, ge=0, description="Points of accuracy that may be lost; null: no search."
    )
    time_budget: str = Field(default="10m", description="How long to try: 90s, 10m, 1h.")
    resume: bool = Field(default=True, description="Go on from the trials of an earlier run of the same settings.")


class PtqRecipe(Section):
    """A post-training quantization."""

    model: str = Field(description="Float .pdmodel, .json, prefix or folder; or ppocr:cls, ppocr:rec, ppocr:det.")
    output: str = Field(description="Folder that gets the exports and the report.")
    to: List[str] = Field(default=["paddle"], description="Runtimes: paddle, onnx, lite-arm, lite-x86.")
    data: PtqData = Field(description="Calibration data.")
    eval: PtqEvaluation = Field(default=PtqEvaluation(), description="Evaluation data.")
    ptq: PtqConfig = Field(default=PtqConfig(), description="How it is quantized.")
    search: PtqSearch = Field(default=PtqSearch(), description="Accuracy-aware quantization.")
    verify: PtqVerify = Field(default=PtqVerify(), description="Verification.")
    analyze: bool = Field(default=False, description="Measure each layer's error, for the report.")

    @field_validator("to")
    @classmethod
    def _known_runtimes(cls, value: List[str]) -> List[str]:
        from slimkit.errors import SlimkitError
        from slimkit.quant.capabilities import capability

        if not value:
            raise ValueError("name at least one runtime")
        try:
            for name in value:
                capability(name)
        except SlimkitError as error:
            raise ValueError(str(error).rstrip(".")) from None
        return list(dict.fromkeys(value))
