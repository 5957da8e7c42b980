"""Turning pydantic's complaints into slimkit's one sentence: what, where, what is allowed, the remedy."""

from __future__ import annotations

from typing import Any, Iterator, List, Mapping, Sequence, Type, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from slimkit.errors import ConfigError, nearest

__all__ = ["build", "sentence"]

M = TypeVar("M", bound=BaseModel)


def sentence(error: Mapping[str, Any], where: str, allowed: List[str]) -> str:
    """One pydantic error as a sentence.

    Args:
        error: an item of ``ValidationError.errors()``.
        where: what was being read, e.g. ``quant config`` or ``configs/a.yml:12``.
        allowed: the valid keys at the error's place, for the nearest-name hint.
    """
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        name = str(error["loc"][-1])
        close = nearest(name, allowed)
        hint = f"did you mean '{close}'?" if close else f"allowed: {', '.join(sorted(allowed))}."
        return f"{where}: unknown key '{key}'; {hint}"
    message = str(error["msg"]).replace("Value error, ", "").replace("Input should be", "it must be")
    end = "" if message.endswith("?") else "."
    return f"{where}: {key} = {error.get('input')!r}: {message.rstrip('.')}{end}"


def _models(annotation: Any) -> Iterator[Type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models(part)


def _keys_at(cls: Type[BaseModel], place: Sequence[Any]) -> List[str]:
    """The valid keys of the section at a place such as ``("rules", 0)``."""
    for part in place:
        field = cls.model_fields.get(part) if isinstance(part, str) else None
        cls = next(_models(field.annotation), cls) if field is not None else cls
    return list(cls.model_fields)


def build(cls: Type[M], values: Mapping[str, Any], where: str) -> M:
    """Validates a mapping into a pydantic model.

    Raises:
        ConfigError: one sentence for the first thing that is wrong.
    """
    if isinstance(values, cls):
        return values
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where} must be a dict of settings, not {type(values).__name__}.")
    try:
        return cls.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(sentence(first, where, _keys_at(cls, first["loc"][:-1]))) from None
