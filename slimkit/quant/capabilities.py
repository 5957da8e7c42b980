"""What each runtime really executes in integers: one row a runtime, read by the post-training planner.

The rows are measured facts (see docs/runtimes.md), not wishes: an op that a runtime computes in float although it is
quantized only loses accuracy, and one that it computes wrongly is named with the reason it stays float.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Collection, Dict, Mapping, Optional, Tuple

from slimkit.errors import ConfigError, suggestion
from slimkit.ir.graph import GraphOp
from slimkit.quant import onednn_conditions as onednn
from slimkit.quant import onnxruntime_conditions as onnxruntime
from slimkit.quant.ops import WEIGHT_OPS

__all__ = ["CAPABILITIES", "Capability", "Refusal", "capability"]

#: The widths a plain file can hold.
ANY = tuple(range(2, 17))

#: Says why an op of a listed type stays float all the same, or None when it is quantized.
Refusal = Callable[[GraphOp], Optional[str]]


@dataclass(frozen=True)
class Capability:
    """A row of :data:`CAPABILITIES`.

    Attributes:
        weight_ops: op types whose product with a weight runs in integers.
        activation_ops: op types without a weight that run in integers when their inputs lie on grids (residual adds).
        output_ops: op types that run in integers only when their result lies on a grid too. The result is taken behind
            the bias and the activation that the runtime fuses (``fused_behind``).
        fused_behind: op types that the runtime computes in one with the op before them.
        affine_activations: whether activations may have a zero point.
        activation_bits, weight_bits: widths that run.
        per_tensor_ops: op types whose weight may have one scale only.
        refusals: further conditions, see :data:`Refusal`.
        weight_only: conditions under which only the weight lies on a grid: the file is as small, and the op is computed
            in float.
        slots: op type -> which input slots of an op lie on a grid; absent: all.
        float_reasons: op type -> why it stays float on this runtime, for the report.
    """

    runtime: str
    weight_ops: Tuple[str, ...]
    activation_ops: Tuple[str, ...] = ()
    output_ops: Tuple[str, ...] = ()
    fused_behind: Tuple[str, ...] = ("elementwise_add", "relu", "relu6", "clip")
    affine_activations: bool = False
    activation_bits: Tuple[int, ...] = (8,)
    weight_bits: Tuple[int, ...] = (8,)
    per_tensor_ops: Tuple[str, ...] = ()
    refusals: Tuple[Refusal, ...] = ()
    weight_only: Tuple[Refusal, ...] = ()
    slots: Mapping[str, Callable[[GraphOp], Collection[str]]] = field(default_factory=dict)
    float_reasons: Mapping[str, str] = field(default_factory=dict)


def _lite(runtime: str) -> Capability:
    return Capability(
        runtime,
        weight_ops=("conv2d", "depthwise_conv2d", "mul", "matmul", "matmul_v2"),
        refusals=(onednn.both_computed,),
        float_reasons={"conv2d_transpose": "Paddle-Lite takes no int8 weight of a conv2d_transpose in the onnx format"},
    )


CAPABILITIES: Dict[str, Capability] = {
    # Paddle Inference on x86, oneDNN. Products with a matrix become 1x1 convolutions (LegalizeOnednn). A convolution
    # and the residual add behind it are one op, which runs in integers when the residual and the sum lie on grids; the
    # sum does when it is read by a quantized op, so the average pool at the end of a network reads a grid too.
    "paddle": Capability(
        "paddle",
        weight_ops=("conv2d", "depthwise_conv2d", "mul", "matmul", "matmul_v2"),
        activation_ops=("elementwise_add", "pool2d"),
        refusals=(onednn.both_computed, onednn.not_a_residual, onednn.not_behind_a_residual),
        weight_only=(onednn.one_pixel, onednn.no_matrix_of_rows),
        slots={"elementwise_add": onednn.residual_slots},
        float_reasons={"conv2d_transpose": "Paddle's oneDNN int8 has no conv2d_transpose"},
    ),
    # ONNX Runtime on CPU. A convolution is an integer one only when its result lies on a grid too (QLinearConv); a
    # matrix product needs none. Residual adds on grids run in integers (QLinearAdd). Pools and the multiplications of
    # squeeze-and-excitation gain nothing from grids: Q and DQ cost what they save. See docs/onnx.md.
    "onnx": Capability(
        "onnx",
        weight_ops=("conv2d", "depthwise_conv2d", "conv2d_transpose", "mul", "matmul", "matmul_v2"),
        activation_ops=("elementwise_add",),
        output_ops=("conv2d", "depthwise_conv2d"),
        affine_activations=True,
        weight_only=(
            onnxruntime.no_integer_kernel,
            onnxruntime.depthwise_among_floats,
            onnxruntime.first_before_floats,
        ),
    ),
    # The plain files, for whatever runtime reads them: all that the formats can say.
    "paddle-onnx": Capability("paddle-onnx", weight_ops=tuple(WEIGHT_OPS), activation_bits=ANY, weight_bits=ANY),
    "paddle-old": Capability("paddle-old", weight_ops=tuple(WEIGHT_OPS), activation_bits=ANY, weight_bits=ANY),
    # Paddle-Lite: ARM has int8 kernels for these; x86's are wrong, it computes in float on the same grid.
    "lite-arm": _lite("lite-arm"),
    "lite-x86": _lite("lite-x86"),
}


def capability(runtime: str) -> Capability:
    """The row of a runtime.

    Raises:
        ConfigError: there is none.
    """
    row = CAPABILITIES.get(runtime)
    if row is None:
        meant = suggestion(runtime, CAPABILITIES)
        raise ConfigError(f"There is no runtime '{runtime}'; allowed are {', '.join(CAPABILITIES)}{meant}")
    return row
