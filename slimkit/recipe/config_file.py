"""Config files and ``-o`` overrides become one validated, frozen :class:`RecipeConfig`.

Every problem is one sentence that names the place (file and line, or the override), the dotted key, what
is allowed and the nearest valid key.
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Sequence, Tuple, Type, TypeVar

import yaml
from pydantic import ValidationError

from slimkit.errors import ConfigError
from slimkit.recipe.config import RecipeConfig
from slimkit.recipe.config_messages import sentence
from slimkit.recipe.section import Section
from slimkit.recipe.yaml_source import KeyPath, Source, parse_value, read_yaml

__all__ = ["load_as", "load_config"]

C = TypeVar("C", bound=Section)


def load_config(path: str, overrides: Sequence[str] = ()) -> RecipeConfig:
    """Reads, overrides and validates a config file of a recipe that compresses; see :func:`load_as`."""
    return load_as(RecipeConfig, path, overrides)


def load_as(
    schema: Type[C],
    path: Optional[str],
    overrides: Sequence[str] = (),
    flags: Optional[Mapping[str, Tuple[str, Any]]] = None,
) -> C:
    """Reads, overrides and validates a config file.

    Args:
        schema: what to validate against.
        path: the YAML file; None: everything comes from flags and overrides.
        flags: dotted key -> (the flag as it was given, for messages; its value).
        overrides: ``section.key=value`` strings; values are read as YAML (``[1, 2]``, ``null``, ``1e-3``).

    Raises:
        ConfigError: one sentence for the first problem, and the count of others.
    """
    source = read_yaml(path) if path is not None else Source(files=["the command line"])
    for key, (flag, value) in (flags or {}).items():
        _set(source, key.split("."), value, flag)
    for text in overrides:
        _override(source, text)
    try:
        return schema.model_validate(source.values)
    except ValidationError as error:
        raise ConfigError(sentence(schema, error, source)) from None


def _override(source: Source, text: str) -> None:
    """Applies one ``a.b.c=value`` to the source, in place."""
    name, equals, raw = text.partition("=")
    name = name.strip()
    place = f"-o {text}"
    if not equals or not name or any(not part for part in name.split(".")):
        raise ConfigError(f"{place}: an override is written key=value with a dotted key, such as -o train.epochs=3.")
    try:
        value = parse_value(raw)
    except yaml.YAMLError:
        raise ConfigError(
            f"{place}: the value {raw!r} is not valid YAML; quote it, as in -o '{name}=\"...\"'."
        ) from None
    _set(source, name.split("."), value, place)


def _set(source: Source, parts: List[str], value: Any, place: str) -> None:
    into = source.values
    for depth, part in enumerate(parts[:-1], 1):
        child = into[part] = {} if into.get(part) is None else into[part]
        if not isinstance(child, dict):
            dotted = ".".join(parts[:depth])
            raise ConfigError(
                f"{place}: {dotted} is a single value, with no key {parts[depth]!r}; set {dotted} itself."
            )
        source.places.setdefault(tuple(parts[:depth]), place)
        into = child
    into[parts[-1]] = value
    here: KeyPath = tuple(parts)
    source.places = {p: w for p, w in source.places.items() if p[: len(here)] != here}
    source.places[here] = place
