"""Quantization: config, quantization-aware training, PACT, the table of scales, export."""

from __future__ import annotations

from slimkit.quant.config import PactConfig, QuantConfig, QuantRule
from slimkit.quant.embedding import quant_embedding
from slimkit.quant.export import export_program
from slimkit.quant.load_quantized import load_quantized
from slimkit.quant.post_static import quant_post, quant_post_static
from slimkit.quant.ptq import PtqResult, post_training_quantize
from slimkit.quant.ptq_config import PtqConfig
from slimkit.quant.qat import QatTrainer
from slimkit.quant.quantized import Quantized
from slimkit.quant.static import convert, initialise_scales, quant_aware
from slimkit.quant.table import QuantizedOp, QuantParams, QuantTable
from slimkit.quant.weight_only import quant_post_dynamic, quant_post_only_weight, quantize_weights

__all__ = [
    "PactConfig",
    "PtqConfig",
    "PtqResult",
    "QatTrainer",
    "QuantConfig",
    "QuantParams",
    "QuantRule",
    "QuantTable",
    "Quantized",
    "QuantizedOp",
    "convert",
    "export_program",
    "initialise_scales",
    "load_quantized",
    "post_training_quantize",
    "quant_aware",
    "quant_embedding",
    "quant_post",
    "quant_post_dynamic",
    "quant_post_only_weight",
    "quant_post_static",
    "quantize_weights",
]
