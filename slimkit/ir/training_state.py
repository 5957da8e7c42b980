"""The values a training run lives by: read for a checkpoint and written back."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Mapping

import numpy as np

from slimkit.errors import TrainingError
from slimkit.ir.params import set_tensor

__all__ = ["read_state", "write_state"]

#: Key of the step count beside the variables' names.
STEPS = "@steps"


def read_state(scope: Any, names: Iterable[str], steps: int) -> Dict[str, np.ndarray]:
    """Copies of the variables, and the step count.

    Args:
        scope: holds them.
        names: variable names.
        steps: training steps made.
    """
    state = {name: np.array(scope.find_var(name).get_tensor()) for name in names}
    state[STEPS] = np.array([steps], np.int64)
    return state


def write_state(scope: Any, names: Iterable[str], state: Mapping[str, np.ndarray], place: Any) -> int:
    """The inverse of ``read_state``; nothing is written unless all fits.

    Args:
        scope: gets the values.
        names: variables of this run.
        state: of a run of the same model and config.
        place: device.

    Returns:
        The step count.

    Raises:
        TrainingError: a variable is missing, unknown or of another shape.
    """
    known = set(names)
    missing, unknown = sorted(known - set(state)), sorted(set(state) - known - {STEPS})
    if missing or unknown:
        which = f"lacks '{missing[0]}'" if missing else f"holds '{unknown[0]}', which this run has not"
        raise TrainingError(
            f"The checkpoint {which}; it is of another model or config. Resume with the config it was made with."
        )
    for name in sorted(known):
        held = list(scope.find_var(name).get_tensor().shape())
        if list(np.shape(state[name])) != held:
            raise TrainingError(
                f"The checkpoint's '{name}' has shape {list(np.shape(state[name]))}, this run's has {held}; it is of "
                "another model. Resume with the config it was made with."
            )
    for name in known:
        set_tensor(scope, name, np.asarray(state[name]), place)
    return int(state[STEPS][0]) if STEPS in state else 0
