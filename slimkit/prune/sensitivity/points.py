"""``Sensitivities``: what a metric loses when one parameter alone is pruned, for each parameter and ratio."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, Mapping, Optional, Tuple, Union

from slimkit.errors import ConfigError, DataError, EvaluationError, suggestion
from slimkit.files import atomic_write
from slimkit.prune.sensitivity import formats

__all__ = ["Sensitivities", "loss_of", "ratio_key"]

#: Baselines of two files that differ by more than this, relatively, are of two evaluations.
_SAME_BASELINE = 1e-6

Losses = Dict[str, Dict[float, float]]


def ratio_key(ratio: Any) -> float:
    """A ratio as a key: ``numpy.arange(0.1, 1, 0.1)`` gives 0.30000000000000004 where 0.3 is meant."""
    return round(float(ratio), 10)


def loss_of(baseline: float, metric: float) -> float:
    """What is lost, as a fraction of the baseline: ``(baseline - metric) / baseline``, as PaddleSlim defines it.

    Raises:
        EvaluationError: the baseline is 0.
    """
    if baseline == 0:
        raise EvaluationError(
            "The metric of the unpruned network is 0, so no loss can be given as a fraction of it; check the weights, "
            "the labels and the evaluation."
        )
    return (baseline - metric) / baseline


class Sensitivities(Mapping[str, Mapping[float, float]]):
    """Parameter -> ratio -> loss; a mapping, in the order it was measured in.

    Args:
        losses: parameter -> ratio of its units that went -> loss, a fraction of the baseline.
        baseline: the metric of the unpruned network; None where it is not known, as in PaddleSlim's files.
        criterion: by which units were chosen; None: not known.
        model: fingerprint of the network; None: not known.
        meta: anything else that JSON holds.
    """

    def __init__(
        self,
        losses: Optional[Mapping[str, Mapping[float, float]]] = None,
        *,
        baseline: Optional[float] = None,
        criterion: Optional[str] = None,
        model: Optional[str] = None,
        meta: Optional[Mapping[str, Any]] = None,
    ) -> None:
        self.baseline, self.criterion, self.model = baseline, criterion, model
        self.meta: Dict[str, Any] = dict(meta or {})
        self._losses: Losses = {}
        for parameter, points in (losses or {}).items():
            self._losses[parameter] = {}
            for ratio, loss in points.items():
                self.add(parameter, ratio, loss)

    # ---------------------------------------------------------------- as a mapping

    def __getitem__(self, parameter: str) -> Mapping[float, float]:
        if parameter not in self._losses:
            raise KeyError(f"no sensitivity of '{parameter}' was measured{suggestion(parameter, self._losses)}")
        return self._losses[parameter]

    def __iter__(self) -> Iterator[str]:
        return iter(self._losses)

    def __len__(self) -> int:
        return len(self._losses)

    def __repr__(self) -> str:
        return f"Sensitivities({len(self)} parameters, {self.points} points, baseline {self.baseline})"

    @property
    def points(self) -> int:
        """Number of points."""
        return sum(len(points) for points in self._losses.values())

    def has(self, parameter: str, ratio: float) -> bool:
        """Whether a point is known."""
        return ratio_key(ratio) in self._losses.get(parameter, ())

    def add(self, parameter: str, ratio: float, loss: float) -> None:
        """Adds a point."""
        self._losses.setdefault(parameter, {})[ratio_key(ratio)] = float(loss)

    def curve(self, parameter: str) -> Tuple[Tuple[float, ...], Tuple[float, ...]]:
        """Ratios, ascending, and their losses."""
        found = sorted(self[parameter].items())
        return tuple(ratio for ratio, _ in found), tuple(loss for _, loss in found)

    def as_dict(self) -> Losses:
        """A copy as plain dicts, as PaddleSlim has it."""
        return {parameter: dict(points) for parameter, points in self._losses.items()}

    def header(self) -> Dict[str, Any]:
        """All but the points."""
        return {"baseline": self.baseline, "criterion": self.criterion, "model": self.model, "meta": self.meta}

    # ---------------------------------------------------------------- files

    @classmethod
    def load(cls, path: Union[str, Path]) -> Sensitivities:
        """Reads a file of slimkit, of a run that is still going on or was killed too, or of PaddleSlim.

        Raises:
            DataError: there is no such file, it is damaged, or a pickle that holds more than numbers.
        """
        header, losses = formats.read(Path(path))
        return cls._of(header, losses, str(path))

    @classmethod
    def _of(cls, header: Mapping[str, Any], losses: Any, where: str) -> Sensitivities:
        made = cls(
            baseline=header.get("baseline"),
            criterion=header.get("criterion"),
            model=header.get("model"),
            meta=header.get("meta"),
        )
        try:
            for parameter, points in losses.items():
                made._losses.setdefault(str(parameter), {})
                for ratio, loss in points.items():
                    made.add(str(parameter), float(ratio), float(loss))
        except (AttributeError, TypeError, ValueError):
            raise DataError(
                f"{where} holds no sensitivities: it must be {{parameter: {{ratio: loss}}}}; give a file that slimkit "
                "or PaddleSlim wrote."
            ) from None
        return made

    def save(self, path: Union[str, Path]) -> Path:
        """Writes the file, as JSON; it appears whole or not at all.

        Raises:
            SlimkitError: it cannot be written.
        """
        return atomic_write(path, formats.document(self.header(), self._losses))

    # ---------------------------------------------------------------- joining

    @classmethod
    def merge(cls, parts: Iterable[Union[Sensitivities, Mapping[str, Mapping[float, float]], str, Path]]) -> Any:
        """Joins what several machines measured; of a point that two have, the last one's loss is taken.

        Args:
            parts: sensitivities, PaddleSlim's dicts, or files.

        Raises:
            ConfigError: there is none, or they are of two networks, criteria or evaluations.
            DataError: a file cannot be read.
        """
        if isinstance(parts, (str, Path)) or not isinstance(parts, Iterable):
            raise ConfigError(f"Give a list of files or dicts to merge, not {parts!r} by itself.")
        merged: Optional[Sensitivities] = None
        for number, part in enumerate(parts, 1):
            found = part if isinstance(part, Sensitivities) else cls._read(part)
            name = str(part) if isinstance(part, (str, Path)) else f"part {number}"
            if merged is None:
                merged = cls(meta=found.meta)
            merged._absorb(found, name)
        if merged is None:
            raise ConfigError("There are no sensitivities to merge; give at least one file or dict.")
        return merged

    @classmethod
    def _read(cls, part: Any) -> Sensitivities:
        if isinstance(part, (str, Path)):
            return cls.load(part)
        return cls._of({}, part, f"The {type(part).__name__} given")

    def _absorb(self, other: Sensitivities, name: str) -> None:
        for what in ("model", "criterion"):
            one, another = getattr(self, what), getattr(other, what)
            if None not in (one, another) and one != another:
                raise ConfigError(
                    f"{name} cannot be merged: it is of another {what} ({another}) than those before it ({one}); merge "
                    "only what was measured on one network with one criterion."
                )
        mine, its = self.baseline, other.baseline
        if mine is not None and its is not None and not math.isclose(mine, its, rel_tol=_SAME_BASELINE):
            raise ConfigError(
                f"{name} cannot be merged: its baseline is {its:.6g}, that of those before it {mine:.6g}; measure all "
                "on the same weights and evaluation data."
            )
        self.model = self.model or other.model
        self.criterion = self.criterion or other.criterion
        self.baseline = its if mine is None else mine
        for parameter, points in other._losses.items():
            self._losses.setdefault(parameter, {}).update(points)
