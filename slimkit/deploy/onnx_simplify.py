"""Makes paddle2onnx's files valid and plain: constants folded, scalars in Concat repaired, biases in the convolution.

Each pass keeps what the graph computes. Nodes that stand for marks (``onnx_program``) are left where they are.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

import numpy as np

from slimkit.deploy.onnx_graph import OnnxGraph
from slimkit.deploy.onnx_program import mark_number

__all__ = ["attribute", "evaluate", "find_marks", "rename_ends", "simplify"]

#: Ops computed beforehand when all their inputs are constants.
FOLDABLE = frozenset(
    "Add Cast Ceil Concat ConstantOfShape Div Exp Expand Flatten Floor Gather Identity Mul Neg Pow Range Reciprocal "
    "Reshape Shape Slice Split Sqrt Squeeze Sub Tile Transpose Unsqueeze".split()
)
LARGEST = 1 << 26  # elements of a folded result: constants are to be stored, not to be multiplied
PREFIXES = ("p2o.", "pd_op.", "helper.")
ADDED = ("Conv", "ConvTranspose")


def simplify(graph: OnnxGraph) -> None:
    """Applies all passes in place."""
    _constants_as_initializers(graph)
    _drop_identities(graph)
    _fold(graph)
    _scalars_in_concat(graph)
    _biases(graph)
    graph.drop_unread()
    _shorten_names(graph)


def attribute(node: Any, name: str, default: Any = None) -> Any:
    """An attribute's value, or the default."""
    from onnx import helper

    return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)


def evaluate(node: Any, inputs: Mapping[str, np.ndarray], opsets: Sequence[Any]) -> List[np.ndarray]:
    """Computes one node by onnx's reference implementation.

    Args:
        node: any standard op.
        inputs: its inputs' values by name.
        opsets: the model's opset imports.
    """
    from onnx import TensorProto, helper
    from onnx.reference import ReferenceEvaluator

    typed = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for n, v in inputs.items()
    ]
    results = [helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in node.output]
    model = helper.make_model(helper.make_graph([node], "one", typed, results), opset_imports=opsets)
    return [np.asarray(value) for value in ReferenceEvaluator(model).run(None, dict(inputs))]


def find_marks(graph: OnnxGraph) -> Dict[int, Any]:
    """The ``Clip`` nodes that stand for marks, by number."""
    found = {}
    for node in graph.nodes:
        if node.op_type == "Clip":
            low, high = (_scalar(graph, node, i) for i in (1, 2))
            number = mark_number(low, high) if low is not None and high is not None else None
            if number is not None:
                found[number] = node
    return found


def _scalar(graph: OnnxGraph, node: Any, index: int) -> Optional[float]:
    value = graph.constants.get(node.input[index]) if index < len(node.input) else None
    return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None


def _constants_as_initializers(graph: OnnxGraph) -> None:
    from onnx import numpy_helper

    for node in [n for n in graph.nodes if n.op_type == "Constant"]:
        value = attribute(node, "value")
        if value is not None:
            graph.constants[node.output[0]] = numpy_helper.to_array(value)
            graph.remove(node)


def _drop_identities(graph: OnnxGraph) -> None:
    for node in [n for n in graph.nodes if n.op_type == "Identity"]:
        source, out = node.input[0], node.output[0]
        if out not in graph.results:
            graph.replace(out, source)
            graph.remove(node)
        elif source in graph.producers and source not in graph.results:
            graph.remove(node)
            graph.rename(source, out)


def _fold(graph: OnnxGraph) -> None:
    for node in list(graph.nodes):
        names = [name for name in node.input if name]
        foldable = node.op_type in FOLDABLE and not any(name in graph.results for name in node.output)
        if not foldable or not names or any(name not in graph.constants for name in names):
            continue
        values = evaluate(node, {name: graph.constants[name] for name in names}, graph.model.opset_import)
        if sum(value.size for value in values) > LARGEST:
            continue
        graph.remove(node)
        graph.constants.update(zip(node.output, values))


