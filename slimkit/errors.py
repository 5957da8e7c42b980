"""The errors slimkit raises for its user.

Every message says what was wrong, where (file, op, tensor, shape), what is allowed, and the remedy.
"""

from __future__ import annotations

import difflib
from typing import Iterable, Optional

__all__ = [
    "ConfigError",
    "DataError",
    "EvaluationError",
    "ModelError",
    "NumericsError",
    "RuntimeFailedError",
    "RuntimeUnavailableError",
    "SlimkitError",
    "TrainingError",
    "TranslationError",
    "nearest",
    "suggestion",
]


class SlimkitError(Exception):
    """Base of every error slimkit raises on purpose; the command line prints its message alone."""


class ConfigError(SlimkitError):
    """A config file, an override or an argument is not what the schema allows."""


class ModelError(SlimkitError):
    """A model file or program cannot be read, written or edited as asked."""


class TranslationError(ModelError):
    """An op of a PIR program has no row (or no legal form) in the PIR -> ProgramDesc table."""


class DataError(SlimkitError):
    """A dataset, image, label file or feed is missing or malformed."""


class EvaluationError(SlimkitError):
    """A model could not be evaluated: the evaluation raised, or gave no usable figure."""


class NumericsError(SlimkitError, ValueError):
    """A number, bit width, axis or shape the quantization arithmetic has no answer for."""


class TrainingError(SlimkitError):
    """Training cannot go on (NaN loss, no trainable parameter, checkpoint of another run)."""


class RuntimeUnavailableError(SlimkitError):
    """A deployment runtime is not installed; the message says how to get it."""


class RuntimeFailedError(SlimkitError):
    """A deployment runtime was found but refused or crashed on the model."""


def nearest(name: str, allowed: Iterable[str]) -> Optional[str]:
    """Returns the allowed name closest to ``name``, or None when nothing is close."""
    found = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return found[0] if found else None


def suggestion(name: str, allowed: Iterable[str]) -> str:
    """Returns how a sentence about an unknown name ends: ``; did you mean 'paddle'?``, or a full stop."""
    close = nearest(name, allowed)
    return f"; did you mean '{close}'?" if close else "."
