"""Reading YAML config files so that every value remembers the file and line it came from.

Scalars follow the YAML 1.2 core schema: ``1e-3`` is a number (PyYAML reads a string), ``on`` and ``no``
are strings. A key written twice in one mapping is an error instead of a silent overwrite.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Tuple

import yaml

from slimkit.errors import ConfigError

__all__ = ["KeyPath", "Source", "parse_value", "read_yaml"]

KeyPath = Tuple[Any, ...]

BASE_KEY = "base"

_RESOLVERS: List[Tuple[str, str, str]] = [
    ("tag:yaml.org,2002:bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("tag:yaml.org,2002:int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    (
        "tag:yaml.org,2002:float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+0123456789.",
    ),
    ("tag:yaml.org,2002:null", r"^(?:~|null|Null|NULL|)$", "~nN\0"),
    ("tag:yaml.org,2002:merge", r"^(?:<<)$", "<"),
]


class _CoreLoader(yaml.SafeLoader):
    """SafeLoader with the YAML 1.2 core schema's scalars."""

    yaml_implicit_resolvers: Dict[str, list] = {}


def _construct_int(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 0) if text[:2] in ("0x", "0o") else int(text)


for _tag, _regexp, _first in _RESOLVERS:
    # An empty scalar is looked up under "", which PyYAML writes as an empty first character.
    _CoreLoader.add_implicit_resolver(_tag, re.compile(_regexp), [c if c != "\0" else "" for c in _first])
_CoreLoader.add_constructor("tag:yaml.org,2002:int", _construct_int)


@dataclass
class Source:
    """A config as read: plain values, and the place (``file:line`` or ``-o key=value``) of every key."""

    values: Dict[str, Any] = field(default_factory=dict)
    places: Dict[KeyPath, str] = field(default_factory=dict)
    files: List[str] = field(default_factory=list)

    def place_of(self, path: KeyPath) -> str:
        """Returns where ``path`` was written, or else its nearest written parent, or the file."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.places:
                return self.places[path[:end]]
        return self.files[-1] if self.files else "the config"


def parse_value(text: str) -> Any:
    """Parses the value of an override as YAML: numbers, true/false, null, lists and mappings.

    Raises:
        yaml.YAMLError: the text is not YAML.
    """
    return yaml.load(text, Loader=_CoreLoader)


def _shown(path: str) -> str:
    """Returns ``path`` relative to the current directory when it lies below it."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def _convert(loader: _CoreLoader, node: yaml.Node, path: KeyPath, name: str, places: Dict[KeyPath, str]) -> Any:
    """Turns a YAML node into plain values, recording the line of every key and list item."""
    places.setdefault(path, f"{name}:{node.start_mark.line + 1}")
    if isinstance(node, yaml.MappingNode):
        loader.flatten_mapping(node)
        result: Dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = loader.construct_object(key_node, deep=True)
            place = f"{name}:{key_node.start_mark.line + 1}"
            if not isinstance(key, str):
                raise ConfigError(f"{place}: a key must be a name, not {key!r}; quote it if it is meant as text.")
            if key in result:
                dotted = ".".join(map(str, (*path, key)))
                raise ConfigError(f"{place}: the key {dotted} is given twice in this file; keep one of them.")
            here = (*path, key)
            places[here] = place
            result[key] = _convert(loader, value_node, here, name, places)
        return result
    if isinstance(node, yaml.SequenceNode):
        return [_convert(loader, item, (*path, i), name, places) for i, item in enumerate(node.value)]
    return loader.construct_object(node, deep=True)


def _syntax_error(name: str, error: yaml.YAMLError) -> ConfigError:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).splitlines()[0]
    if mark is None:
        return ConfigError(f"{name}: not valid YAML: {problem}.")
    line = f"{name}:{mark.line + 1}:{mark.column + 1}"
    snippet = (mark.get_snippet(indent=0, max_length=80) or "").splitlines()
    shown = f" at `{snippet[0].strip()}`" if snippet and snippet[0].strip() else ""
    return ConfigError(f"{line}: not valid YAML: {problem}{shown}.")


def _read_one(path: str) -> Source:
    name = _shown(path)
    try:
        with open(path, encoding="utf-8") as handle:
            text = handle.read()
    except FileNotFoundError:
        raise ConfigError(
            f"{name}: no such config file; `-c` takes a .yml file such as configs/mbv3_pact.yml."
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{name}: the config file cannot be read: {reason}.") from None
    source = Source(files=[name])
    loader = _CoreLoader(text)
    try:
        node = loader.get_single_node()
        values = _convert(loader, node, (), name, source.places) if node is not None else {}
    except yaml.YAMLError as error:
        raise _syntax_error(name, error) from None
    finally:
        loader.dispose()
    if not isinstance(values, dict):
        raise ConfigError(
            f"{name}: a config is a mapping of sections (run:, data:, ...), not a {type(values).__name__}."
        )
    source.values = values
    return source


def _merge(base: Source, top: Source, path: KeyPath = ()) -> None:
    """Lays ``top`` over ``base`` in place: mappings merge key by key, anything else is replaced."""
    into, over = base.values, top.values
    for key in path:
        into, over = into[key], over[key]
    for key, value in over.items():
        here = (*path, key)
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            base.places[here] = top.place_of(here)
            _merge(base, top, here)
            continue
        into[key] = value
        base.places = {p: w for p, w in base.places.items() if p[: len(here)] != here}
        base.places.update({p: w for p, w in top.places.items() if p[: len(here)] == here})


def read_yaml(path: str, _seen: Optional[List[str]] = None) -> Source:
    """Reads a config file and the files its ``base:`` key builds on.

    Args:
        path: the file. Its optional key ``base`` names another config, relative to it, which it changes
            key by key (lists are replaced, not joined).

    Returns:
        Values without the ``base`` key, and the place of every key.

    Raises:
        ConfigError: missing file, YAML syntax error (with file:line:column), key given twice, base loop.
    """
    seen = list(_seen or [])
    full = os.path.abspath(path)
    if full in seen:
        raise ConfigError(f"{_shown(path)}: `base` leads back to this same file; remove the loop.")
    top = _read_one(path)
    base_name = top.values.pop(BASE_KEY, None)
    if base_name is None:
        return top
    if not isinstance(base_name, str):
        raise ConfigError(
            f"{top.place_of((BASE_KEY,))}: base must be the file name of another config, not {base_name!r}."
        )
    base = read_yaml(os.path.join(os.path.dirname(full), base_name), [*seen, full])
    _merge(base, top)
    base.files.append(top.files[0])
    return base