def _scalars_in_concat(graph: OnnxGraph) -> None:
    """paddle2onnx 2.1 concatenates scalars where a shape is put together from numbers; Concat wants vectors."""
    from onnx import shape_inference

    while True:
        inferred = shape_inference.infer_shapes(graph.to_model())
        ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in inferred.graph.value_info if _has_shape(v)}
        ranks.update({name: value.ndim for name, value in graph.constants.items()})
        changed = False
        for node in [n for n in graph.nodes if n.op_type == "Concat"]:
            for name in list(node.input):
                if ranks.get(name) == 0:
                    graph.read_instead(node, name, _as_vector(graph, node, name))
                    changed = True
        if not changed:
            return


def _has_shape(info: Any) -> bool:
    return info.type.HasField("tensor_type") and info.type.tensor_type.HasField("shape")


def _as_vector(graph: OnnxGraph, node: Any, name: str) -> str:
    if name in graph.constants:
        return graph.add_constant(f"{name}.vector", graph.constants[name].reshape(1))
    axes = graph.add_constant("axis0", np.zeros(1, np.int64))
    return graph.add_node("Unsqueeze", [name, axes], graph.fresh(f"{name}.vector"), before=node).output[0]


def _biases(graph: OnnxGraph) -> None:
    """``Conv`` + ``Add`` of a constant a channel: the convolution's own bias."""
    for node in [n for n in graph.nodes if n.op_type == "Add"]:
        for mine, other in (node.input, reversed(node.input)):
            conv, value = graph.producers.get(mine), graph.constants.get(other)
            if conv is not None and value is not None and conv.op_type in ADDED and _fuse(graph, conv, node, value):
                break


def _fuse(graph: OnnxGraph, conv: Any, add: Any, value: np.ndarray) -> bool:
    readers = graph.readers.get(conv.output[0], [])
    channels = _channels(graph, conv)
    per_channel = value.ndim == 4 and value.shape == (1, channels, 1, 1)
    if (
        len(conv.input) > 2
        or len(readers) != 1
        or conv.output[0] in graph.results
        or not (per_channel or not value.ndim)
    ):
        return False
    bias = np.broadcast_to(value.reshape(-1), (channels,)).astype(value.dtype)
    inner, out = conv.output[0], add.output[0]
    graph.remove(add)
    conv.input.append(graph.add_constant(f"{inner}.bias", bias))
    graph.readers.setdefault(conv.input[-1], []).append(conv)
    conv.output[0] = out
    graph.producers[out] = conv
    del graph.producers[inner]
    return True


def _channels(graph: OnnxGraph, conv: Any) -> int:
    """Output channels, -1 when the weight's shape is not known."""
    weight = graph.constants.get(conv.input[1])
    if weight is None:  # a mark is between
        maker = graph.producers.get(conv.input[1])
        weight = graph.constants.get(maker.input[0]) if maker is not None else None
    if weight is None:
        return -1
    return weight.shape[0] if conv.op_type == "Conv" else weight.shape[1] * attribute(conv, "group", 1)


def _shorten_names(graph: OnnxGraph) -> None:
    """Drops what paddle2onnx puts before every name; a small model's names are a good part of its file."""
    for node in graph.nodes:
        node.ClearField("name")
    for name in [*graph.producers, *graph.constants]:
        short = name
        for prefix in PREFIXES:
            short = short[len(prefix) :] if short.startswith(prefix) else short
        if short != name and name not in graph.results and graph.fresh(short) == short:
            graph.rename(name, short)


def rename_ends(graph: OnnxGraph, feeds: Sequence[str], fetches: Sequence[str]) -> None:
    """Gives the model's inputs and results the names they have in Paddle, where no other tensor has them."""
    _rename(graph, graph.model.graph.input, feeds)
    _rename(graph, graph.model.graph.output, fetches)
    graph.results = [o.name for o in graph.model.graph.output]


def _rename(graph: OnnxGraph, ends: Any, names: Sequence[str]) -> None:
    if len(ends) != len(names):
        return
    taken: Callable[[str], bool] = lambda n: n in graph.producers or n in graph.constants  # noqa: E731
    for end, name in zip(ends, names):
        if end.name == name or taken(name) or any(e.name == name for e in ends):
            continue
        graph.rename(end.name, name)
        end.name = name
