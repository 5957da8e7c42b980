"""What ``verify`` found: plain data, ready for a table, JSON or HTML."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional

from slimkit.deploy.compare import Agreement
from slimkit.deploy.runtime import Latency

__all__ = ["VerifyReport", "VerifyRow"]


@dataclass
class VerifyRow:
    """One model on one runtime.

    Attributes:
        runtime: key of ``RUNTIMES``.
        title: the runtime and mode for people.
        precision: "float", "simulated", "int8", or "float on the int8 grid".
        accuracy: the headline metric, a fraction; None without labels or where nothing could run.
        metrics: all the metric says, the headline included.
        size_bytes: on disk, in this runtime's own format.
        latency: batch size -> latency.
        speed_ratio: batch size -> float's time over this one's (above 1 is faster), None for the float row.
        against_float: agreement with the float model on the same runtime, over all outputs together.
        outputs_against_float: the same for each output, where there are several.
        across_runtimes: of a float row, agreement with the float row of the first runtime.
        against_simulated: agreement with the simulated quantized model (what training saw).
        int8_primitives: compute primitives executed in int8 in one inference; None where it cannot be known.
        float_primitives: the same, in float.
        profile: batch size -> kind of work -> ms in one inference, as the runtime reports it.
        fallback: compute ops left float: op, weight, reason.
        hazards: int8 ops whose result the runtime is known to get wrong.
        notes: plain sentences.
        error: why there are no numbers, when there are none.
        unavailable: whether that is because the runtime is not installed.
        samples: how many were run.
    """

    runtime: str
    title: str
    precision: str
    accuracy: Optional[float] = None
    metrics: Dict[str, float] = field(default_factory=dict)
    size_bytes: Optional[int] = None
    latency: Dict[int, Latency] = field(default_factory=dict)
    speed_ratio: Dict[int, float] = field(default_factory=dict)
    against_float: Optional[Agreement] = None
    outputs_against_float: List[Agreement] = field(default_factory=list)
    against_simulated: Optional[Agreement] = None
    across_runtimes: Optional[Agreement] = None
    int8_primitives: Optional[int] = None
    float_primitives: Optional[int] = None
    profile: Dict[int, Dict[str, float]] = field(default_factory=dict)
    fallback: List[Dict[str, str]] = field(default_factory=list)
    hazards: List[Dict[str, str]] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)
    error: Optional[str] = None
    unavailable: bool = False
    samples: int = 0

    def to_dict(self) -> Dict[str, Any]:
        """JSON-ready values."""
        values = dict(self.__dict__)
        values["latency"] = {str(batch): latency.to_dict() for batch, latency in self.latency.items()}
        values["profile"] = {str(batch): kinds for batch, kinds in self.profile.items()}
        values["speed_ratio"] = {str(batch): round(ratio, 3) for batch, ratio in self.speed_ratio.items()}
        for name in ("against_float", "against_simulated", "across_runtimes"):
            agreement = getattr(self, name)
            values[name] = agreement.to_dict() if agreement else None
        values["outputs_against_float"] = [agreement.to_dict() for agreement in self.outputs_against_float]
        return values


@dataclass
class VerifyReport:
    """All rows of a verification: for each runtime the float model first, then the quantized one.

    Attributes:
        rows: one per model and runtime.
        samples: how many were run.
        threads: CPU threads for latency.
        metric: the headline metric's name, None without labels.
        machine: CPU model and instruction set.
    """

    rows: List[VerifyRow]
    samples: int
    threads: int
    metric: Optional[str]
    machine: Dict[str, str]

    def row(self, runtime: str, precision: str) -> Optional[VerifyRow]:
        """Returns the row of a runtime and precision, or None."""
        return next((row for row in self.rows if (row.runtime, row.precision) == (runtime, precision)), None)

    def base(self, row: VerifyRow) -> Optional[VerifyRow]:
        """Returns the float row that ``row`` is compared with: that of its own runtime."""
        return self.row(row.runtime, "float")

    def to_dict(self) -> Dict[str, Any]:
        """JSON-ready values."""
        return {
            "samples": self.samples,
            "threads": self.threads,
            "metric": self.metric,
            "machine": self.machine,
            "rows": [row.to_dict() for row in self.rows],
        }
