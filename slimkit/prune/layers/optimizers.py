"""What an optimizer remembers of a parameter: its accumulators and master weights."""

from __future__ import annotations

from typing import Any, Iterator, List, Sequence

import paddle

__all__ = ["drop_state", "optimizers_of", "state_of"]

_INNER = ("_inner_opt", "inner_opt", "user_defined_optimizer", "_optimizer")


def optimizers_of(given: Any) -> List[Any]:
    """The optimizers in an argument: None, one, or several; wrappers are followed to what they wrap."""
    items = [] if given is None else list(given) if isinstance(given, (list, tuple)) else [given]
    found: List[Any] = []
    for item in items:
        while item is not None and not any(item is other for other in found):
            found.append(item)
            item = next((getattr(item, name) for name in _INNER if getattr(item, name, None) is not None), None)
    return found


def state_of(optimizer: Any, parameter: str, shape: Sequence[int]) -> Iterator[paddle.Tensor]:
    """The tensors an optimizer keeps for a parameter, as long as it (velocities, moments), and its master weight.

    Args:
        optimizer: it; before its first step it has none.
        parameter: name.
        shape: of the parameter; what has another shape, such as the powers of beta, does not follow.
    """
    names = [parameter]
    master = (getattr(optimizer, "_master_weights", None) or {}).get(parameter)
    if master is not None:
        names.append(master.name)
        yield master
    for accumulator in (getattr(optimizer, "_accumulators", None) or {}).values():
        for name in names:
            tensor = accumulator.get(name)
            if tensor is not None and list(tensor.shape) == list(shape):
                yield tensor


def drop_state(optimizer: Any, parameter: paddle.Tensor) -> None:
    """Makes an optimizer start anew for a parameter whose state has another shape than it."""
    tables = (getattr(optimizer, "_accumulators", None) or {}).values()
    held = [table[parameter.name] for table in tables if parameter.name in table]
    master = (getattr(optimizer, "_master_weights", None) or {}).get(parameter.name)
    stale = [t for t in (*held, master) if t is not None and t.ndim and list(t.shape) != [1]]
    if all(list(tensor.shape) == list(parameter.shape) for tensor in stale):
        return
    for table in tables:
        table.pop(parameter.name, None)
        if master is not None:
            table.pop(master.name, None)
    (getattr(optimizer, "_master_weights", None) or {}).pop(parameter.name, None)
    known = getattr(optimizer, "_already_create_accumulator", None)
    if known is not None:
        known.difference_update({parameter.name, getattr(master, "name", parameter.name)})
