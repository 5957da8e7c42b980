"""``slimkit inspect``: what a model file is, without running it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

from slimkit.deploy.grid import ACTIVATION_OPS, DEQUANTIZE_OPS
from slimkit.deploy.model_files import program_and_parameters
from slimkit.deploy.program_desc import OpDesc, ProgramView, VarDesc, read_program
from slimkit.deploy.size import model_size

__all__ = ["FORMATS", "Inspection", "LeftFloat", "QuantizedLayer", "Tensor", "inspect"]

#: Format -> what it is called for people.
FORMATS = {
    "legacy": "Paddle ProgramDesc (.pdmodel), float",
    "legacy-onnx": "Paddle ProgramDesc (.pdmodel), quantized, onnx format (quantize_linear)",
    "legacy-old": "Paddle ProgramDesc (.pdmodel), quantized, old format (fake_quantize)",
    "pir": "Paddle 3 PIR program (.json)",
    "nb": "Paddle-Lite model (.nb)",
    "onnx-float": "ONNX (.onnx), float",
    "onnx-qdq": "ONNX (.onnx), quantized (QuantizeLinear, DequantizeLinear)",
}

#: ONNX's names of types that numpy calls otherwise.
_ONNX_DTYPES = {"float": "float32", "double": "float64"}

#: Op type -> (activation slot, weight slot) of the ops that hold the multiply-adds.
COMPUTE_OPS: Dict[str, Tuple[str, str]] = {
    "conv2d": ("Input", "Filter"),
    "depthwise_conv2d": ("Input", "Filter"),
    "conv2d_transpose": ("Input", "Filter"),
    "depthwise_conv2d_transpose": ("Input", "Filter"),
    "conv3d": ("Input", "Filter"),
    "deformable_conv": ("Input", "Filter"),
    "mul": ("X", "Y"),
    "matmul": ("X", "Y"),
    "matmul_v2": ("X", "Y"),
    "fc": ("Input", "W"),
}


@dataclass(frozen=True)
class Tensor:
    """An input or output: name, dtype, shape with -1 where it is open."""

    name: str
    dtype: str
    shape: List[int]


@dataclass(frozen=True)
class QuantizedLayer:
    """A quantized op.

    Attributes:
        op: its type.
        weight: its parameter, or None between two activations.
        activation_bits, weight_bits: widths; None where that input stays float.
        scheme: "per channel" or "per tensor" for the weight, None without one.
    """

    op: str
    weight: Optional[str]
    activation_bits: Optional[int]
    weight_bits: Optional[int]
    scheme: Optional[str]


@dataclass(frozen=True)
class LeftFloat:
    """An op of a quantized model that could be quantized and is not."""

    op: str
    weight: Optional[str]
    reason: str


@dataclass
class Inspection:
    """What a model is; see :func:`inspect`."""

    path: str
    format: str
    description: str
    feeds: List[Tensor] = field(default_factory=list)
    fetches: List[Tensor] = field(default_factory=list)
    ops: Dict[str, int] = field(default_factory=dict)
    sub_blocks: int = 0
    parameters: int = 0
    parameter_bytes: Dict[str, int] = field(default_factory=dict)
    quantized: List[QuantizedLayer] = field(default_factory=list)
    left_float: List[LeftFloat] = field(default_factory=list)
    kernels: Dict[str, Dict[str, int]] = field(default_factory=dict)
    files: Dict[str, int] = field(default_factory=dict)
    size_bytes: int = 0

    def to_dict(self) -> Dict[str, Any]:
        """JSON-ready values."""
        return asdict(self)


def inspect(path: Union[str, Path]) -> Inspection:
    """Describes a model.

    Args:
        path: a prefix, a program file (``.pdmodel``, ``.json``), a ``.nb`` or ``.onnx`` file, or a folder with one
            model.

    Returns:
        Format, inputs and outputs, op counts, parameters by dtype, quantized layers and layers left float, size.

    Raises:
        ModelError: there is no model, or it cannot be read.
        TranslationError: a PIR program has an op slimkit does not know.
    """
    program_file, parameters = program_and_parameters(path)
    size = model_size(path)
    found = Inspection(str(program_file), "", "", files=size.files, size_bytes=size.total)
    if program_file.suffix == ".onnx":
        _describe_onnx(found, program_file)
    elif parameters is None:
        _describe_nb(found, program_file)
    elif program_file.suffix == ".json":
        _describe_pir(found, program_file)
    else:
        program = read_program(program_file)
        _describe_program(found, program, "legacy")
        _count_parameters(found, program, parameters)
    found.description = FORMATS[found.format]
    return found


def _describe_nb(found: Inspection, file: Path) -> None:
    from slimkit.deploy.lite import kernels

    found.format = "nb"
    found.kernels = kernels(file.read_bytes())
    found.ops = {op: sum(counts.values()) for op, counts in found.kernels.items()}


def _describe_onnx(found: Inspection, file: Path) -> None:
    from slimkit.deploy.onnx_inspect import OnnxLayer, describe_onnx

    seen = describe_onnx(file)
    found.ops, found.parameters, found.parameter_bytes = seen.ops, seen.parameters, seen.parameter_bytes
    found.feeds, found.fetches = (
        [Tensor(name, _ONNX_DTYPES.get(dtype, dtype), [d if isinstance(d, int) else -1 for d in dims])
         for name, dtype, dims in ends]
        for ends in (seen.inputs, seen.outputs)
    )  # fmt: skip
    found.quantized = [
        QuantizedLayer(x.op, x.weight, x.activation_bits, x.weight_bits, x.weight_scheme) for x in seen.quantized
    ]
    found.format = "onnx-qdq" if found.quantized else "onnx-float"

    def why(layer: OnnxLayer) -> str:
        if layer.weight is None:
            return "a product of two activations"
        if layer.activation_bits and layer.weight_bits:
            return "its result lies on no grid, without which ONNX Runtime computes a convolution in float"
        kept = "its weight is stored in integers but its input lies on no grid: computed in float"
        return kept if layer.weight_bits else "it was left out when the model was quantized"

    for layer in seen.layers if found.quantized else []:
        integer = layer.activation_bits and layer.weight_bits and (layer.result_on_grid or layer.op != "Conv")
        if not integer:
            found.left_float.append(LeftFloat(layer.op, layer.weight, why(layer)))


def _describe_pir(found: Inspection, file: Path) -> None:
    import tempfile

    from slimkit.ir.model import Model

    model = Model.load(file)
    with tempfile.TemporaryDirectory(prefix="slimkit-") as folder:
        model.save(f"{folder}/model")
        program = read_program(f"{folder}/model.pdmodel")
        _describe_program(found, program, "pir")
        _count_parameters(found, program, Path(f"{folder}/model.pdiparams"))


def _describe_program(found: Inspection, program: ProgramView, format_: str) -> None:
    counts = Counter(op.type for op in program.ops if op.type not in ("feed", "fetch"))
    found.ops = dict(counts.most_common())
    found.format = _format(counts) if format_ == "legacy" else format_
    found.sub_blocks = program.sub_blocks
    found.feeds = [_tensor(program, name) for name in program.names("feed")]
    found.fetches = [_tensor(program, name) for name in program.names("fetch")]
    _quantization(found, program)


def _count_parameters(found: Inspection, program: ProgramView, parameters: Path) -> None:
    """By the dtypes of the file: PaddleSlim declares int8 weights as float32 in the program."""
    from slimkit.ir.params_file import read_combined

    shapes = {v.name: v.shape for v in program.variables.values() if v.persistable and v.dtype != "other"}
    for array in read_combined(parameters, shapes).values():
        found.parameters += array.size
        name = str(array.dtype)
        found.parameter_bytes[name] = found.parameter_bytes.get(name, 0) + array.nbytes


def _format(counts: Dict[str, int]) -> str:
    if "dequantize_linear" in counts or "quantize_linear" in counts:
        return "legacy-onnx"
    return "legacy-old" if set(counts) & {*ACTIVATION_OPS, *DEQUANTIZE_OPS} else "legacy"


def _tensor(program: ProgramView, name: str) -> Tensor:
    var = program.variables.get(name) or VarDesc(name, "unknown", (), False)
    return Tensor(name, var.dtype, list(var.shape))


def _quantization(found: Inspection, program: ProgramView) -> None:
    producers, consumers = program.producers(), program.consumers()
    quantized = set(found.ops) & {*ACTIVATION_OPS, *DEQUANTIZE_OPS}
    for op in program.ops:
        if op.type not in COMPUTE_OPS:
            continue
        layer = _layer(op, program, producers, consumers)
        if layer.activation_bits is not None or layer.weight_bits is not None:
            found.quantized.append(layer)
        if quantized and (layer.activation_bits is None or layer.weight_bits is None):
            reason = _why_float(op, layer, program)
            if reason:
                found.left_float.append(LeftFloat(op.type, layer.weight, reason))


def _layer(
    op: OpDesc, program: ProgramView, producers: Dict[str, OpDesc], consumers: Dict[str, List[OpDesc]]
) -> QuantizedLayer:
    activation_slot, weight_slot = COMPUTE_OPS[op.type]
    activation = producers.get(op.input(activation_slot) or "")
    quantizer = _is_quantizer(activation)
    activation_bits = activation.attrs.get("bit_length", 8) if activation is not None and quantizer else None
    weight, weight_bits, scales = op.input(weight_slot), None, None
    source = producers.get(weight or "")
    if source is not None and (source.type in DEQUANTIZE_OPS or _is_quantizer(source)):
        weight, weight_bits = source.input("X"), source.attrs.get("bit_length", 8)
        scales = source.input("Scale") or source.input("InScale")
    else:  # old format: integers in the parameter, a dequantize op behind
        behind = consumers.get(op.output_names[0], []) if op.output_names else []
        after = next((o for o in behind if o.type in DEQUANTIZE_OPS[1:]), None)
        if after is not None:
            weight_bits = (after.attrs.get("quant_bits") or [8])[0]
            scales = after.input("Scales") if after.type != "fake_dequantize_max_abs" else None
    scale_var = program.variables.get(scales or "")
    scheme = None
    if weight_bits is not None:
        scheme = "per channel" if scale_var is not None and scale_var.elements > 1 else "per tensor"
    is_parameter = weight in program.variables and program.variables[weight or ""].persistable
    return QuantizedLayer(op.type, weight if is_parameter else None, activation_bits, weight_bits, scheme)


def _is_quantizer(op: Optional[OpDesc]) -> bool:
    return op is not None and (op.type in ACTIVATION_OPS or op.type == "dequantize_linear" or "fake_channel" in op.type)


def _why_float(op: OpDesc, layer: QuantizedLayer, program: ProgramView) -> str:
    if layer.weight is None and layer.activation_bits is None:
        return "a product of two activations, without quantize ops"
    if layer.weight is None:
        return ""
    if layer.weight_bits is not None:
        return "its weight is stored in int8 but its input is not quantized: computed in float"
    if layer.activation_bits is not None:
        return "its input is quantized but its weight is not"
    if op.type == "conv2d_transpose":
        return "conv2d_transpose was left out; Paddle Inference has no int8 kernel for it"
    return "it was left out when the model was quantized (a skip rule, or its type is not among quantize_op_types)"
