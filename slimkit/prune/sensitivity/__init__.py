"""Sensitivity: what a network's metric loses when one of its groups alone is pruned.

``measure_sensitivity`` measures, ``Sensitivities`` holds, reads, writes and merges the points, ``plot_sensitivities``
draws them.
"""

from __future__ import annotations

from slimkit.prune.sensitivity.engine import Point, measure_sensitivity
from slimkit.prune.sensitivity.evaluation import StreamingEvaluation
from slimkit.prune.sensitivity.plot import plot_sensitivities
from slimkit.prune.sensitivity.points import Sensitivities

__all__ = ["Point", "Sensitivities", "StreamingEvaluation", "measure_sensitivity", "plot_sensitivities"]
