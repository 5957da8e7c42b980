"""``FilterPruner`` and its kinds: PaddleSlim's pruning of dygraph layers, by ratios and by sensitivity."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

from paddle import nn

from slimkit.errors import ConfigError
from slimkit.prune.criteria import Criterion, Scorer, criterion_named
from slimkit.prune.groups import DEPTHWISE, OUTPUT
from slimkit.prune.layers.plan import PruningPlan
from slimkit.prune.layers.pruner import Axis, Pruner
from slimkit.prune.line import Target
from slimkit.prune.search import Limits
from slimkit.prune.sensitivity import Sensitivities, measure_sensitivity
from slimkit.prune.sensitivity.tasks import RATIOS, wanted_points
from slimkit.prune.static.sensitive import get_ratios_by_loss
from slimkit.prune.targets import ratios_by_sensitivity

__all__ = ["FPGMFilterPruner", "FilterPruner", "L1NormFilterPruner", "L2NormFilterPruner"]

Losses = Dict[str, Dict[float, float]]


class FilterPruner(Pruner):
    """Prunes filters of a dygraph layer in place, also by what each layer's pruning costs.

    Args:
        model, inputs: see :class:`Pruner`.
        sen_file: file of sensitivities that were measured before, of slimkit or PaddleSlim.
        opt, skip_leaves, prune_type, input_dtype, num_head, check: see :class:`Pruner`.
    """

    def __init__(
        self,
        model: nn.Layer,
        inputs: Any,
        sen_file: Optional[str] = None,
        opt: Any = None,
        skip_leaves: bool = True,
        prune_type: str = "conv",
        input_dtype: str = "float32",
        num_head: int = -1,
        *,
        check: bool = True,
    ) -> None:
        self._sensitivities = Sensitivities() if sen_file is None else Sensitivities.load(sen_file)
        super().__init__(model, inputs, opt, skip_leaves, prune_type, input_dtype, num_head, check=check)

    def sensitive(
        self,
        eval_func: Optional[Callable[[], float]] = None,
        sen_file: Optional[str] = None,
        target_vars: Optional[Sequence[str]] = None,
        skip_vars: Optional[Sequence[str]] = None,
    ) -> Losses:
        """Measures what the layer's metric loses when each parameter alone is pruned by 0.1, 0.2, ... 0.9.

        Args:
            eval_func: evaluates the layer and returns its metric, more is better; without it the file's or the known
                sensitivities are returned.
            sen_file: every point is written to it as it comes; what it holds already is not measured again. A file that
                holds all is taken as it is, whatever weights it was measured with: PaddleOCR reads it for a network
                that gets its weights after it is pruned.
            target_vars: what to measure; None: one parameter of each group that can be pruned.
            skip_vars: what not to measure.

        Returns:
            Parameter -> ratio -> loss, a fraction of the metric of the layer as it is.

        Raises:
            ConfigError: an unknown parameter, or the file is of another layer.
            EvaluationError: the metric is 0 or no number, or ``eval_func`` raised; the points before are in the file.
        """
        if eval_func is None:
            if sen_file is not None:
                self._sensitivities = Sensitivities.load(sen_file)
            return self._sensitivities.as_dict()
        network, chooser, names = self.network, self._chooser(), self._measured(target_vars, skip_vars or ())
        known = None if sen_file is None else self._complete(sen_file, names)
        if known is not None:
            self._sensitivities = known
            return known.as_dict()
        self._sensitivities = measure_sensitivity(
            self.model,
            network.groups,
            lambda model: eval_func(),
            parameters=names,
            criterion=self._scorer(),
            choose=lambda name, ratio: chooser.units({name: ratio}).get(network.groups.of(name).name),
            path=sen_file,
            params=network.tensors,
        )
        return self._sensitivities.as_dict()

    def _complete(self, path: str, names: Sequence[str]) -> Optional[Sensitivities]:
        """What a file holds, if it holds every point of these parameters, by this criterion, and no stranger's."""
        if not Path(path).exists():
            return None
        known, groups = Sensitivities.load(path), self.network.groups
        points = wanted_points(groups, RATIOS, names)
        own = {member.parameter for group in groups for member in group.members}
        whole = all(ratio in known.get(name, {}) for name, ratios in points.items() for ratio in ratios)
        same = known.criterion in (None, self._scorer().criterion.name) and own.issuperset(known)
        return known if whole and same else None

    def _scorer(self) -> Scorer:
        """For its name; which units go is said by ``choose``."""
        row = criterion_named(self.criterion or "l1_norm")
        name = type(self).__name__ if type(self).cal_mask is not Pruner.cal_mask else row.name
        return Scorer(self.network.tensors, Criterion(name, row.function))

    def _measured(self, target_vars: Optional[Sequence[str]], skip_vars: Iterable[str]) -> List[str]:
        for key, names in (("skip_vars", skip_vars), ("target_vars", target_vars)):
            if isinstance(names, str):
                raise ConfigError(f"{key} = {names!r} is no list; give a list of parameters, also of one.")
        skip = {*skip_vars, *self.skip_vars}
        if target_vars is None:
            masters = [self._master(group) for group in self.network.groups.prunable]
            names = [master.parameter for master in masters if master is not None]
        else:
            for name in target_vars:
                self.network.groups.of(name)
            names = list(target_vars)
        return [name for name in names if name not in skip]

    def _get_ratios_by_loss(
        self, sensitivities: Losses, loss: float, skip_vars: Sequence[str] = ()
    ) -> Dict[str, float]:
        """The ratio of each parameter at which the layer loses ``loss``, by PaddleSlim's rule (linear between points).

        Parameters that lose more at every measured ratio get 0.
        """
        return get_ratios_by_loss({name: sensitivities[name] for name in sensitivities if name not in skip_vars}, loss)

    def get_ratios_by_sensitivity(
        self,
        pruned_flops: float,
        align: Optional[int] = None,
        dims: Axis = 0,
        skip_vars: Sequence[str] = (),
    ) -> Tuple[Dict[str, float], float]:
        """Finds the ratios that take a fraction of the multiply-accumulates away at the least loss.

        Args:
            pruned_flops: the fraction, in (0, 1).
            align: channels that stay are a multiple of it.
            dims: axis of the filters.
            skip_vars: parameters that stay whole, with what goes with them.

        Returns:
            Parameter -> ratio, and the fraction that goes.

        Raises:
            ConfigError: nothing was measured, or the fraction is beyond reach.
        """
        if not len(self._sensitivities):
            raise ConfigError("No sensitivities are known; call sensitive(eval_func=...) first, or give sen_file.")
        network = self.network
        known = {m.parameter for group in network.groups for m in group.members if m.role in (OUTPUT, DEPTHWISE)}
        limits = Limits(round_to=align or 1, skip=tuple(name for name in skip_vars if name in known))
        line = ratios_by_sensitivity(
            network.groups, self._sensitivities, Target("macs", removed=pruned_flops), network.cost, limits=limits
        )
        by_group = {network.groups.of(name).name: name for name in reversed(list(self._sensitivities))}
        return {by_group[name]: ratio for name, ratio in line.ratios.items() if ratio > 0}, line.removed

    def sensitive_prune(
        self, pruned_flops: float, skip_vars: Sequence[str] = (), align: Optional[int] = None
    ) -> PruningPlan:
        """Prunes the layer by its sensitivities until a fraction of its multiply-accumulates is gone.

        What was pruned before is restored first. Args, raises: see :meth:`get_ratios_by_sensitivity`.
        """
        self.restore()
        ratios, _ = self.get_ratios_by_sensitivity(pruned_flops, align=align, skip_vars=skip_vars)
        return self._prune(ratios, "impretive", {})


class L1NormFilterPruner(FilterPruner):
    """The filters with the smallest sums of absolute values go (Li et al. 2017, arXiv:1608.08710)."""

    criterion = "l1_norm"


class L2NormFilterPruner(FilterPruner):
    """The filters with the smallest Euclidean norms go (He et al. 2018, arXiv:1808.06866)."""

    criterion = "l2_norm"


class FPGMFilterPruner(FilterPruner):
    """The filters nearest to all others of their layer go (He et al. 2019, arXiv:1811.00250)."""

    criterion = "geometry_median"
