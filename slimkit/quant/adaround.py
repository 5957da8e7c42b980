"""AdaRound for a model: learns the rounding of each layer's weights from what the layer is fed when quantized.

Source: Nagel et al. 2020 (arXiv 2004.10568). Layers are rounded from the first to the last; the input of a layer comes
from the model that is quantized and rounded up to it, its target from the float model (the paper's asymmetric
reconstruction, section 3.4), so a layer makes up for what the layers before it did. The learning itself, and where it
departs from the paper, is in ``slimkit.numerics.adaround``.

Both models are run from layer to layer (``Stepwise``): every op runs once. What is kept of a layer is two matrices,
taken at some places of each batch's result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple

import numpy as np

from slimkit.ir.model import Model
from slimkit.numerics.adaround import learn_rounding, rounding_error, shrink
from slimkit.quant.adaround_layers import Layer, Reader, layers_of
from slimkit.quant.export import export_program
from slimkit.quant.ops import WEIGHT_OPS
from slimkit.quant.passes.freeze_weights import weight_integers
from slimkit.quant.quantized import Quantized
from slimkit.quant.stepwise import BUDGET, Stepwise, keep_within, read_batches

__all__ = ["LayerRounding", "adaround"]

#: A step costs the square of the inputs; layers with more than this get fewer steps, down to ``LEAST_STEPS``.
FULL_INPUTS, LEAST_STEPS = 1024, 50


@dataclass(frozen=True)
class LayerRounding:
    """What was gained in a layer.

    Attributes:
        weight: its name.
        index, count: the layer's number, from 1, and how many there are.
        nearest_error, error: squared error of the result against the float layer's, relative to the result's square:
            rounded to nearest, and as learned.
    """

    weight: str
    index: int
    count: int
    nearest_error: float
    error: float


def adaround(
    quantized: Quantized,
    feeds: Iterable[Mapping[str, np.ndarray]],
    steps: int = 1000,
    place: Any = None,
    progress: Optional[Callable[[LayerRounding], None]] = None,
) -> Quantized:
    """Rounds the weights of each layer so that its result changes least.

    Weights that cannot be learned (see ``layers_of``) are rounded to nearest as before.

    Args:
        quantized: float model and table; not changed.
        feeds: batches by feed name; read once, as many as fit into the memory that ``Stepwise`` allows itself.
        steps: of learning, for each layer.
        place: device the models run on; None: CPU.
        progress: called after each layer.

    Returns:
        A model whose weights lie on their grids, so that every exporter stores the learned integers; the table is the
        same.

    Raises:
        TrainingError: no batch.
        NumericsError: activations hold NaN or infinity.
    """
    result = Quantized(quantized.model.clone(copy_params=True), quantized.table)
    simulated = export_program(result.model, result.table, "onnx", place)
    batches = read_batches(feeds, quantized.model.feeds)
    layers = layers_of(quantized.model, quantized.table)
    reads = _reads(simulated, layers)
    exact = Stepwise(quantized.model, batches, (r.output for layer in layers for r in layer.readers), place)
    rounded = Stepwise(simulated, batches, (x for x, _ in reads.values()), place)
    rank = {name: i for i, name in enumerate(rounded.order({x for x, _ in reads.values()}))}
    layers.sort(key=lambda layer: max(rank[reads[reader.output][0]] for reader in layer.readers))
    random = np.random.default_rng(0)
    for index, layer in enumerate(layers):
        layer.start()
        for reader in layer.readers:
            source = reads[reader.output][0]
            exact.advance(reader.output)
            rounded.advance(source)
            keep_within(BUDGET, exact, rounded)
            _look(layer, reader, exact, rounded, source, random)
            exact.release(reader.output)
            if all(reads[r.output][0] != source for other in layers[index + 1 :] for r in other.readers):
                rounded.release(source)
        integers, errors = _round(layer, result.model, steps)
        stored = reads[layer.readers[0].output][1]
        simulated.params[stored] = integers.astype(simulated.params[stored].dtype)
        layer.clear()
        if progress is not None:
            progress(LayerRounding(layer.params.tensor, index + 1, len(layers), *errors))
    return result


def _reads(simulated: Model, layers: List[Layer]) -> Dict[str, Tuple[str, str]]:
    """By the name of its result, what an op reads in the quantized program: its input, and its weight's integers."""
    block = simulated.program.global_block()
    makers = {name: op for op in block.ops for name in op.output_arg_names}
    found = {}
    for layer in layers:
        for reader in layer.readers:
            op = makers[reader.output]
            weight = op.input(WEIGHT_OPS[op.type].weight)[0]
            while weight in makers:  # dequantized, and cast before that when it has more than 8 bits
                weight = makers[weight].input("X")[0]
            found[reader.output] = (op.input(reader.activation)[0], weight)
    return found


def _look(
    layer: Layer, reader: Reader, exact: Stepwise, rounded: Stepwise, source: str, random: np.random.Generator
) -> None:
    """Takes samples of a reader's input and target out of every batch."""
    for target, given in zip(exact.batches, rounded.batches):
        result, form = target[reader.output], reader.form
        places = random.permutation(form.places(result.shape))[: layer.places(len(exact.batches))]
        layer.add(form.inputs(given[source], places, result.shape), form.results(result, places))


def _round(layer: Layer, model: Model, steps: int) -> Tuple[np.ndarray, Tuple[float, float]]:
    """Puts the layer's weight on its grid.

    Returns:
        Its integers, and the relative errors of rounding to nearest and of these.
    """
    params, name = layer.params, layer.params.tensor
    weight, step, count = model.params[name], layer.steps(), np.float32(layer.seen)
    matrix = layer.form.matrix(weight)
    nearest = layer.form.matrix(weight_integers(weight, params))
    gram, cross, square = layer.gram / count, layer.cross / count, layer.square / layer.seen
    few = int(steps * min(1.0, (FULL_INPUTS / gram.shape[1]) ** 2))
    found = learn_rounding(
        matrix,
        step[:, :, :1],
        *shrink(matrix, gram, cross, layer.x_sum / count, layer.y_sum / count, layer.seen),
        params.qmax,
        nearest,
        max(few, min(steps, LEAST_STEPS)),
    )
    model.params[name] = layer.form.weight(found.integers * step).astype(np.float32)
    before, after = (
        max(float(rounding_error(q * step, gram, cross).sum()) + square, 0.0) for q in (nearest, found.integers)
    )
    relative = (before / square, after / square) if square > 0 else (0.0, 0.0)
    return layer.form.weight(found.integers), relative
