"""The config of dygraph quantization-aware training: PaddleSlim's keys and defaults, checked when read.

>>> LayerQuantConfig.read({"weight_bits": 4}).weight_bits
4
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from pydantic import BaseModel, ConfigDict, Field, field_validator

from slimkit.errors import ConfigError, nearest
from slimkit.schema import build

__all__ = ["LayerQuantConfig"]

_TYPES: Dict[str, Tuple[Any, ...]] = {
    "weight_preprocess_type": (None, "PACT"),
    "activation_preprocess_type": (None, "PACT"),
    "weight_quantize_type": ("abs_max", "channel_wise_abs_max"),
    "activation_quantize_type": ("abs_max", "range_abs_max", "moving_average_abs_max"),
    "dtype": ("int8",),
}


class LayerQuantConfig(BaseModel):
    """What of a dygraph network is quantized and how; names and defaults are those of PaddleSlim 2.6's ``QAT``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)

    weight_preprocess_type: Optional[str] = Field(default=None, description="None or PACT.")
    activation_preprocess_type: Optional[str] = Field(default=None, description="None or PACT.")
    weight_quantize_type: str = Field(
        default="channel_wise_abs_max", description="Range of weights: abs_max or channel_wise_abs_max."
    )
    activation_quantize_type: str = Field(
        default="moving_average_abs_max",
        description="Range of activations: moving_average_abs_max, range_abs_max (largest of the last window_size "
        "steps) or abs_max (computed anew in every run).",
    )
    weight_bits: int = Field(default=8, ge=2, le=16, description="Bits of weights, 2 to 16.")
    activation_bits: int = Field(default=8, ge=2, le=16, description="Bits of activations, 2 to 16.")
    dtype: str = Field(default="int8", description="Storage type of quantized weights; int8.")
    window_size: int = Field(default=10000, ge=1, description="Steps in the window of range_abs_max.")
    moving_rate: float = Field(default=0.9, gt=0, lt=1, description="k of V_t = (1-k) V + k V_(t-1).")
    quantizable_layer_type: List[Any] = Field(
        default=["Conv2D", "Linear"], description="Layer types to quantize: Conv2D, Conv2DTranspose, Linear."
    )
    fuse_conv_bn: bool = Field(default=False, description="Fold batch norms into convolutions before training.")
    onnx_format: bool = Field(
        default=True, description="Export quantize_linear/dequantize_linear; false: fake_quantize_* ops."
    )

    @field_validator(*_TYPES)
    @classmethod
    def _known(cls, value: Any, info: Any) -> Any:
        allowed = _TYPES[info.field_name]
        if value not in allowed:
            close = nearest(str(value), [name for name in allowed if name])
            names = ", ".join("None" if name is None else name for name in allowed)
            raise ValueError(f"allowed are {names}" + (f"; did you mean '{close}'?" if close else ""))
        return value

    @classmethod
    def read(cls, values: Union[Mapping[str, Any], LayerQuantConfig, None]) -> LayerQuantConfig:
        """Validates a PaddleSlim config dict (None: the defaults).

        Raises:
            ConfigError: not a dict, an unknown key, or a value that is not allowed.
        """
        if isinstance(values, LayerQuantConfig):
            return values
        if values is not None and not isinstance(values, Mapping):
            raise ConfigError(
                f"the config of QAT is a {type(values).__name__}; give a dict with the keys "
                f"{', '.join(cls.model_fields)}, or None for the defaults."
            )
        return build(cls, {} if values is None else values, "QAT config")
