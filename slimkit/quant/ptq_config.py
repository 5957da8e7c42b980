"""The settings of post-training quantization."""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Union

from pydantic import BaseModel, ConfigDict, Field, field_validator

from slimkit.quant.config import QuantRule
from slimkit.schema import build

__all__ = ["PtqConfig"]

_WEIGHTS = ("channel_wise_abs_max", "abs_max")


class PtqConfig(BaseModel):
    """How a float model is quantized from calibration data alone."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)

    algo: str = Field(default="mse", description="Activation thresholds: abs_max, min_max, avg, hist, KL, mse or emd.")
    hist_percent: float = Field(
        default=0.99999, gt=0.5, le=1, description="Fraction of values that `hist` keeps below the threshold."
    )
    weight_quantize_type: str = Field(
        default="channel_wise_abs_max", description="Weights: channel_wise_abs_max or abs_max."
    )
    activation_bits: int = Field(default=8, ge=2, le=16, description="Bits of activations.")
    weight_bits: int = Field(default=8, ge=2, le=16, description="Bits of weights.")
    affine: Optional[bool] = Field(
        default=None, description="Activations with a zero point; null: where the runtime executes them."
    )
    quantize_op_types: Optional[List[str]] = Field(
        default=None, description="Op types to quantize; null: those the runtime executes in integers."
    )
    fold_batch_norm: bool = Field(default=True, description="Fold batch norm into the convolution before it.")
    equalize: bool = Field(
        default=True, description="Give the channels in front of depthwise convolutions equal ranges."
    )
    bias_correction: bool = Field(default=False, description="Correct the mean shift of each layer in its bias.")
    adaround: bool = Field(default=False, description="Learn the rounding of weights layer by layer (AdaRound).")
    adaround_steps: int = Field(default=1000, ge=1, description="Steps of AdaRound for each layer.")
    rules: List[QuantRule] = Field(default=[], description="Ordered exceptions; the first match decides.")

    @field_validator("algo")
    @classmethod
    def _known_algo(cls, value: str) -> str:
        from slimkit.errors import SlimkitError
        from slimkit.numerics.observers import observer

        try:
            return observer(value).name
        except SlimkitError as error:
            raise ValueError(str(error)) from None

    @field_validator("weight_quantize_type")
    @classmethod
    def _known_weights(cls, value: str) -> str:
        if value not in _WEIGHTS:
            raise ValueError(f"allowed are {', '.join(_WEIGHTS)}")
        return value

    @classmethod
    def read(cls, values: Union[Mapping[str, Any], PtqConfig, None]) -> PtqConfig:
        """Validates a dict of settings (None: the defaults).

        Raises:
            ConfigError: an unknown key or a value that is not allowed.
        """
        return values if isinstance(values, PtqConfig) else build(cls, {} if values is None else values, "ptq config")
