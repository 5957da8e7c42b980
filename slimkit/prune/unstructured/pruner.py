"""What the pruners of dygraph layers and static programs have in common: the ranking and the steps."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

import numpy as np

from slimkit.errors import NumericsError, TrainingError
from slimkit.numerics.magnitude import magnitude_masks, sparsity, threshold_mask
from slimkit.prune.unstructured.settings import Settings, gradual_schedule

__all__ = ["Gradual", "MaskedTraining"]


class MaskedTraining:
    """A mask per weight, computed from the weights; subclasses know where both are held."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.mode = settings.mode
        self.ratio = settings.ratio
        self.threshold = settings.threshold
        self.local_sparsity = settings.local_sparsity
        self.sparse_block = list(settings.sparse_block)
        self.thresholds: Dict[str, float] = {}
        self._ranked: Optional[Dict[str, np.ndarray]] = None

    # ------------------------------------------------ what a subclass gives

    def _names(self) -> List[str]:
        """The parameters to prune, in a fixed order."""
        raise NotImplementedError

    def _read(self, name: str) -> np.ndarray:
        """A parameter's value."""
        raise NotImplementedError

    def _read_mask(self, name: str) -> np.ndarray:
        """A parameter's mask, bool; True stays."""
        raise NotImplementedError

    def _write_mask(self, name: str, mask: np.ndarray) -> None:
        raise NotImplementedError

    # ---------------------------------------------------------------- steps

    def step(self) -> None:
        """Computes the masks anew from the weights; call it after every optimizer step."""
        if self.mode == "ratio":
            self.update_threshold()
        self._update_masks()

    def update_threshold(self) -> None:
        """Ranks the weights, and sets ``threshold`` (``thresholds`` by name if local) to the greatest magnitude pruned.

        A subclass that ranks differently sets these itself: weights below them go.

        Raises:
            TrainingError: a weight is NaN or infinite.
        """
        names = self._names()
        weights = [self._read(name) for name in names]
        try:
            masks, found = magnitude_masks(weights, self.ratio, self.local_sparsity, self.settings.block)
        except NumericsError:
            bad = [name for name, weight in zip(names, weights) if not np.isfinite(weight).all()]
            raise TrainingError(
                f"'{bad[0]}' holds NaN or infinity, so its weights cannot be ranked; the training diverged, lower the "
                "learning rate or resume from an earlier checkpoint."
            ) from None
        self._ranked = dict(zip(names, masks))
        if self.local_sparsity:
            self.thresholds = dict(zip(names, found))
        else:
            self.threshold = found[0]

    def _update_masks(self) -> None:
        ranked, self._ranked = self._ranked, None
        for name in self._names():
            if ranked is not None:
                mask = ranked[name]
            else:
                least = self.thresholds[name] if self.local_sparsity else self.threshold
                mask = threshold_mask(self._read(name), least, self.settings.block)
            self._write_mask(name, mask)

    def set_static_masks(self) -> None:
        """Makes the masks from the zeros there are, as before quantization-aware training of a sparse model."""
        for name in self._names():
            self._write_mask(name, self._read(name) != 0)

    def _binarize(self) -> None:
        """Makes ones and zeros of masks that were loaded: a checkpoint may hold averages of them."""
        for name in self._names():
            self._write_mask(name, self._read_mask(name))

    def _density_is(self, ratio: float) -> bool:
        """Whether the masks prune this ratio already, up to one block a weight."""
        masks = [self._read_mask(name) for name in self._names()]
        wanted = ratio * sum(mask.size for mask in masks)
        rows, columns = self.settings.block
        slack = sum(rows * columns * int(np.prod(mask.shape[2:])) for mask in masks)
        return abs(sum(int((~mask).sum()) for mask in masks) - wanted) <= slack

    def _zeros_reach(self, ratio: float) -> bool:
        """Whether as many weights are zero as the ratio prunes."""
        weights = [self._read(name) for name in self._names()]
        return sparsity(weights) >= ratio - len(weights) / sum(weight.size for weight in weights)


class Gradual:
    """The steps of gradual magnitude pruning; mixed into a pruner of mode ``ratio``."""

    #: Set by the pruner it is mixed into.
    ratio: float
    update_threshold: Any
    _update_masks: Any
    _density_is: Any
    _zeros_reach: Any
    _binarize: Any

    def _begin(self, configs: Optional[Mapping[str, Any]], ratio: float) -> None:
        self.schedule, self.cur_iteration = gradual_schedule(configs, ratio)
        self.target_ratio = ratio
        self.ratio = 0.0
        self._unsure = False

    @property
    def ratios_stack(self) -> List[float]:
        """The ratios still to come, one a pruning step, the next one last; empty when the schedule is over."""
        period = self.schedule.pruning_iterations // self.schedule.pruning_steps
        return [self.schedule.at(k) for k in range(self.cur_iteration, self.schedule.iterations, period)][::-1]

    def _resume(self, iteration: int) -> None:
        """Goes on at an iteration, with masks from a checkpoint or from the zeros of a sparse model."""
        self.cur_iteration = iteration
        self.ratio = self.schedule.at(iteration - 1) if iteration else 0.0
        self._unsure = iteration > 0

    def _adopt_zeros(self) -> None:
        """Takes the zeros of a model that was loaded before the pruner was made for its masks."""
        if self.ratio and self._zeros_reach(self.ratio):
            self.update_threshold()
            self._update_masks()

    def _load_progress(self) -> Optional[int]:
        """The iteration a checkpoint loaded meanwhile stands at; None: none was loaded."""
        raise NotImplementedError

    def _save_progress(self) -> None:
        raise NotImplementedError

    def _progress(self) -> np.ndarray:
        """What a checkpoint keeps: the iteration, and the schedule it is of."""
        s = self.schedule
        phases = (s.stable_iterations, s.pruning_iterations, s.tunning_iterations, s.pruning_steps)
        return np.array([self.cur_iteration, s.ratio, s.initial_ratio, *phases], np.float32)

    def _iteration_of(self, progress: np.ndarray) -> Optional[int]:
        """The iteration that a checkpoint's progress says, if it is of this schedule and not the one we are at."""
        own = self._progress()
        same = progress.shape == own.shape and np.allclose(progress[1:], own[1:], rtol=1e-2)
        return round(float(progress[0])) if same and abs(progress[0] - own[0]) >= 0.5 else None

    def step(self) -> None:
        """Sets this iteration's ratio, and the masks if it changed; call it after every optimizer step."""
        loaded = self._load_progress()
        if loaded is not None:
            self._resume(loaded)
        before, self.ratio = self.ratio, self.schedule.at(self.cur_iteration)
        if self.ratio != before or (self._unsure and not self._density_is(self.ratio)):
            self.update_threshold()
            self._update_masks()
        elif self._unsure:
            self._binarize()
        self._unsure = False
        self.cur_iteration += 1
        self._save_progress()
