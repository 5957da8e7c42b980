"""PaddleSlim's static sensitivity functions, on the engine of :mod:`slimkit.prune.sensitivity`."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, Mapping, Optional, Sequence, Union

import numpy as np
import paddle

from slimkit.errors import ConfigError, DataError
from slimkit.ir.guards import legacy_ir
from slimkit.numerics.curves import ratio_at_loss
from slimkit.prune.apply import find_groups
from slimkit.prune.sensitivity import Sensitivities, measure_sensitivity
from slimkit.prune.static.choosing import Chooser, prunable_of
from slimkit.prune.static.pruner import legacy_program
from slimkit.prune.static.values import ScopeValues

__all__ = ["get_ratios_by_loss", "load_sensitivities", "merge_sensitive", "sensitivity"]

Losses = Dict[str, Dict[float, float]]
_RATIOS = tuple(i / 10 for i in range(1, 10))


def sensitivity(
    program: Any,
    place: Any,
    param_names: Sequence[str],
    eval_func: Callable[..., Any],
    sensitivities_file: Union[str, Path, None] = None,
    pruned_ratios: Optional[Sequence[float]] = None,
    eval_args: Optional[Sequence[Any]] = None,
    criterion: Union[str, Callable[..., Any]] = "l1_norm",
) -> Losses:
    """Measures what the metric loses when each parameter alone is pruned at each ratio.

    At each point the filters that would go are zero in the global scope, which computes what the pruned network does;
    afterwards the scope is as it was.

    Args:
        program: a legacy program for evaluation, whose parameters are in the global scope.
        place: not needed, for PaddleSlim's sake.
        param_names: names of parameters with filters.
        eval_func: called with the program, and ``eval_args``; returns the metric, more is better.
        sensitivities_file: every point is written to it as it comes; points it has are not measured again. slimkit
            writes JSON, and reads PaddleSlim's pickles too.
        pruned_ratios: fractions of the filters that go, in (0, 1); None: 0.1 to 0.9.
        eval_args: further arguments of ``eval_func``.
        criterion: as of :class:`~slimkit.prune.Pruner`.

    Returns:
        Parameter -> ratio -> ``(baseline - metric) / baseline``; what the file had too. Parameters that cannot be
        pruned are left out, with a warning that says why.

    Raises:
        ConfigError: an unknown parameter or criterion, a ratio out of range, none of the parameters can be pruned, or
            the file is of another network or criterion.
        EvaluationError: the baseline is 0, or ``eval_func`` raised or returned no finite number at one point; the
            points before it are in the file.
    """
    legacy = legacy_program(program)
    for what, given in (
        ("param_names", param_names),
        ("pruned_ratios", () if pruned_ratios is None else pruned_ratios),
    ):
        if isinstance(given, str) or not isinstance(given, Iterable):
            raise ConfigError(f"{what} = {given!r} is no list; give a list, also of one.")
    groups = find_groups(legacy)
    names, notes = prunable_of(groups, list(param_names), legacy)
    if not names:
        raise ConfigError(f"Nothing of param_names can be pruned: {'; '.join(notes) or 'the list is empty.'}")
    for note in notes:
        warnings.warn(note, UserWarning, stacklevel=2)
    values = ScopeValues(legacy, paddle.static.global_scope())
    values.check({m.parameter for name in names for m in groups.of(name).members})

    def evaluate(given: Any) -> Any:
        with legacy_ir():
            return eval_func(given, *(eval_args or ()))

    chooser = Chooser(groups, legacy, values, criterion, "default_idx_selector")
    found = measure_sensitivity(
        program,
        groups,
        evaluate,
        _RATIOS if pruned_ratios is None else list(pruned_ratios),
        parameters=names,
        criterion=criterion,
        path=sensitivities_file,
        params=values.params,
        choose=lambda name, ratio: chooser.units({name: ratio}).get(groups.of(name).name),
    )
    losses = found.as_dict()
    return {name: losses[name] for name in dict.fromkeys([*names, *losses])}


# ------------------------------------------------------------------------------------------------ files and ratios


def load_sensitivities(sensitivities_file: Union[str, Path, None]) -> Losses:
    """Reads a file of sensitivities, slimkit's or PaddleSlim's.

    Args:
        sensitivities_file: the file; None: nothing was measured.

    Returns:
        Parameter -> ratio -> loss.

    Raises:
        DataError: there is no such file, or it is damaged.
    """
    if sensitivities_file is not None and not isinstance(sensitivities_file, (str, Path)):
        raise DataError(f"sensitivities_file is {sensitivities_file!r}; give the path of a file, or None.")
    return {} if sensitivities_file is None else Sensitivities.load(sensitivities_file).as_dict()


def merge_sensitive(sensitivities: Iterable[Union[Mapping[str, Mapping[float, float]], str, Path]]) -> Losses:
    """Joins sensitivities; of a point that several have, the last one's loss is taken.

    Args:
        sensitivities: dicts, or files.

    Returns:
        Parameter -> ratio -> loss.

    Raises:
        ConfigError: there are none, or the files are of different networks, criteria or evaluations.
        DataError: a file cannot be read.
    """
    merged: Losses = Sensitivities.merge(sensitivities).as_dict()
    return merged


def get_ratios_by_loss(sensitivities: Mapping[str, Mapping[float, float]], loss: float) -> Dict[str, float]:
    """The largest ratio of each parameter at which it alone loses no more than ``loss``.

    Between the largest measured ratio whose loss is not above ``loss`` and the next one, the loss is taken to rise
    along a line. A parameter whose every measured loss is above gets 0.

    Args:
        sensitivities: parameter -> ratio -> loss, a fraction of the baseline.
        loss: likewise.

    Returns:
        Parameter -> ratio, for every parameter given; one of which nothing was measured gets 0, with a warning.

    Raises:
        ConfigError: ``loss`` is no finite number, or ``sensitivities`` no such mapping.
    """
    if isinstance(loss, bool) or not isinstance(loss, (int, float, np.number)) or not math.isfinite(loss):
        raise ConfigError(f"loss is {loss!r}; it is a fraction of the baseline, such as 0.01 for one percent.")
    if not isinstance(sensitivities, Mapping) or not all(isinstance(p, Mapping) for p in sensitivities.values()):
        raise ConfigError("sensitivities must be {parameter: {ratio: loss}}, such as load_sensitivities returns.")
    for name, points in sensitivities.items():
        for ratio, value in points.items():
            if not all(isinstance(n, (int, float, np.number)) and math.isfinite(n) for n in (ratio, value)):
                raise ConfigError(
                    f"The sensitivity of '{name}' at the ratio {ratio!r} is {value!r}; both must be finite numbers, so "
                    "measure it again."
                )
    empty = [name for name, points in sensitivities.items() if not points]
    if empty:
        warnings.warn(
            f"Nothing was measured of {', '.join(repr(name) for name in empty)}, so the ratio is 0; measure them, or "
            "leave them out.",
            UserWarning,
            stacklevel=2,
        )
    return {name: ratio_at_loss(points, float(loss)) for name, points in sensitivities.items()}
