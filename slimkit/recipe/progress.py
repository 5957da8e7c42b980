"""Where a run stands: position, best result and the curves, all of it JSON-able for the checkpoint."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Dict, List, Mapping, Optional

__all__ = ["Curve", "Progress"]

MAX_POINTS = 1000


@dataclass
class Curve:
    """A curve over the steps, averaged over strides so that it never has over ``MAX_POINTS`` points.

    Attributes:
        stride: steps averaged into one point.
        steps: the last step of each point, from 1.
        loss: mean loss of each point.
        rate: learning rate at each point's last step.
    """

    stride: int = 1
    steps: List[int] = field(default_factory=list)
    loss: List[float] = field(default_factory=list)
    rate: List[float] = field(default_factory=list)
    pending: List[float] = field(default_factory=list)

    def add(self, step: int, loss: float, rate: float) -> None:
        """Records one step's loss and learning rate."""
        self.pending.append(loss)
        if len(self.pending) == self.stride:
            self.steps.append(step)
            self.loss.append(sum(self.pending) / len(self.pending))
            self.rate.append(rate)
            self.pending.clear()


@dataclass
class Progress:
    """The position of a run.

    Attributes:
        step: steps done, over all epochs.
        best: test accuracy of the best checkpoint, None before the first evaluation.
        best_step: the step it was taken at.
        curve: loss and learning rate.
        evaluations: ``{"epoch", "step", "top1", ...}`` of the simulated quantized model.
        seconds: wall time spent training, over all resumed parts.
    """

    step: int = 0
    best: Optional[float] = None
    best_step: int = 0
    curve: Curve = field(default_factory=Curve)
    evaluations: List[Dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0

    @classmethod
    def start(cls, total_steps: int) -> Progress:
        """Returns the position before the first of ``total_steps`` steps."""
        return cls(curve=Curve(stride=max(1, -(-total_steps // MAX_POINTS))))

    def dump(self) -> Dict[str, Any]:
        """Returns plain values for JSON."""
        return asdict(self)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Progress:
        """The inverse of :meth:`dump`."""
        rest = {key: value for key, value in values.items() if key != "curve"}
        return cls(curve=Curve(**values["curve"]), **rest)
