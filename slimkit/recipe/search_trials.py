"""What a search has tried: its trials, the file that keeps them, and the methods there are to try."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple, Union

from slimkit.errors import ConfigError
from slimkit.files import atomic_write
from slimkit.quant.ptq_config import PtqConfig

__all__ = ["METHODS", "Method", "SearchState", "Trial", "parse_duration"]

_FORMAT = 1


@dataclass(frozen=True)
class Method:
    """A way to quantize better than by the settings at hand.

    Attributes:
        name: for the table of trials.
        changes: to the settings.
        cost: how many times as long as a plain trial it takes, until one has been timed.
        on_best: the changes are made to the best settings so far, not to those given.
    """

    name: str
    changes: Dict[str, Any]
    cost: float = 1.0
    on_best: bool = False


#: In the order they are tried: what costs nothing first.
METHODS: Tuple[Method, ...] = (
    Method("hist 99.999%", {"algo": "hist", "hist_percent": 0.99999}),
    Method("hist 99.99%", {"algo": "hist", "hist_percent": 0.9999}),
    Method("hist 99.9%", {"algo": "hist", "hist_percent": 0.999}),
    Method("mse", {"algo": "mse"}),
    Method("KL", {"algo": "KL"}),
    Method("avg", {"algo": "avg"}),
    Method("abs_max", {"algo": "abs_max"}),
    Method("symmetric", {"affine": False}, on_best=True),
    Method("affine", {"affine": True}, on_best=True),
    Method("bias correction", {"bias_correction": True}, cost=3.0, on_best=True),
    Method("AdaRound", {"adaround": True}, cost=30.0, on_best=True),
)


@dataclass(frozen=True)
class Trial:
    """One way to quantize, and what came of it.

    Attributes:
        name: for people.
        settings: the whole config.
        float_ops: layers left float besides, by their outputs.
        metrics: name -> value, more is better; empty when it failed.
        seconds: wall time.
        error: why it failed.
    """

    name: str
    settings: Dict[str, Any]
    float_ops: List[str] = field(default_factory=list)
    metrics: Dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    error: str = ""

    @property
    def key(self) -> str:
        """The same for the same settings and float layers."""
        return trial_key(self.settings, self.float_ops)

    @property
    def config(self) -> PtqConfig:
        return PtqConfig.model_validate(self.settings)


def trial_key(settings: Dict[str, Any], float_ops: Sequence[str]) -> str:
    return json.dumps([settings, sorted(float_ops)], sort_keys=True)


@dataclass
class SearchState:
    """Everything a search has to remember to go on after a kill.

    Attributes:
        problem: hash of model, settings and data.
        reference: metrics of the float model.
        trials: in the order they ended.
        ranking: layers, the most harmful first, and the key of the trial they were ranked in.
        notes: what the user should know.
    """

    problem: str
    path: Optional[Path] = None
    reference: Dict[str, float] = field(default_factory=dict)
    trials: List[Trial] = field(default_factory=list)
    ranking: List[str] = field(default_factory=list)
    ranked: str = ""
    notes: List[str] = field(default_factory=list)

    @classmethod
    def open(cls, path: Union[str, Path, None], problem: str) -> SearchState:
        """Reads a file; one of another problem, or that cannot be read, is set aside as ``.old``."""
        if path is None:
            return cls(problem)
        target = Path(path)
        if not target.exists():
            return cls(problem, target)
        try:
            held = json.loads(target.read_text(encoding="utf-8"))
            if held["format"] == _FORMAT and held["problem"] == problem:
                trials = [Trial(**values) for values in held["trials"]]
                return cls(problem, target, held["reference"], trials, held["ranking"], held["ranked"])
            reason = "is of another model, other settings or other data"
        except (OSError, ValueError, KeyError, TypeError):
            reason = "cannot be read"
        aside = target.with_name(target.name + ".old")
        try:
            target.replace(aside)
        except OSError as error:
            raise ConfigError(f"{target} {reason} and cannot be renamed: {error.strerror}; remove it.") from None
        return cls(
            problem, target, notes=[f"{target.name} {reason}; it is kept as {aside.name}, the search starts anew."]
        )

    def save(self) -> None:
        """Writes the file, whole or not at all."""
        if self.path is None:
            return
        values = {
            "format": _FORMAT,
            "problem": self.problem,
            "reference": self.reference,
            "ranking": self.ranking,
            "ranked": self.ranked,
            "trials": [asdict(trial) for trial in self.trials],
        }
        atomic_write(self.path, json.dumps(values, indent=1).encode())

    def find(self, key: str) -> Optional[Trial]:
        """The trial of these settings, if it has ended."""
        return next((trial for trial in self.trials if trial.key == key), None)


_PARTS = re.compile(r"(\d+(?:\.\d+)?)\s*(h|m|s)", re.IGNORECASE)
_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0}


def parse_duration(text: Union[str, float]) -> float:
    """Seconds of ``90s``, ``10m``, ``1h`` or ``1h30m``; a plain number is seconds.

    Raises:
        ConfigError: it is none of these, or not above 0.
    """
    plain = str(text).strip()
    parts = _PARTS.findall(plain)
    try:
        whole = "".join(_PARTS.sub("", plain).split()) == "" and bool(parts)
        seconds = sum(float(n) * _SECONDS[unit.lower()] for n, unit in parts) if whole else float(plain)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigError(f"The time budget '{text}' is no time; write 90s, 10m, 1h or 1h30m.")
    return seconds
