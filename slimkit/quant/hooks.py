"""What goes before or in place of the built-in quantizers: PACT, and the user's own functions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Optional, Union

import paddle

from slimkit.errors import ConfigError
from slimkit.ir.graph import Graph, promote_to_parameter
from slimkit.quant.config import PactConfig
from slimkit.quant.own_optimizer import attach_optimizer
from slimkit.quant.passes.insert_fake_quant import FakeQuantReport, TensorHook
from slimkit.quant.passes.insert_pact import ALPHA_FLOOR, Pact
from slimkit.quant.user_functions import UserFunctions

__all__ = ["Hooks", "build_hooks", "pact_optimizer"]

Function = Callable[[Any], Any]


def pact_optimizer(config: PactConfig) -> Callable[[], Any]:
    """The optimizer of alpha that a ``PactConfig`` describes."""

    def make() -> Any:
        decay = paddle.regularizer.L2Decay(config.l2) if config.l2 else None
        if config.optimizer == "adam":
            return paddle.optimizer.Adam(config.learning_rate, weight_decay=decay)
        if config.optimizer == "sgd":
            return paddle.optimizer.SGD(config.learning_rate, weight_decay=decay)
        return paddle.optimizer.Momentum(config.learning_rate, momentum=0.9, weight_decay=decay)

    return make


@dataclass
class Hooks:
    """The hooks of one ``quant_aware`` call; ``finish`` runs when the fake-quant ops are in.

    Attributes:
        graph: the graph they work on.
        pact: the built-in, or None.
        pact_config: its settings.
        user: the user's functions, or None.
        parameters: after ``finish``: names of trainable parameters they created.
        optimizer_states: after ``finish``: names of the accumulators of their optimizer.
    """

    graph: Graph
    scope: Any
    place: Any
    executor: Any
    make_optimizer: Optional[Callable[[], Any]]
    for_test: bool
    pact: Optional[Pact] = None
    pact_config: Optional[PactConfig] = None
    user: Optional[UserFunctions] = None
    parameters: List[str] = field(default_factory=list)
    optimizer_states: List[str] = field(default_factory=list)

    def for_pass(self) -> Dict[str, Optional[TensorHook]]:
        """Arguments for ``InsertFakeQuant``."""
        hooks: Dict[str, Optional[TensorHook]] = dict(self.user.hooks()) if self.user is not None else {}
        if self.pact is not None:
            hooks["activation_quantize"] = self.pact.quantize
        return hooks

    def finish(self, report: FakeQuantReport) -> None:
        """Adds gradients and the optimizer of the created parameters."""
        gradients = {}
        if self.pact is not None:
            self.parameters += list(self.pact.alphas)
            gradients.update(self.pact.finish(report.gradients))
        if self.user is not None:
            gradients.update(self.user.finish(report.gradients))
            self.parameters += self.user.parameters
        if gradients and not self.for_test:
            if self.make_optimizer is None:
                raise ConfigError(
                    "The preprocess or quantize function creates parameters, and the program has its optimizer "
                    "already: give optimizer_func, a function that returns the paddle.optimizer for them."
                )
            floor = ALPHA_FLOOR if self.pact is not None else None
            self.optimizer_states = attach_optimizer(
                self.graph, gradients, self.make_optimizer, self.scope, self.place, self.executor, floor
            )

    def promote(self, program: Any) -> None:
        """Makes the created parameters Parameters of the new program, so that ``minimize`` trains them."""
        block = program.global_block()
        for name in self.parameters:
            if name in block.vars:
                parameter = promote_to_parameter(block, name, trainable=not self.for_test)
                if self.pact_config is not None and self.pact_config.l2:
                    parameter.regularizer = paddle.regularizer.L2Decay(self.pact_config.l2)


def build_hooks(
    graph: Graph,
    scope: Any,
    place: Any,
    executor: Any,
    optimizer_func: Optional[Callable[[], Any]],
    for_test: bool,
    weight_preprocess: Optional[Function] = None,
    weight_quantize: Optional[Function] = None,
    activation_preprocess: Union[str, Function, PactConfig, None] = None,
    activation_quantize: Optional[Function] = None,
    initial_alpha: Optional[Dict[str, float]] = None,
) -> Hooks:
    """Reads the function arguments of ``quant_aware``.

    Raises:
        ConfigError: a string other than "pact", or something that is not a function.
    """
    hooks = Hooks(graph, scope, place, executor, optimizer_func, for_test)
    if isinstance(activation_preprocess, str):
        if activation_preprocess.lower() != "pact":
            raise ConfigError(
                f"act_preprocess_func = '{activation_preprocess}': allowed are None, 'pact', a PactConfig, a function."
            )
        activation_preprocess = PactConfig()
    if isinstance(activation_preprocess, PactConfig):
        hooks.pact_config = activation_preprocess
        hooks.pact = Pact(activation_preprocess.form, initial_alpha)
        hooks.make_optimizer = optimizer_func or pact_optimizer(activation_preprocess)
        activation_preprocess = None
    functions = {
        "weight_preprocess": weight_preprocess,
        "weight_quantize": weight_quantize,
        "activation_preprocess": activation_preprocess,
        "activation_quantize": activation_quantize,
    }
    given = {name: function for name, function in functions.items() if function is not None}
    for name, function in given.items():
        if not callable(function):
            raise ConfigError(f"{name} must be a function of a Variable, it is {type(function).__name__}.")
    if given:
        hooks.user = UserFunctions(graph, scope, place, given, for_test, executor)
    return hooks
