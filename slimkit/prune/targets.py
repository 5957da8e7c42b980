"""Ratios that meet a target of multiply-accumulates, FLOPs, parameters or latency.

``ratios_by_sensitivity`` moves one loss line across the curves of all groups: at a loss level every group is pruned by
its largest legal ratio whose curve is not above, and the lowest level that reaches the target is taken. ``uniform``
prunes all groups by one ratio. Both stop at legal ratios only.

Source: the line across all layers' sensitivities is PaddleSlim's (``get_ratios_by_loss``), where the user guesses the
level; Li et al. 2017 (arXiv:1608.08710), section 3.2, choose ratios by sensitivity by hand.
"""

from __future__ import annotations

import math
from typing import Dict, List, Mapping, Optional, Tuple

import numpy as np

from slimkit.numerics.curves import SensitivityCurve, fit_curve
from slimkit.prune.cost import CostModel
from slimkit.prune.groups import Group, Groups
from slimkit.prune.legal import Legal
from slimkit.prune.line import Line, Target
from slimkit.prune.search import NO_LIMITS, Limits, Measure, Scores, TargetSearch

__all__ = ["Limits", "curves_of", "ratios_by_sensitivity", "uniform"]


def curves_of(
    groups: Groups, sensitivities: Mapping[str, Mapping[float, float]]
) -> Tuple[Dict[str, SensitivityCurve], List[str]]:
    """Fits a curve to each group's measured points.

    Args:
        groups: of the network.
        sensitivities: parameter -> ratio -> loss. Where several parameters of a group were measured, the greater loss
            at a ratio counts.

    Returns:
        Group name -> curve, and notes on what was left out.

    Raises:
        ConfigError: a parameter that is unknown or cannot be pruned.
        NumericsError: a point that is none.
    """
    points: Dict[str, Dict[float, float]] = {}
    notes = []
    for parameter, losses in sensitivities.items():
        held = points.setdefault(groups.of(parameter).name, {})
        for ratio, loss in losses.items():
            held[ratio] = max(loss, held.get(ratio, -math.inf))
    curves = {}
    for name, held in points.items():
        if any(ratio > 0 for ratio in held):
            curves[name] = fit_curve(held)
    missing = [group.name for group in groups.prunable if group.name not in curves]
    if missing:
        notes.append(f"No sensitivity was measured of {', '.join(missing)}, which therefore stay whole.")
    return curves, notes


def ratios_by_sensitivity(
    groups: Groups,
    sensitivities: Mapping[str, Mapping[float, float]],
    target: Target,
    cost: Optional[CostModel] = None,
    *,
    limits: Limits = NO_LIMITS,
    scores: Scores = None,
    greedy: bool = False,
    measure: Optional[Measure] = None,
) -> Line:
    """Finds the lowest loss line that meets a target.

    At the line itself groups whose next step has just this loss are taken in the order of their ratios, and only as far
    as the target needs: many layers lose nothing up to some ratio, and would otherwise all go at once. Where the last
    step removes more than was missing, steps are given back, those that lose most first, as long as the target holds.

    Args:
        groups: of the network.
        sensitivities: parameter -> ratio -> loss of the metric.
        target: what may be left.
        cost: of the network; not needed for latency.
        limits: rounding, floor, greatest ratio, what stays whole.
        scores: see ``make_plan``; None: the counts alone matter, and the first units of each group go.
        greedy: see ``make_plan``.
        measure: plan -> ms, for latency.

    Returns:
        The line; its ``level`` is the loss.

    Raises:
        ConfigError: the target is beyond reach; the message says how far it goes and which key to change.
    """
    curves, notes = curves_of(groups, sensitivities)

    def levels(group: Group, steps: Legal) -> Optional[np.ndarray]:
        return curves[group.name](steps.ratios) if group.name in curves else None

    search = TargetSearch(groups, target, cost, limits, scores, greedy, measure)
    more = "measure the sensitivities of more layers or at greater ratios"
    return search.run(levels, notes, unmeasured=more)


def uniform(
    groups: Groups,
    target: Target,
    cost: Optional[CostModel] = None,
    *,
    limits: Limits = NO_LIMITS,
    scores: Scores = None,
    greedy: bool = False,
    measure: Optional[Measure] = None,
) -> Line:
    """Finds the smallest ratio, the same for all groups up to rounding, that meets a target.

    Args, raises: see :func:`ratios_by_sensitivity`.

    Returns:
        The line; its ``level`` is the ratio.
    """
    search = TargetSearch(groups, target, cost, limits, scores, greedy, measure)
    return search.run(_to_the_nearest, [], whole_levels=True)


def _to_the_nearest(group: Group, steps: Legal) -> np.ndarray:
    """The ratio from which on each legal ratio is the nearest."""
    ratios = steps.ratios
    return np.concatenate([[0.0], (ratios[1:] + ratios[:-1]) / 2])
