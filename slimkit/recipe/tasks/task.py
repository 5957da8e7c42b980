"""``Task``: how data of one kind becomes what a model takes, and what its outputs are worth."""

from __future__ import annotations

import inspect
from typing import Any, Dict, List, Mapping, Optional, Protocol, Sequence, Type, get_type_hints

import numpy as np

from slimkit.errors import ConfigError, nearest
from slimkit.recipe.tasks.samples import Samples
from slimkit.recipe.tasks.signature import Signature

__all__ = ["Metric", "Task", "make_task"]


class Metric(Protocol):
    """A figure of merit, accumulated batch by batch."""

    def update(self, outputs: Sequence[np.ndarray], labels: Sequence[Any]) -> None:
        """Adds a batch: the model's outputs, in order, and a label for each sample."""
        ...

    def result(self) -> Mapping[str, float]:
        """Returns name -> fraction from 0 to 1, the headline first."""
        ...


class Task:
    """Base of the rows of ``TASKS``; the keyword arguments of a subclass's constructor are its options.

    Attributes:
        name: its key in ``TASKS``.
        headline: the name of its first metric; "" when it has none.
    """

    name = ""
    headline = ""

    def __init__(self, signature: Signature) -> None:
        self.signature = signature

    def open(self, path: str) -> Samples:
        """Finds the data; it is read later.

        Raises:
            DataError: one sentence: what is missing or wrong, where, and the remedy.
        """
        raise NotImplementedError

    def metric(self) -> Optional[Metric]:
        """Makes a fresh metric; None when the task has none."""
        return None


def make_task(kind: Type[Task], signature: Signature, options: Mapping[str, Any]) -> Task:
    """Makes a task with options.

    Raises:
        ConfigError: the task has no such option, or it has another type.
        DataError: the model is none for this task.
    """
    allowed: List[str] = [
        name
        for name, parameter in inspect.signature(kind.__init__).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    given: Dict[str, Any] = {key: value for key, value in options.items() if value is not None}
    for key in given:
        if key not in allowed:
            close = nearest(key, allowed)
            hint = f"did you mean {close}?" if close else f"its options are {', '.join(allowed) or 'none'}."
            raise ConfigError(f"The task {kind.name} has no option {key}; {hint}")
    _check_types(kind, given)
    return kind(signature, **given)


def _check_types(kind: Type[Task], given: Mapping[str, Any]) -> None:
    """Refuses an option of another type than its annotation."""
    from pydantic import TypeAdapter, ValidationError

    hints = get_type_hints(kind.__init__)
    for key, value in given.items():
        try:
            TypeAdapter(hints[key]).validate_python(value, strict=not isinstance(value, (list, tuple)))
        except ValidationError as error:
            wrong = error.errors()[0]["msg"]
            wrong = wrong.replace("Input should", "it should").replace("'str' instances are", "text is")
            raise ConfigError(f"The option {key} of the task {kind.name} is {value!r}; {wrong}.") from None
