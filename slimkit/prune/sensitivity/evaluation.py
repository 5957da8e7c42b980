"""Two kinds of evaluation: a function of the whole network, and a stream of batches with a metric."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Mapping, Optional, Protocol, Sequence, Tuple, Union

import numpy as np

from slimkit.errors import ConfigError, EvaluationError

__all__ = ["EvaluateFunction", "Metric", "StreamingEvaluation", "figure"]

#: Model (or whatever is measured) -> its metric, more is better.
EvaluateFunction = Callable[[Any], float]


class Metric(Protocol):
    """A figure of merit, accumulated batch by batch, such as those of ``slimkit.recipe.tasks``."""

    def update(self, outputs: Sequence[np.ndarray], labels: Any) -> None:
        """Adds a batch: the model's results, in order, and the batch's labels."""
        ...

    def result(self) -> Union[float, Mapping[str, float]]:
        """The figure; of several the first."""
        ...


@dataclass(frozen=True)
class StreamingEvaluation:
    """An evaluation that slimkit runs itself, batch by batch, so that it can begin anywhere in the network.

    Attributes:
        batches: an iterable of ``(feed, labels)`` that gives the same batches each time; a list, or
            ``samples.stream(...)`` of :mod:`slimkit.recipe.tasks`. A generator is used up after one pass and will not
            do.
        metric: makes a fresh :class:`Metric`.
    """

    batches: Iterable[Tuple[Mapping[str, np.ndarray], Any]]
    metric: Callable[[], Any]

    def __post_init__(self) -> None:
        if iter(self.batches) is self.batches:
            raise ConfigError(
                f"The batches are a {type(self.batches).__name__}, which gives them once, but every point needs them; "
                "give a list, or an object whose __iter__ starts anew, such as samples.stream()."
            )
        if not callable(self.metric):
            raise ConfigError("metric makes a fresh metric for every point, so it must be a class or a function.")


def figure(value: Any, where: str) -> float:
    """What an evaluation returned, as a float.

    Args:
        value: a number, an array of one, or name -> number, of which the first counts.
        where: at which point, for the message.

    Raises:
        EvaluationError: it is not finite, or no number.
    """
    if isinstance(value, Mapping) and value:
        value = next(iter(value.values()))
    number: Optional[float]
    try:
        number = float(np.asarray(value).reshape(()))
    except (TypeError, ValueError):
        number = None
    if number is None:
        raise EvaluationError(
            f"The evaluation returned {type(value).__name__} {where} where one number was expected; return a float."
        )
    if not math.isfinite(number):
        raise EvaluationError(
            f"The metric is {number} {where}; look for a division by zero in the evaluation, or measure smaller ratios."
        )
    return number
