"""Unstructured pruning of dygraph layers while they train: PaddleSlim's dygraph API.

    pruner = UnstructuredPruner(model, mode="ratio", ratio=0.55)
    ...
        loss.backward(); optimizer.step(); optimizer.clear_grad()
        pruner.step()
    pruner.update_params()                      # before evaluating or saving

The masks are buffers of the layers and go with their checkpoints. They depend on the weights alone, so data-parallel
processes, which hold equal weights, compute equal masks without a word between them.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Set

import numpy as np
import paddle

from slimkit.errors import ConfigError
from slimkit.numerics.magnitude import magnitude_threshold, sparsity
from slimkit.prune.unstructured.layer_masks import (
    LayerWeight,
    attach,
    is_norm,
    layer_parameters,
    mask_quickly,
    mask_weight,
)
from slimkit.prune.unstructured.pruner import Gradual, MaskedTraining
from slimkit.prune.unstructured.settings import CONV1X1_ONLY, Settings, is_conv1x1, read_skipped

__all__ = ["GMPUnstructuredPruner", "UnstructuredPruner"]

Skip = Callable[[Any], Set[str]]
#: Name of the buffer of the model that keeps a gradual pruner's place in its schedule.
PROGRESS = "gmp_progress"


class UnstructuredPruner(MaskedTraining):
    """Sets the least weights of a dygraph model to zero and holds them there while it trains.

    Args:
        model: a ``paddle.nn.Layer`` (also a ``DataParallel``); it gets a mask buffer for each weight and hooks.
        mode: ``ratio`` or ``threshold``.
        threshold: in mode ``threshold``, weights of a smaller magnitude are pruned.
        ratio: in mode ``ratio``, this fraction of the weights is pruned.
        prune_params_type: ``conv1x1_only``, or None for all but the parameters of norm layers and vectors (biases).
        skip_params_func: a function of the model that returns the names of parameters, or ``full_name()`` of layers,
            which are not pruned; it replaces the rule of ``prune_params_type``.
        local_sparsity: the ratio holds for every weight; otherwise for all together, so that weights of small
            magnitude lose more.
        sparse_block: [m, n]: blocks of m x n along a weight's first two axes go whole, by their mean magnitude.

    Attributes:
        masks: parameter name -> its mask, a float32 Tensor of ones and zeros.
        threshold, thresholds: the greatest magnitude pruned, over all or by parameter name (``local_sparsity``).
        skip_params: names of the parameters that are not pruned.

    Raises:
        ConfigError: an argument is out of range, or nothing is left to prune.
    """

    def __init__(
        self,
        model: Any,
        mode: str,
        threshold: float = 0.01,
        ratio: float = 0.55,
        prune_params_type: Optional[str] = None,
        skip_params_func: Optional[Skip] = None,
        local_sparsity: bool = False,
        sparse_block: Sequence[int] = (1, 1),
    ) -> None:
        super().__init__(Settings(mode, ratio, threshold, prune_params_type, local_sparsity, sparse_block))
        if not isinstance(model, paddle.nn.Layer):
            raise ConfigError(
                f"The pruner of dygraph models needs a paddle.nn.Layer, not {type(model).__name__}; for programs take "
                "slimkit.prune.unstructured.static."
            )
        self.model = model
        self._skip_function = skip_params_func
        self._weights = self._choose(model)
        self._by_name = {weight.parameter.name: weight for weight in self._weights}
        self.skip_params = {w.parameter.name for w in layer_parameters(model)} - set(self._by_name)
        if not self._weights:
            raise ConfigError(
                f"All {len(self.skip_params)} parameters of the model are skipped and nothing is left to prune; check "
                "prune_params_type and skip_params_func."
            )
        self._own = type(self).mask_parameters is not UnstructuredPruner.mask_parameters
        self._holds = attach(self._weights, self.mask_parameters if self._own else mask_weight)

    def _choose(self, model: Any) -> List[LayerWeight]:
        weights = list(layer_parameters(model))
        if self._skip_function is not None:
            known = {w.parameter.name for w in weights} | {w.layer.full_name() for w in weights}
            known |= {layer.full_name() for layer in model.sublayers(include_self=True)}
            skipped = read_skipped(self._skip_function(model), known)
            return [w for w in weights if w.parameter.name not in skipped and w.layer.full_name() not in skipped]
        weights = [w for w in weights if not is_norm(w.layer) and len(w.parameter.shape) > 1]
        if self.settings.prune_params_type == CONV1X1_ONLY:
            return [w for w in weights if is_conv1x1(w.parameter.shape)]
        return weights

    def _should_prune_layer(self, layer: Any) -> bool:
        """Whether a parameter of a layer's own is pruned; subclasses of PaddleSlim's class ask for it."""
        return any(p.name not in self.skip_params for p in layer.parameters(include_sublayers=False))

    # ------------------------------------------------ the weights and masks

    @property
    def masks(self) -> Dict[str, Any]:
        return {weight.parameter.name: weight.mask for weight in self._weights}

    def _names(self) -> List[str]:
        return list(self._by_name)

    def _read(self, name: str) -> np.ndarray:
        return _array(self._by_name[name].parameter)

    def _read_mask(self, name: str) -> np.ndarray:
        return _array(self._by_name[name].mask) > 0.5

    def _write_mask(self, name: str, mask: np.ndarray) -> None:
        held = self._by_name[name].mask
        paddle.assign(paddle.to_tensor(mask.astype("float32"), place=held.place), output=held)

    def mask_parameters(self, param: Any, mask: Any) -> None:
        """Applies a mask to a parameter, in place; a subclass may do it differently."""
        mask_weight(param, mask)

    # ---------------------------------------------------------------- steps

    def step(self) -> None:
        """Computes the masks anew and applies them; call it after every optimizer step."""
        super().step()
        self._apply()

    def _apply(self) -> None:
        """Masks the weights with masks that are known to be ones and zeros."""
        for weight in self._weights:
            (self.mask_parameters if self._own else mask_quickly)(weight.parameter, weight.mask)
        for hold in self._holds:
            hold.fresh = True

    def update_params(self) -> None:
        """Sets the masked weights to exactly zero; call it before evaluating or saving."""
        for weight in self._weights:
            self.mask_parameters(weight.parameter, weight.mask)

    # ---------------------------------------------------------------- what there is

    def summarize_weights(self, model: Any, ratio: float = 0.1) -> float:
        """The magnitude below which a fraction of the weights that would be pruned lies: a threshold to start from.

        Args:
            model: the one to look at.
            ratio: the fraction, in (0, 1].
        """
        if not 0 < ratio <= 1:
            raise ConfigError(f"ratio = {ratio!r}: it must be a fraction of the weights, greater than 0, 1 at most.")
        weights = self._weights if model is self.model else self._choose(model)
        return magnitude_threshold([_array(weight.parameter) for weight in weights], ratio)

    def sparse_by_layer(self, model: Any = None) -> Dict[str, float]:
        """Parameter name -> fraction of zeros, of every parameter of the model (None: the pruner's own)."""
        weights = layer_parameters(self.model if model is None else model)
        return {w.parameter.name: sparsity([_array(w.parameter)]) for w in weights}

    @staticmethod
    def total_sparse(model: Any) -> float:
        """Fraction of zeros among all parameters of a model, norms and biases included."""
        return sparsity([_array(w.parameter) for w in layer_parameters(model)])

    @staticmethod
    def total_sparse_conv1x1(model: Any) -> float:
        """Fraction of zeros among the weights of a model's 1x1 convolutions.

        Raises:
            ConfigError: it has none.
        """
        found = [w.parameter for w in layer_parameters(model) if not is_norm(w.layer)]
        weights = [_array(parameter) for parameter in found if is_conv1x1(parameter.shape)]
        if not weights:
            raise ConfigError("The model has no 1x1 convolution; total_sparse tells the sparsity of all its weights.")
        return sparsity(weights)


class GMPUnstructuredPruner(Gradual, UnstructuredPruner):
    """Gradual magnitude pruning of a dygraph model (arXiv:1710.01878).

    The ratio in force at the k-th ``step()`` (k from 0) is ``schedule.at(k)``; masks change only when it does. The
    place in the schedule is a buffer of the model, ``gmp_progress``: a checkpoint loaded after the pruner was made
    takes it up where it was saved, if it was saved under the same schedule.

    Args:
        model: see ``UnstructuredPruner``, as all that are not named here.
        ratio: the final one.
        configs: ``stable_iterations``, ``pruning_iterations``, ``tunning_iterations``, ``pruning_steps``,
            ``initial_ratio``, and optionally ``resume_iteration``; see ``GmpConfig``.

    Raises:
        ConfigError: as there, or the configs are not valid.
    """

    def __init__(
        self,
        model: Any,
        ratio: float = 0.55,
        prune_params_type: Optional[str] = None,
        skip_params_func: Optional[Skip] = None,
        local_sparsity: bool = False,
        sparse_block: Sequence[int] = (1, 1),
        configs: Optional[Mapping[str, Any]] = None,
    ) -> None:
        self._begin(configs, ratio)
        super().__init__(model, "ratio", 0.0, ratio, prune_params_type, skip_params_func, local_sparsity, sparse_block)
        self._resume(self.cur_iteration)
        self._adopt_zeros()
        self._keeper = model._layers if isinstance(model, paddle.DataParallel) else model
        if PROGRESS not in self._keeper._buffers:
            self._keeper.register_buffer(PROGRESS, paddle.to_tensor(self._progress()))
        self._save_progress()

    def _load_progress(self) -> Optional[int]:
        return self._iteration_of(_array(self._keeper._buffers[PROGRESS]))

    def _save_progress(self) -> None:
        self._keeper._buffers[PROGRESS].set_value(self._progress())

    def step(self) -> None:
        """Sets the schedule's ratio for this iteration, the masks if it changed, and applies them."""
        super().step()
        self._apply()


def _array(tensor: Any) -> np.ndarray:
    if tensor.dtype in (paddle.bfloat16, paddle.float16):
        tensor = tensor.astype("float32")
    return np.asarray(tensor.numpy())
