"""``LayerNetwork``: a dygraph layer as the pruning engine sees it, with the groups that its code lets go."""

from __future__ import annotations

import warnings
from typing import Any, List, Optional

import paddle
from paddle import nn
from paddle.static import InputSpec

from slimkit.errors import ModelError, SlimkitError
from slimkit.ir import Model
from slimkit.ir.tracing import mode
from slimkit.prune.cost import CostModel
from slimkit.prune.groups import Groups
from slimkit.prune.layers.arguments import example_arguments
from slimkit.prune.layers.tensors import LayerTensors, Undo, core_layer
from slimkit.prune.layers.trials import Trials, sentence, tried_groups

__all__ = ["LayerNetwork", "layer_groups"]

#: Ops that choose boxes: their results flip where two scores are nearly equal.
_DISCRETE = ("multiclass_nms3", "multiclass_nms2", "matrix_nms", "nms", "top_k_v2", "argsort", "generate_proposals_v2")


class _TrainAndEval(nn.Layer):
    """Runs a layer in both modes, so that one trace shows what either reads."""

    def __init__(self, layer: nn.Layer) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, *inputs: Any) -> Any:
        self.layer.eval()
        first = self.layer(*inputs)
        self.layer.train()
        return first, self.layer(*inputs)


class LayerNetwork:
    """A layer, what it is called with, and its groups.

    The layer is traced and left as it was; its parameters are known by their names. Parameters that only its train
    mode reads, such as those of auxiliary heads, are found when its train mode can be traced with the same inputs.

    Args:
        layer: it; also one inside ``DataParallel``, or whose forward ``to_static`` has converted.
        inputs: see :func:`~slimkit.prune.layers.arguments.example_arguments`.
        dtype: of inputs that are shapes.
        results: whether channels of the layer's results may go too.

    Attributes:
        groups: what can go; see :func:`~slimkit.prune.layers.trials.tried_groups`.
        tensors: parameters and buffers by name.
        shapes: of the tensors when the groups were found.
        program: the trace, a legacy program.
        cost: what the layer costs under a plan; None when it could not be counted or nothing can go.
        unread: parameters that no trace reads, in order; whether they fit what is pruned is not known.

    Raises:
        ConfigError: the inputs are none.
        ModelError: the layer cannot be run or traced with them.
    """

    def __init__(self, layer: nn.Layer, inputs: Any, *, dtype: str = "float32", results: bool = False) -> None:
        self.layer = layer
        self.tensors = LayerTensors(layer)
        self.shapes = self.tensors.shapes()
        self.arguments = example_arguments(inputs, dtype)
        core = core_layer(layer)
        _run(core, self.arguments)
        model = _traced(core, self.arguments)
        discrete = any(kind in _DISCRETE for kind in model.op_counts())
        analysed, self.unread = self._with_train_mode(core, model)
        self.program = analysed.program
        self.trials = Trials(layer, self.arguments, discrete, results)
        self.groups: Groups = tried_groups(analysed, self.trials, [] if results else analysed.fetches)
        self.cost: Optional[CostModel] = None
        try:
            self.cost = _cost(model, self.groups, self.tensors)
        except SlimkitError as error:
            warnings.warn(f"The MACs of {type(core).__name__} could not be counted: {error}", stacklevel=2)

    def _with_train_mode(self, core: nn.Layer, model: Model) -> Any:
        read = set(model.params)
        unread = [p.name for p in self.layer.parameters() if p.name not in read]
        if unread and _runs_in_train_mode(core, self.arguments):
            try:
                with mode(core, True):
                    model = _traced(_TrainAndEval(core), self.arguments)
            except SlimkitError:
                pass
            read = set(model.params)
            unread = [name for name in unread if name not in read]
        weights = [name for name in unread if len(self.shapes[name]) > 1]
        if weights:
            warnings.warn(
                f"{len(weights)} parameters of {type(core).__name__}, such as '{weights[0]}', are not read in eval "
                "mode, and train mode does not run with these inputs; whether they fit what is pruned is not known.",
                stacklevel=4,
            )
        return model, unread


def layer_groups(layer: nn.Layer, inputs: Any, *, dtype: str = "float32", results: bool = False) -> Groups:
    """The groups of a layer: :attr:`LayerNetwork.groups`."""
    return LayerNetwork(layer, inputs, dtype=dtype, results=results).groups


def _runs_in_train_mode(layer: nn.Layer, arguments: List[Any]) -> bool:
    """Whether forward in train mode takes the arguments; statistics and random numbers are as before then."""
    undo, state = Undo(layer), paddle.get_rng_state()
    try:
        with paddle.no_grad(), mode(layer, True):
            for tensor in [*layer.parameters(), *layer.buffers()]:
                if tensor.stop_gradient:
                    undo.replace(tensor, tensor.clone())
            layer(*arguments)
    except Exception:  # whatever the layer's own code raises
        return False
    finally:
        undo()
        paddle.set_rng_state(state)
    return True


def _run(layer: nn.Layer, arguments: List[Any]) -> None:
    try:
        with paddle.no_grad(), mode(layer, False):
            layer(*arguments)
    except Exception as error:  # whatever the layer's own code raises
        raise ModelError(
            f"{type(layer).__name__} cannot be run with these inputs: {sentence(error)}; give what its forward accepts."
        ) from error


def _traced(layer: nn.Layer, arguments: List[Any]) -> Model:
    count = 0

    def spec(value: Any) -> Any:
        nonlocal count
        if isinstance(value, dict):
            return {key: spec(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)([spec(item) for item in value])
        if not isinstance(value, paddle.Tensor):
            return value
        count += 1
        return InputSpec(list(value.shape), value.dtype, f"x{count - 1}")

    return Model.from_layer(layer, [spec(argument) for argument in arguments])


def _cost(model: Model, groups: Groups, tensors: LayerTensors) -> CostModel:
    from slimkit.analysis import complexity

    return CostModel(complexity(model), groups, tensors.shapes())
