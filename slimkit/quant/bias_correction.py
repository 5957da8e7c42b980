"""Bias correction: takes out of each layer's bias what quantization adds to the mean of its result.

Source: Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction" (arXiv 1906.04721),
section 4.2 and appendix D, the empirical form: layer by layer from the first to the last, the mean over the data of
each output channel is compared between the float model and the model that is quantized and corrected up to it, and the
difference is taken from the bias.

Both models are run from layer to layer (``Stepwise``): every op runs once.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, Iterable, List, Mapping, Optional, Tuple

import numpy as np

from slimkit.ir.graph import Graph, GraphOp, GraphVar
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.quant.export import export_program
from slimkit.quant.ops import WEIGHT_OPS
from slimkit.quant.quantized import Quantized
from slimkit.quant.quantizers import set_tensor
from slimkit.quant.stepwise import BUDGET, Stepwise, keep_within, read_batches
from slimkit.quant.table import QuantTable

__all__ = ["correct_biases"]


@dataclass(frozen=True)
class _Layer:
    """An op with a weight on a grid, the name of its result, its channel axis there, and its bias parameter."""

    result: str
    axis: int
    bias: str


def correct_biases(quantized: Quantized, feeds: Iterable[Mapping[str, np.ndarray]], place: Any = None) -> Quantized:
    """Corrects the mean shift of each quantized layer in its bias.

    A layer without a bias gets one; a bias that others read as well is copied first. Layers inside of control-flow
    blocks stay as they are.

    Args:
        quantized: float model and table; not changed.
        feeds: batches by feed name; read once, as many as fit into the memory that ``Stepwise`` allows itself.
        place: device the models run on; None: CPU.

    Returns:
        A model with other biases, and the table, in which the names of results behind which a bias was added differ.

    Raises:
        TrainingError: no batch.
    """
    result, layers = _with_biases(quantized, place)
    simulated = export_program(result.model, result.table, "onnx", place)
    batches = read_batches(feeds, result.model.feeds)
    names = [layer.result for layer in layers]
    exact = Stepwise(result.model.clone(copy_params=True), batches, names, place)
    corrected = Stepwise(simulated, batches, names, place)
    by_result = {layer.result: layer for layer in layers}
    for name in corrected.order(names):
        layer = by_result[name]
        exact.advance(name)
        corrected.advance(name)
        keep_within(BUDGET, exact, corrected)
        shift = _mean(corrected, layer) - _mean(exact, layer)
        for model in (result.model, simulated):
            value = model.params[layer.bias]
            model.params[layer.bias] = (value - shift.reshape(value.shape)).astype(value.dtype)
        exact.release(name)
        corrected.release(name)
    return result


def _mean(model: Stepwise, layer: _Layer) -> np.ndarray:
    """The mean of each channel of a layer's result over all batches, float64."""
    total, count = np.zeros(1), 0
    for values in model.batches:
        value = values[layer.result]
        axes = tuple(d for d in range(value.ndim) if d != layer.axis % value.ndim)
        total = total + value.sum(axis=axes, dtype=np.float64)
        count += value.size // value.shape[layer.axis]
    return total / max(count, 1)


# ------------------------------------------------------------------------------------------------ a bias for each


def _with_biases(quantized: Quantized, place: Any) -> Tuple[Quantized, List[_Layer]]:
    """A copy in which every layer to correct has a bias of its own."""
    import paddle

    model = quantized.model.clone(copy_params=True)
    table = QuantTable(dict(quantized.table.params), list(quantized.table.ops), list(quantized.table.skipped))
    numbers = {(row.type, row.output): i for i, row in enumerate(table.ops)}
    layers = []
    with legacy_ir():
        graph = Graph(model.program, for_test=True)
        edit = _Biases(graph, model, place or paddle.CPUPlace())
        for op in graph.ops(*WEIGHT_OPS):
            number = numbers.get((op.type, op.outputs[0].name)) if op.outputs else None
            if number is None or not any(table.params[key].is_weight for key in table.ops[number].inputs.values()):
                continue
            found = edit.layer(op)
            if found is not None:
                layers.append(found)
                table.ops[number] = replace(table.ops[number], output=found.result)
        model.program = graph.to_program()
    return Quantized(model, table), layers


class _Biases:
    """Finds, copies or adds the bias of a layer."""

    def __init__(self, graph: Graph, model: Model, place: Any) -> None:
        self._graph, self._model, self._place = graph, model, place
        self._values: Dict[str, np.ndarray] = dict(model.params)

    def layer(self, op: GraphOp) -> Optional[_Layer]:
        """The layer of an op, or None when its channels are not known."""
        spec = WEIGHT_OPS[op.type]
        out, weight = op.output_var(spec.output), op.input_var(spec.weight)
        if out is None or weight is None or len(out.shape) < 2:
            return None
        last = op.type in ("mul", "matmul", "matmul_v2") or str(op.attr("data_format", "NCHW")) == "NHWC"
        axis = -1 if last else 1
        channels = out.shape[axis]
        if channels < 1:
            return None
        bias = self._own_bias(out, axis, channels)
        if bias is not None:
            return _Layer(out.name, axis, bias)
        return self._add(op, out, axis, channels)

    def _own_bias(self, out: GraphVar, axis: int, channels: int) -> Optional[str]:
        """The parameter that is added to the result and to nothing else, made the layer's own."""
        if len(out.consumers) != 1 or len(self._graph.vars(out.name)) != 1 or out.name in self._model.fetches:
            return None
        add = out.consumers[0]
        bias = add.input_var("Y") if add.type == "elementwise_add" and add.input_var("X") is out else None
        if bias is None or not bias.persistable or bias.name not in self._values:
            return None
        shape = self._values[bias.name].shape
        start = int(add.attr("axis", -1))
        start = start if start >= 0 else len(out.shape) - len(shape)
        place = axis % len(out.shape) - start
        if not 0 <= place < len(shape) or shape[place] != channels or np.prod(shape) != channels:
            return None
        if len(bias.consumers) == 1:
            return bias.name
        own = self._parameter(f"{out.name}.bias", self._values[bias.name], bias.dtype)
        self._graph.replace_input(add, bias, own)
        return own.name

    def _add(self, op: GraphOp, out: GraphVar, axis: int, channels: int) -> _Layer:
        """Puts a bias of zeros behind an op; the result with the bias keeps the name, the op's own gets a new one."""
        raw = self._graph.create_var(f"{out.name}.unbiased", out.shape, out.dtype)
        self._graph.replace_output(op, out, raw)
        bias = self._parameter(f"{out.name}.bias", np.zeros(channels, np.float32), out.dtype)
        self._graph.insert_op("elementwise_add", {"X": raw, "Y": bias}, {"Out": out}, {"axis": axis})
        return _Layer(raw.name, axis, bias.name)

    def _parameter(self, name: str, value: np.ndarray, dtype: Any) -> GraphVar:
        while self._graph.has_var(name):
            name += "_"
        set_tensor(self._model.scope, name, value.copy(), self._place)
        return self._graph.create_var(name, value.shape, dtype, persistable=True, stop_gradient=True)
