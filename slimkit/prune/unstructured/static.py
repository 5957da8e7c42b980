"""Unstructured pruning of static programs while they train: PaddleSlim's static API.

    pruner = GMPUnstructuredPruner(program, ratio=0.75, configs=configs, place=place)
    optimizer.minimize(loss, no_grad_set=pruner.no_grad_set)
    ...
        executor.run(program, ...)
        pruner.step()
    pruner.update_params()                      # before evaluating or saving

Programs are legacy ones, made and run inside ``slimkit.ir.legacy_ir()`` on Paddle 3. Each weight is multiplied by its
mask, in place, before the program's first op; so it is zero in the forward pass, and when ``minimize`` comes after the
pruner, its gradient is too. Masks are persistable variables, which ``paddle.static.save`` takes along. They depend on
the weights alone, so data-parallel processes, which hold equal weights, compute equal masks.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, FrozenSet, List, Mapping, Optional, Sequence, Set

import numpy as np
import paddle
from paddle.base.framework import Program

from slimkit.errors import ConfigError, ModelError
from slimkit.ir.guards import legacy_ir
from slimkit.numerics.magnitude import magnitude_threshold, sparsity
from slimkit.prune.unstructured.pruner import Gradual, MaskedTraining
from slimkit.prune.unstructured.settings import CONV1X1_ONLY, Settings, is_conv1x1, read_skipped

__all__ = ["GMPUnstructuredPruner", "UnstructuredPruner", "without_masks"]

Skip = Callable[[Any], Set[str]]
#: Op types whose parameters are not pruned.
NORM_OPS: FrozenSet[str] = frozenset(
    {
        *("batch_norm", "sync_batch_norm", "layer_norm", "group_norm", "instance_norm", "data_norm", "rms_norm"),
        *("norm", "spectral_norm", "inplace_abn", "fused_bn_add_activation", "fused_batch_norm_act"),
    }
)
MASK = "_mask"
#: Name of the variable that keeps a gradual pruner's place in its schedule.
PROGRESS = "gmp_progress"


class UnstructuredPruner(MaskedTraining):
    """Sets the least weights of a static program to zero and holds them there while it trains.

    Args:
        program: a legacy ``paddle.static.Program``, before or after ``minimize``; masks are added to it, in place.
        mode: ``ratio`` or ``threshold``.
        ratio: in mode ``ratio``, this fraction of the weights is pruned.
        threshold: in mode ``threshold``, weights of a smaller magnitude are pruned.
        scope: holds the parameters and gets the masks; None: the global scope.
        place: device of the masks; None: Paddle's current one.
        prune_params_type: ``conv1x1_only``, or None for all but the parameters of norm ops and vectors (biases).
        skip_params_func: a function of the program that returns names of variables; the parameters among them are not
            pruned. It replaces the rule of ``prune_params_type``.
        local_sparsity: the ratio holds for every weight; otherwise for all together.
        sparse_block: [m, n]: blocks of m x n along a weight's first two axes go whole, by their mean magnitude.

    Attributes:
        masks: parameter name -> name of its mask, a float variable of ones and zeros.
        no_grad_set: names for ``minimize``.
        threshold, thresholds: the greatest magnitude pruned, over all or by parameter name (``local_sparsity``).
        skip_params: names of the parameters that are not pruned.

    Raises:
        ModelError: ``program`` is no legacy program.
        ConfigError: an argument is out of range, or nothing is left to prune.
    """

    @legacy_ir()
    def __init__(
        self,
        program: Any,
        mode: str,
        ratio: float = 0.55,
        threshold: float = 1e-2,
        scope: Any = None,
        place: Any = None,
        prune_params_type: Optional[str] = None,
        skip_params_func: Optional[Skip] = None,
        local_sparsity: bool = False,
        sparse_block: Sequence[int] = (1, 1),
    ) -> None:
        super().__init__(Settings(mode, ratio, threshold, prune_params_type, local_sparsity, sparse_block))
        if not isinstance(program, Program):
            raise ModelError(
                f"The pruner of static programs needs a legacy paddle.static.Program, not {type(program).__name__}; "
                "build it inside slimkit.ir.legacy_ir(), or for a Layer take slimkit.prune.unstructured.dygraph."
            )
        self.program = program
        self.scope = paddle.static.global_scope() if scope is None else scope
        self.place = paddle.framework._current_expected_place() if place is None else place
        self._skip_function = skip_params_func
        chosen = self._choose(program)
        self.skip_params = {p.name for p in program.all_parameters()} - {p.name for p in chosen}
        if not chosen:
            raise ConfigError(
                f"All {len(self.skip_params)} parameters of the program are skipped and nothing is left to prune; "
                "check prune_params_type and skip_params_func, and make a program loaded for inference trainable with "
                "slimkit.ir.to_training."
            )
        self.masks = {parameter.name: self._add_mask(parameter) for parameter in chosen}
        self.no_grad_set = set(self.masks.values())

    def _choose(self, program: Any) -> List[Any]:
        parameters = program.all_parameters()
        if self._skip_function is not None:
            known = {name for block in program.blocks for name in block.vars}
            skipped = read_skipped(self._skip_function(program), known)
            return [p for p in parameters if p.name not in skipped]
        ops = [op for block in program.blocks for op in block.ops if op.type in NORM_OPS]
        normalizing = {name for op in ops for name in op.input_arg_names}
        parameters = [p for p in parameters if p.name not in normalizing and len(p.shape) > 1]
        if self.settings.prune_params_type == CONV1X1_ONLY:
            return [p for p in parameters if is_conv1x1(p.shape)]
        return parameters

    def _should_prune_param(self, param: str) -> bool:
        """Whether the parameter of this name is pruned; subclasses of PaddleSlim's class ask for it."""
        return param not in self.skip_params

    def _add_mask(self, parameter: Any) -> str:
        block, name = self.program.global_block(), parameter.name + MASK
        if block.has_var(name):
            return name
        mask = block.create_var(
            name=name, shape=parameter.shape, dtype=parameter.dtype, persistable=True, stop_gradient=True
        )
        self._set(name, np.ones(parameter.shape, np.float32))
        block._prepend_op(
            type="elementwise_mul",
            inputs={"X": parameter, "Y": mask},
            outputs={"Out": parameter},
            attrs={"axis": -1, "use_mkldnn": False},
        )
        return name

    # ------------------------------------------------ the weights and masks

    def _set(self, name: str, value: np.ndarray) -> None:
        self.scope.var(name).get_tensor().set(np.ascontiguousarray(value), self.place)

    def _names(self) -> List[str]:
        return list(self.masks)

    def _read(self, name: str) -> np.ndarray:
        return _value(self.scope, name)

    def _read_mask(self, name: str) -> np.ndarray:
        return _value(self.scope, self.masks[name]) > 0.5

    def _write_mask(self, name: str, mask: np.ndarray) -> None:
        self._set(self.masks[name], mask.astype(np.float32))

    def update_params(self) -> None:
        """Sets the masked weights to exactly zero; call it before evaluating or saving."""
        for name in self.masks:
            weight = self._read(name)
            weight[~self._read_mask(name)] = 0
            self._set(name, weight)

    # ---------------------------------------------------------------- what there is

    def summarize_weights(self, program: Any, ratio: float = 0.1) -> float:
        """The magnitude below which a fraction of the weights that would be pruned lies: a threshold to start from.

        Args:
            program: the one to look at; its values are in the pruner's scope.
            ratio: the fraction, in (0, 1].
        """
        if not 0 < ratio <= 1:
            raise ConfigError(f"ratio = {ratio!r}: it must be a fraction of the weights, greater than 0, 1 at most.")
        names = self._names() if program is self.program else [p.name for p in self._choose(program)]
        return magnitude_threshold([self._read(name) for name in names], ratio)

    def sparse_by_layer(self, program: Any = None) -> Dict[str, float]:
        """Parameter name -> fraction of zeros, of every parameter of the program (None: the pruner's own)."""
        parameters = (self.program if program is None else program).all_parameters()
        return {p.name: sparsity([self._read(p.name)]) for p in parameters}

    @staticmethod
    def total_sparse(program: Any, scope: Any = None) -> float:
        """Fraction of zeros among all parameters of a program, norms and biases included; None: the global scope."""
        held = paddle.static.global_scope() if scope is None else scope
        return sparsity([_value(held, p.name) for p in program.all_parameters()])

    @staticmethod
    def total_sparse_conv1x1(program: Any, scope: Any = None) -> float:
        """Fraction of zeros among the weights of a program's 1x1 convolutions.

        Raises:
            ConfigError: it has none.
        """
        held = paddle.static.global_scope() if scope is None else scope
        weights = [_value(held, p.name) for p in program.all_parameters() if is_conv1x1(p.shape)]
        if not weights:
            raise ConfigError("The program has no 1x1 convolution; total_sparse tells the sparsity of all its weights.")
        return sparsity(weights)


