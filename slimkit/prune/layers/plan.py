"""``PruningPlan``: PaddleSlim's plan of a dygraph layer: what goes, applied and given back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Optional, Union

import numpy as np
from paddle import nn

from slimkit.errors import ModelError
from slimkit.prune.layers.apply import mask_layer, prune_layer
from slimkit.prune.layers.network import LayerNetwork
from slimkit.prune.layers.optimizers import drop_state, optimizers_of
from slimkit.prune.layers.tensors import LayerTensors, Undo
from slimkit.prune.plan import Plan

__all__ = ["PruningMask", "PruningPlan"]


@dataclass(frozen=True)
class PruningMask:
    """What goes along one axis of one parameter.

    Attributes:
        dims: the axis.
        mask: int32 [length of the axis], 0 where it goes.
        pruned_ratio: fraction that goes.
    """

    dims: int
    mask: np.ndarray
    pruned_ratio: float


class PruningPlan:
    """What of a layer goes.

    Args:
        network: the layer it is of; None (or a name, as PaddleSlim has it): an empty plan, to be extended.
        removed: group name -> units.
        skipped: parameter asked for -> why nothing of it goes.
        check: run the layer before it is pruned, and leave it when it would not work.

    Attributes:
        plan: the engine's :class:`~slimkit.prune.plan.Plan`; None of an empty plan.
        skipped: see above.
    """

    def __init__(
        self,
        network: Union[LayerNetwork, str, None] = None,
        removed: Optional[Mapping[str, np.ndarray]] = None,
        skipped: Optional[Mapping[str, str]] = None,
        check: bool = True,
    ) -> None:
        self._network: Any = network if isinstance(network, LayerNetwork) else None
        self._check = check
        self.plan: Any = Plan(self._network.groups, removed or {}) if self._network is not None else None
        self.skipped: Dict[str, str] = dict(skipped or {})
        self._pruned_flops: Optional[float] = None
        self._undo: Optional[Undo] = None
        self._optimizers: List[Any] = []
        self._left: Dict[str, List[int]] = {}

    @property
    def pruned_flops(self) -> Optional[float]:
        """Fraction of the layer's multiply-accumulates that goes (PaddleSlim: FLOPs); None: not countable."""
        if self._pruned_flops is None and self._network is not None and self._network.cost is not None:
            self._pruned_flops = 1 - self._network.cost.macs(self.plan) / self._network.cost.macs()
        return self._pruned_flops

    @pruned_flops.setter
    def pruned_flops(self, value: float) -> None:
        self._pruned_flops = value

    @property
    def applied(self) -> bool:
        """Whether a layer is pruned or masked by it now."""
        return self._undo is not None

    @property
    def masks(self) -> Dict[str, List[PruningMask]]:
        """Parameter -> what goes of it."""
        found: Dict[str, List[PruningMask]] = {}
        for name, axes in self._slices().items():
            for axis, indices in axes.items():
                mask = np.ones(self._network.shapes[name][axis], np.int32)
                mask[indices] = 0
                found.setdefault(name, []).append(PruningMask(axis, mask, len(indices) / len(mask)))
        return found

    def contains(self, var_name: str, dims: Optional[int] = None) -> bool:
        """Whether something of a parameter goes, along an axis if one is given."""
        axes = self._slices().get(var_name)
        return axes is not None and (dims is None or dims in axes)

    def extend(self, plan: PruningPlan) -> None:
        """Adds what another plan of the same layer removes.

        Raises:
            ModelError: this plan is applied, or the other is of another layer or another state of it.
        """
        if self._network is None:
            self._network, self._check, self.plan = plan._network, plan._check, plan.plan
            self.skipped.update(plan.skipped)
            return
        if plan._network is None:
            return
        if self.applied or plan._network is not self._network:
            why = "it is applied already" if self.applied else "the other is of another layer, or of it before pruning"
            raise ModelError(f"The plan cannot be extended: {why}; make both with one pruner, and apply them then.")
        removed = {name: plan.plan.removed.get(name, units) for name, units in self.plan.removed.items()}
        removed = {name: np.union1d(units, self.plan.removed[name]) for name, units in removed.items()}
        self.plan = Plan(self._network.groups, {**plan.plan.removed, **removed})
        self.skipped.update(plan.skipped)
        self._pruned_flops = None

    def apply(self, model: nn.Layer, lazy: bool = False, opt: Any = None, prune_type: str = "conv") -> None:
        """Prunes a layer in place.

        Args:
            model: the layer that the plan was made of, or ``DataParallel`` of it.
            lazy: set to zero what would go; shapes stay.
            opt: optimizers whose state of the parameters shrinks too.
            prune_type: of no effect; the plan knows.

        Raises:
            ModelError: it is applied already, or the layer's code fails without these channels, or computes something
                else; then nothing is changed.
        """
        if self.applied:
            raise ModelError("The plan is applied already; call restore() before it is applied again.")
        if self._network is None:
            raise ModelError("The plan is empty; extend() it by what prune_var() of a pruner returned.")
        if lazy:
            self._undo = mask_layer(model, self.plan)
        else:
            reason = self._network.trials.failure(self.plan) if self._check else None
            if reason is not None:
                raise ModelError(
                    f"{type(model).__name__} does not work when it is pruned by this plan: {reason}; prune fewer of "
                    f"its parameters ({', '.join(list(self.plan.removed)[:8])})."
                )
            self._undo = prune_layer(model, self.plan, opt)
        self._optimizers = optimizers_of(opt)
        self._left = {tensor.name: list(tensor.shape) for tensor, _ in self._undo.tensors}

    def restore(self, model: Optional[nn.Layer] = None, opt: Any = None) -> None:
        """Gives the parameters that the plan changed their values from before, bit for bit, and optimizers theirs.

        What training made of the smaller parameters is lost, and so is state that an optimizer made of them; parameters
        that the plan did not change stay as they are.

        Args:
            model: of no effect; the plan knows.
            opt: further optimizers.

        Raises:
            ModelError: the layer was pruned once more since.
        """
        if self._undo is None:
            return
        changed = [tensor for tensor, _ in self._undo.tensors if list(tensor.shape) != self._left[tensor.name]]
        if changed:
            raise ModelError(
                f"The plan cannot be taken back, since '{changed[0].name}' was pruned once more after it; restore the "
                "later plan first, or call restore() of the pruner, which takes back all."
            )
        layer = self._undo.layer
        self._undo()
        self._undo = None
        tensors = LayerTensors(layer)
        for optimizer in [*self._optimizers, *optimizers_of(opt)]:
            for name in self.plan.slices():
                drop_state(optimizer, tensors.variable(name))

    def _slices(self) -> Mapping[str, Mapping[int, np.ndarray]]:
        return {} if self.plan is None else self.plan.slices()

    def __str__(self) -> str:
        lines = [
            f"{name}: {', '.join(f'{100 * m.pruned_ratio:.1f}% of axis {m.dims}' for m in masks)}"
            for name, masks in self.masks.items()
        ]
        share = "not counted" if self.pruned_flops is None else f"{100 * self.pruned_flops:.1f}%"
        lines.append(f"multiply-accumulates that go: {share}")
        return "\n".join([*lines, *(f"{name} stays: {reason}" for name, reason in self.skipped.items())])
