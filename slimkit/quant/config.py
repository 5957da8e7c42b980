"""The quantization config: PaddleSlim's keys and defaults, checked when read, plus ordered rules.

>>> QuantConfig.read({"weight_bits": 4}).weight_bits
4
"""

from __future__ import annotations

import fnmatch
from typing import Any, Dict, List, Mapping, Optional, Tuple, Union

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from slimkit.errors import nearest
from slimkit.quant.ops import ACTIVATION_OPS, TENSORRT_OPS, WEIGHT_OPS
from slimkit.schema import build

__all__ = ["ACTIVATION_TYPES", "WEIGHT_TYPES", "PactConfig", "QuantConfig", "QuantRule"]

#: How a weight's range is found. The last two are affine (zero point), the rest symmetric max-abs.
WEIGHT_TYPES: Tuple[str, ...] = (
    "abs_max",
    "channel_wise_abs_max",
    "range_abs_max",
    "moving_average_abs_max",
    "min_max",
    "channel_wise_min_max",
)
#: How an activation's range is found. ``abs_max`` and ``min_max`` are dynamic, computed anew in every run.
ACTIVATION_TYPES: Tuple[str, ...] = (
    "abs_max",
    "range_abs_max",
    "window_mean_abs_max",
    "moving_average_abs_max",
    "min_max",
    "moving_average_min_max",
)
_BACKENDS = ("tensorrt", "mkldnn", "arm")


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, validate_default=True)


class QuantRule(_Section):
    """What holds for the ops a rule matches; of several rules the first that matches an op decides.

    A rule matches when every one of the patterns that are given does; ``*`` and ``?`` are wildcards.
    """

    op_types: List[str] = Field(default=[], description="Op types the rule is for; empty: every type.")
    names: List[str] = Field(
        default=[], description="Wildcards on the names of the op's weight, input and output variables."
    )
    layers: List[str] = Field(
        default=[], description="Wildcards on the layer's path in the network, such as `blocks.3.*`."
    )
    name_scope: List[str] = Field(default=[], description="Parts of the op's name scope.")
    skip: bool = Field(default=False, description="Leave the op float.")
    weight_bits: Optional[int] = Field(default=None, ge=2, le=16, description="Bits of its weight.")
    activation_bits: Optional[int] = Field(default=None, ge=2, le=16, description="Bits of its activations.")

    def matches(self, op_type: str, names: List[str], layer: str, scope: str) -> bool:
        """Whether the rule is for this op."""

        def any_match(patterns: List[str], texts: List[str]) -> bool:
            return any(fnmatch.fnmatchcase(text, pattern) for pattern in patterns for text in texts)

        return (
            (not self.op_types or op_type in self.op_types)
            and (not self.names or any_match(self.names, names))
            and (not self.layers or any_match(self.layers, [layer]))
            and (not self.name_scope or any(part in scope for part in self.name_scope))
        )


