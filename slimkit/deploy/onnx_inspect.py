"""What an ``.onnx`` file holds: ops, ends, and which layers are quantized how."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple, Union

from slimkit.errors import ModelError, RuntimeUnavailableError

__all__ = ["OnnxDescription", "OnnxLayer", "describe_onnx"]

PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")
BITS = {"INT4": 4, "UINT4": 4, "INT8": 8, "UINT8": 8, "INT16": 16, "UINT16": 16}


@dataclass(frozen=True)
class OnnxLayer:
    """A convolution or matrix product.

    Attributes:
        op: ONNX op type.
        weight: name of the constant, None for a product of two activations.
        activation_bits, weight_bits: None where it is float.
        weight_scheme: "per channel" or "per tensor", None for float weights.
        result_on_grid: a QuantizeLinear reads the result, behind the activation that runtimes fuse.
    """

    op: str
    weight: Optional[str]
    activation_bits: Optional[int]
    weight_bits: Optional[int]
    weight_scheme: Optional[str]
    result_on_grid: bool


@dataclass
class OnnxDescription:
    """A file's content: ``inputs`` and ``outputs`` are (name, dtype, shape) with names for dynamic dimensions."""

    opset: int
    ops: Dict[str, int]
    inputs: List[Tuple[str, str, List[Union[int, str]]]]
    outputs: List[Tuple[str, str, List[Union[int, str]]]]
    layers: List[OnnxLayer]
    parameters: int
    parameter_bytes: Dict[str, int] = field(default_factory=dict)

    @property
    def quantized(self) -> List[OnnxLayer]:
        """The layers with integer weights or activations."""
        return [layer for layer in self.layers if layer.weight_bits or layer.activation_bits]


def describe_onnx(path: Union[str, Path]) -> OnnxDescription:
    """Reads an ``.onnx`` file.

    Raises:
        RuntimeUnavailableError: onnx is not installed.
        ModelError: the file is missing, damaged or no ONNX model.
    """
    try:
        import onnx
    except ImportError:
        raise RuntimeUnavailableError(
            "Reading ONNX needs onnx, which is not installed: pip install 'slimkit[onnx]'."
        ) from None
    try:
        model = onnx.load(str(path))
        graph = model.graph
        if not graph.node:
            raise ValueError("it has no nodes")
    except Exception as error:
        told = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(f"{path} is not an ONNX model that can be read: {told}; export it again.") from None
    described = OnnxDescription(
        next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0),
        dict(Counter(node.op_type for node in graph.node).most_common()),
        [_end(value) for value in graph.input if value.name not in {t.name for t in graph.initializer}],
        [_end(value) for value in graph.output],
        _layers(graph),
        0,
    )
    for tensor in graph.initializer:
        array = onnx.numpy_helper.to_array(tensor)
        described.parameters += array.size
        name = str(array.dtype)
        described.parameter_bytes[name] = described.parameter_bytes.get(name, 0) + array.nbytes
    return described


def _end(value: Any) -> Tuple[str, str, List[Union[int, str]]]:
    import onnx

    tensor = value.type.tensor_type
    dims: List[Union[int, str]] = [
        d.dim_value if d.HasField("dim_value") else (d.dim_param or "?") for d in tensor.shape.dim
    ]
    return value.name, onnx.TensorProto.DataType.Name(tensor.elem_type).lower(), dims


def _layers(graph: Any) -> List[OnnxLayer]:
    makers = {name: node for node in graph.node for name in node.output}
    constants = {tensor.name: tensor for tensor in graph.initializer}
    readers: Dict[str, List[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    layers = []
    for node in graph.node:
        if node.op_type in PRODUCTS:
            x, w = makers.get(node.input[0]), makers.get(node.input[1])
            stored = _stored(w, makers)
            weight = stored if stored in constants else node.input[1] if node.input[1] in constants else None
            scheme = None
            if w is not None and stored in constants:
                scale = constants.get(w.input[1])
                scheme = "per channel" if scale is not None and any(d > 1 for d in scale.dims) else "per tensor"
            bits = _bits(constants[stored].data_type) if stored in constants else None
            on_grid = _on_grid(node.output[0], readers)
            layers.append(OnnxLayer(node.op_type, weight, _activation_bits(x, constants), bits, scheme, on_grid))
    return layers


def _stored(maker: Any, makers: Dict[str, Any]) -> Optional[str]:
    """The integers behind a DequantizeLinear, or behind the Cast, Sub and Mul of a weight that is only stored so."""
    if maker is not None and maker.op_type == "Mul":
        while maker is not None and maker.op_type in ("Mul", "Sub"):
            maker = makers.get(maker.input[0])
        return maker.input[0] if maker is not None and maker.op_type == "Cast" else None
    return maker.input[0] if maker is not None and maker.op_type == "DequantizeLinear" else None


def _bits(data_type: int) -> Optional[int]:
    import onnx

    return BITS.get(onnx.TensorProto.DataType.Name(data_type))


def _activation_bits(maker: Any, constants: Dict[str, Any]) -> Optional[int]:
    if maker is None or maker.op_type != "DequantizeLinear" or maker.input[0] in constants:
        return None
    zero = constants.get(maker.input[2]) if len(maker.input) > 2 else None
    return _bits(zero.data_type) if zero is not None else 8


def _on_grid(tensor: str, readers: Dict[str, List[Any]]) -> bool:
    while len(readers.get(tensor, [])) == 1:
        node = readers[tensor][0]
        if node.op_type == "QuantizeLinear":
            return True
        if node.op_type not in ("Relu", "Clip", "Add"):
            return False
        tensor = node.output[0]
    return False