class GMPUnstructuredPruner(Gradual, UnstructuredPruner):
    """Gradual magnitude pruning of a static program (arXiv:1710.01878).

    The ratio in force at the k-th ``step()`` (k from 0) is ``schedule.at(k)``; masks change only when it does. The
    place in the schedule is a persistable variable, ``gmp_progress``: what ``paddle.static.load`` reads after the
    pruner was made takes it up where it was saved, if it was saved under the same schedule.

    Args:
        program: see ``UnstructuredPruner``, as all that are not named here.
        ratio: the final one.
        configs: ``stable_iterations``, ``pruning_iterations``, ``tunning_iterations``, ``pruning_steps``,
            ``initial_ratio``, and optionally ``resume_iteration``; see ``GmpConfig``.

    Raises:
        ModelError, ConfigError: as there, or the configs are not valid.
    """

    def __init__(
        self,
        program: Any,
        ratio: float = 0.55,
        scope: Any = None,
        place: Any = None,
        prune_params_type: Optional[str] = None,
        skip_params_func: Optional[Skip] = None,
        local_sparsity: bool = False,
        sparse_block: Sequence[int] = (1, 1),
        configs: Optional[Mapping[str, Any]] = None,
    ) -> None:
        self._begin(configs, ratio)
        super().__init__(
            program,
            "ratio",
            ratio,
            0.0,
            scope,
            place,
            prune_params_type,
            skip_params_func,
            local_sparsity,
            sparse_block,
        )
        self._resume(self.cur_iteration)
        if self.ratio and all(_there(self.scope, name) for name in self.masks):
            self._adopt_zeros()
        with legacy_ir():
            if not program.global_block().has_var(PROGRESS):
                program.global_block().create_var(
                    name=PROGRESS, shape=[len(self._progress())], dtype="float32", persistable=True, stop_gradient=True
                )
        self._save_progress()

    def _load_progress(self) -> Optional[int]:
        return self._iteration_of(_value(self.scope, PROGRESS))

    def _save_progress(self) -> None:
        self._set(PROGRESS, self._progress())


@legacy_ir()
def without_masks(program: Any) -> Any:
    """A copy of a program without the multiplications by masks, to export: its weights are sparse already.

    Call ``update_params()`` first.

    Args:
        program: one a pruner was made for, or a clone of it.
    """
    copy = program.clone()
    block = copy.global_block()
    masked = [
        index
        for index, op in enumerate(block.ops)
        if op.type == "elementwise_mul"
        and op.output("Out") == op.input("X")
        and op.input("Y") == [op.input("X")[0] + MASK]
    ]
    for index in reversed(masked):
        block._remove_op(index)
    return copy


def _there(scope: Any, name: str) -> bool:
    var = scope.find_var(name)
    return var is not None and var.get_tensor()._is_initialized()


def _value(scope: Any, name: str) -> np.ndarray:
    if not _there(scope, name):
        raise ModelError(
            f"'{name}' has no value in the scope; run the startup program or load the model there, and give its scope."
        )
    return np.array(scope.find_var(name).get_tensor())