class QuantConfig(_Section):
    """What is quantized and how; names and defaults are PaddleSlim 2.6's, ``rules`` is slimkit's."""

    weight_quantize_type: str = Field(
        default="channel_wise_abs_max", description=f"Range of weights: {', '.join(WEIGHT_TYPES)}."
    )
    activation_quantize_type: str = Field(
        default="moving_average_abs_max", description=f"Range of activations: {', '.join(ACTIVATION_TYPES)}."
    )
    weight_bits: int = Field(default=8, ge=2, le=16, description="Bits of weights, 2 to 16.")
    activation_bits: int = Field(default=8, ge=2, le=16, description="Bits of activations, 2 to 16.")
    not_quant_pattern: Union[str, List[str]] = Field(
        default=["skip_quant"], description="Ops whose name scope contains one of these stay float."
    )
    quantize_op_types: List[str] = Field(
        default=["conv2d", "depthwise_conv2d", "mul"],
        description="Op types to quantize. The default is PaddleSlim's; name matmul_v2 too, which Linear is now.",
    )
    dtype: str = Field(default="int8", description="Storage type of quantized weights; int8.")
    window_size: int = Field(default=10000, ge=1, description="Steps in the window of range_abs_max.")
    moving_rate: float = Field(default=0.9, gt=0, lt=1, description="k of V_t = (1-k) V + k V_(t-1).")
    for_tensorrt: bool = Field(default=False, description=f"Quantize just {', '.join(TENSORRT_OPS)}.")
    is_full_quantize: bool = Field(default=False, description="Quantize every op type that has a row.")
    onnx_format: bool = Field(
        default=True, description="Export quantize_linear/dequantize_linear; false: fake_quantize_* ops."
    )
    quant_post_first: bool = Field(default=False, description="Start scales from observed activations.")
    scale_trainable: bool = Field(default=True, description="Scales go on moving while training.")
    deploy_backend: Optional[str] = Field(default=None, description="None, tensorrt, mkldnn or arm.")
    rules: List[QuantRule] = Field(default=[], description="Ordered exceptions; the first match decides.")

    @field_validator("weight_quantize_type", "activation_quantize_type", "dtype")
    @classmethod
    def _known_type(cls, value: str, info: Any) -> str:
        allowed = {"weight_quantize_type": WEIGHT_TYPES, "activation_quantize_type": ACTIVATION_TYPES}
        names = allowed.get(info.field_name, ("int8",))
        if value not in names:
            close = nearest(value, names)
            raise ValueError(f"allowed are {', '.join(names)}" + (f"; did you mean '{close}'?" if close else ""))
        return value

    @field_validator("deploy_backend")
    @classmethod
    def _known_backend(cls, value: Optional[str]) -> Optional[str]:
        if value is not None and value.lower() not in _BACKENDS:
            raise ValueError(f"allowed are null, {', '.join(_BACKENDS)}")
        return value

    @field_validator("quantize_op_types")
    @classmethod
    def _known_ops(cls, value: List[str]) -> List[str]:
        for name in value:
            if name not in WEIGHT_OPS and name not in ACTIVATION_OPS:
                close = nearest(name, [*WEIGHT_OPS, *ACTIVATION_OPS])
                raise ValueError(
                    f"'{name}' cannot be quantized"
                    + (f"; did you mean '{close}'?" if close else "; see slimkit/quant/ops.py")
                )
        return value

    @model_validator(mode="after")
    def _tensorrt(self) -> QuantConfig:
        if self.for_tensorrt and self.weight_quantize_type != "channel_wise_abs_max":
            raise ValueError("for_tensorrt allows weight_quantize_type channel_wise_abs_max only")
        return self

    @classmethod
    def read(cls, values: Union[Mapping[str, Any], QuantConfig, None]) -> QuantConfig:
        """Validates a PaddleSlim config dict (None: the defaults).

        Raises:
            ConfigError: an unknown key or a value that is not allowed.
        """
        if isinstance(values, QuantConfig):
            return values
        return build(cls, {} if values is None else values, "quant config")

    def op_types(self) -> Tuple[List[str], List[str]]:
        """The op types with weights and those with activations only that are to be quantized."""
        if self.for_tensorrt:
            names: List[str] = list(TENSORRT_OPS)
        elif self.is_full_quantize:
            names = [*WEIGHT_OPS, *ACTIVATION_OPS]
        else:
            names = list(self.quantize_op_types)
        return (
            [n for n in dict.fromkeys(names) if n in WEIGHT_OPS],
            [n for n in dict.fromkeys(names) if n in ACTIVATION_OPS and n not in WEIGHT_OPS],
        )

    def scope_patterns(self) -> List[str]:
        value = self.not_quant_pattern
        return [value] if isinstance(value, str) else list(value)


class PactConfig(_Section):
    """PACT: a trainable clipping level alpha before each activation quantizer (Choi et al. 2018, arXiv 1805.06085)."""

    form: str = Field(
        default="two_sided",
        description="`two_sided` clips any quantized activation to [-alpha, alpha]; `relu` is the paper's form: ReLUs "
        "before quantized ops become clip(x, 0, alpha).",
    )
    optimizer: str = Field(default="momentum", description="Optimizer of alpha alone: sgd, momentum or adam.")
    learning_rate: float = Field(
        default=0.01, gt=0, description="Learning rate of alpha, scaled by the weights' schedule."
    )
    l2: float = Field(default=1e-4, ge=0, description="L2 decay of alpha (the paper's lambda).")
    init: str = Field(
        default="mse",
        description="alpha from observed activations: `mse` (least quantization error), `max` or `percentile`.",
    )
    percentile: float = Field(default=99.99, gt=50, le=100, description="Used by init: percentile.")

    @field_validator("form", "optimizer", "init")
    @classmethod
    def _known(cls, value: str, info: Any) -> str:
        allowed: Dict[str, Tuple[str, ...]] = {
            "form": ("two_sided", "relu"),
            "optimizer": ("sgd", "momentum", "adam"),
            "init": ("mse", "max", "percentile"),
        }
        names = allowed[info.field_name]
        if value not in names:
            raise ValueError(f"allowed are {', '.join(names)}")
        return value

    @classmethod
    def read(cls, values: Union[Mapping[str, Any], PactConfig]) -> PactConfig:
        """Validates a dict of PACT settings."""
        return values if isinstance(values, PactConfig) else build(cls, values, "pact config")
