"""PaddleSlim's static quantization API: ``quant_aware`` and ``convert``.

    train_program = quant_aware(train_program, place, config, for_test=False)
    test_program = quant_aware(test_program, place, config, for_test=True)
    initialise_scales(test_program, feeds, place, config)   # scales and PACT's alpha from data, optional
    ...                                             # train, evaluate with Executor.run
    program = convert(test_program, place, config)  # then paddle.static.save_inference_model

Both take programs before and after ``optimizer.minimize``; the quantized programs are run as any legacy program,
inside ``slimkit.ir.legacy_ir()`` on Paddle 3.
"""

from __future__ import annotations

from itertools import chain, islice
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Tuple, Union

import numpy as np
import paddle

from slimkit.errors import TrainingError
from slimkit.ir.graph import Graph
from slimkit.ir.guards import legacy_ir
from slimkit.ir.model import Model
from slimkit.quant.calibrate import NO_BATCH, initial_ranges
from slimkit.quant.config import PactConfig, QuantConfig
from slimkit.quant.passes.extract_table import ExtractTable
from slimkit.quant.passes.freeze import FORMATS
from slimkit.quant.passes.insert_fake_quant import InsertFakeQuant
from slimkit.quant.passes.store_integers import StoreIntegers
from slimkit.quant.training_state import write_start_values

__all__ = ["convert", "initialise_scales", "quant_aware"]

Hook = Callable[[Any], Any]


def _scope(scope: Optional[Any]) -> Any:
    return paddle.static.global_scope() if scope is None else scope


@legacy_ir()
def quant_aware(
    program: Any,
    place: Any,
    config: Union[Mapping[str, Any], QuantConfig, None] = None,
    scope: Optional[Any] = None,
    for_test: bool = False,
    weight_quantize_func: Optional[Hook] = None,
    act_quantize_func: Optional[Hook] = None,
    weight_preprocess_func: Union[Hook, None] = None,
    act_preprocess_func: Union[str, Hook, PactConfig, None] = None,
    optimizer_func: Optional[Callable[[], Any]] = None,
    executor: Optional[Any] = None,
    return_program: bool = False,
) -> Any:
    """Inserts fake-quant ops into a program for quantization-aware training or evaluation.

    Args:
        program: a legacy ``paddle.static.Program``, before or after ``minimize``. It is not changed.
        place: device of the new state variables.
        config: PaddleSlim's config dict; None: its defaults.
        scope: holds parameters and gets the scales; None: the global scope. Train and test program share it.
        for_test: the program is one for evaluation: scales are read, not moved.
        weight_quantize_func: replaces the weight quantizer; a function of a Variable, returning the dequantized one.
        act_quantize_func: the same for activations.
        weight_preprocess_func: applied to weights before they are quantized.
        act_preprocess_func: applied to activations before they are quantized; ``"pact"`` or a ``PactConfig`` for the
            built-in PACT.
        optimizer_func: returns the optimizer of the parameters that the functions create.
        executor: runs the initialization of those parameters; None: a new one on ``place``.
        return_program: kept for compatibility; a Program is returned in any case, which an Executor takes as well
            as a CompiledProgram.

    Returns:
        The quantized ``paddle.static.Program``.

    Raises:
        ConfigError: the config is not valid, or a preprocess function lacks its optimizer.
        ModelError: ``program`` is not a legacy program.
    """
    from slimkit.quant.hooks import build_hooks

    settings = QuantConfig.read(config)
    graph = Graph(program, for_test=for_test)
    hooks = build_hooks(
        graph,
        _scope(scope),
        place,
        executor,
        optimizer_func,
        for_test,
        weight_preprocess=weight_preprocess_func,
        weight_quantize=weight_quantize_func,
        activation_preprocess=act_preprocess_func,
        activation_quantize=act_quantize_func,
    )
    report = InsertFakeQuant(settings, _scope(scope), place, for_test, None, **hooks.for_pass()).apply(graph)
    hooks.finish(report)
    quantized = graph.to_program()
    hooks.promote(quantized)
    return quantized


@legacy_ir()
def convert(
    program: Any,
    place: Any,
    config: Union[Mapping[str, Any], QuantConfig, None] = None,
    scope: Optional[Any] = None,
    save_int8: bool = False,
) -> Union[Any, Tuple[Any, Any]]:
    """Turns a trained, quantized test program into the program to deploy.

    Weights in the scope become integers; save the result with ``paddle.static.save_inference_model``.

    Args:
        program: the test program that ``quant_aware(..., for_test=True)`` gave.
        place: device of the new constants.
        config: the config ``quant_aware`` was given; ``onnx_format`` chooses the form.
        scope: the scope the program was trained in; None: the global scope.
        save_int8: also return the program whose weights are stored as int8. The onnx format's are already, so there
            both are one; the old format holds integers as float32, its second program casts them where they are read.

    Returns:
        The deployable Program; with ``save_int8`` a pair of Programs.

    Raises:
        ModelError: a scale or weight has no value in the scope.
    """
    settings, held = QuantConfig.read(config), _scope(scope)
    graph = Graph(program, for_test=True)
    table = ExtractTable(held).apply(graph)
    freeze = FORMATS["onnx" if settings.onnx_format else "old"](table, held, place)
    freeze.apply(graph)
    frozen = graph.to_program()
    if not save_int8:
        return frozen
    if not settings.onnx_format:
        StoreIntegers(held, place, freeze.written).apply(graph)
    return frozen, graph.to_program()


def initialise_scales(
    program: Any,
    feeds: Iterable[Mapping[str, np.ndarray]],
    place: Any,
    config: Union[Mapping[str, Any], QuantConfig, None] = None,
    scope: Optional[Any] = None,
    pact: Union[Mapping[str, Any], PactConfig, None] = None,
) -> None:
    """Starts the scales, and the built-in PACT's alpha, from observed activations instead of constants.

    Call it once between ``quant_aware`` and training; training and test program share the values through the scope.

    Args:
        program: the test program that ``quant_aware(..., for_test=True)`` gave.
        feeds: some batches by feed name; each is run once through the float network.
        place: device.
        config: the config ``quant_aware`` was given.
        scope: the scope it was given; None: the global scope.
        pact: how alpha starts (``PactConfig.init``); None: by least quantization error.

    Raises:
        TrainingError: no batch, or activations that are NaN or infinite.
    """
    settings, held = QuantConfig.read(config), _scope(scope)
    batches = iter(feeds)
    first = list(islice(batches, 1))
    if not first:
        raise TrainingError(NO_BATCH)
    with legacy_ir():
        graph = Graph(program, for_test=True)
        table = ExtractTable(held).apply(graph)
        model = Model(graph.to_program(), held, list(first[0]), [])
    widths: Dict[str, List[int]] = {}
    for params in table.activations().values():
        widths[params.tensor] = sorted({*widths.get(params.tensor, []), params.bits})
    narrowest = {name: bits[0] for name, bits in widths.items()}
    chosen = PactConfig.read(pact if pact is not None else {})
    ranges = initial_ranges(model, list(widths), chain(first, batches), narrowest, chosen, place)
    write_start_values(held, widths, ranges, settings.moving_rate, place)
