"""Pydantic's complaints about a config as one sentence: place, dotted key, what is allowed, nearest key."""

from __future__ import annotations

import json
import typing
from typing import Any, Dict, List, Optional, Tuple, Type

from pydantic import BaseModel, ValidationError

from slimkit.errors import nearest
from slimkit.recipe.yaml_source import KeyPath, Source

__all__ = ["all_keys", "section_of", "sentence"]

_KINDS = {
    "int": "an integer",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "list": "a list such as [1, 2]",
    "model": "a section (key: value lines)",
    "dict": "a section (key: value lines)",
    "model_attributes": "a section (key: value lines)",
}
_BOUNDS = {"greater_than_equal": ("at least", "ge"), "greater_than": ("greater than", "gt"),
           "less_than_equal": ("at most", "le"), "less_than": ("less than", "lt")}  # fmt: skip


def section_of(annotation: Any) -> Optional[Type[BaseModel]]:
    """Returns the section class of a field, also of a list of sections; None for plain values."""
    if typing.get_origin(annotation) is typing.Union:
        members = [a for a in typing.get_args(annotation) if a is not type(None)]
        annotation = members[0] if len(members) == 1 else None
    if typing.get_origin(annotation) is list:
        annotation = typing.get_args(annotation)[0]
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _section_at(root: Type[BaseModel], path: KeyPath) -> Type[BaseModel]:
    """Returns the section class that a path of keys (and list positions) leads to."""
    section = root
    for part in path:
        if isinstance(part, int):
            continue
        inner = section_of(section.model_fields[part].annotation)
        if inner is None:
            break
        section = inner
    return section


def all_keys(section: Type[BaseModel], prefix: str = "") -> List[str]:
    """Returns every dotted key of the schema, sections included."""
    keys: List[str] = []
    for name, field in section.model_fields.items():
        keys.append(prefix + name)
        inner = section_of(field.annotation)
        if inner is not None and typing.get_origin(field.annotation) is not list:
            keys += all_keys(inner, f"{prefix}{name}.")
    return keys


def _unknown_key(root: Type[BaseModel], path: KeyPath) -> str:
    """Says that a key does not exist, with the nearest one of its section, else of the whole schema."""
    dotted, section = ".".join(map(str, path)), _section_at(root, path[:-1])
    prefix = "".join(f"{part}." for part in path[:-1])
    close = nearest(str(path[-1]), section.model_fields)
    if close:
        return f"unknown key {dotted}; did you mean {prefix}{close}?"
    elsewhere = [key for key in all_keys(root) if key.split(".")[-1] == path[-1]]
    if elsewhere:
        return f"unknown key {dotted}; did you mean {elsewhere[0]}?"
    where = f"in {prefix[:-1]}" if prefix else "at the top"
    return f"unknown key {dotted}; the keys {where} are {', '.join(section.model_fields)}."


def _shown(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _allowed_range(root: Type[BaseModel], path: KeyPath) -> str:
    """Spells the bounds of a numeric field, e.g. ``at least 2 and at most 16``."""
    section = _section_at(root, path[:-1])
    field = section.model_fields.get(str(path[-1]))
    limits = []
    for words, attribute in _BOUNDS.values():
        for item in field.metadata if field else ():
            bound = getattr(item, attribute, None)
            if bound is not None:
                limits.append(f"{words} {bound}")
    return " and ".join(limits)


def _problem(root: Type[BaseModel], error: Dict[str, Any], path: KeyPath) -> str:
    """Turns one pydantic error into a clause without its place."""
    kind, dotted, value = error["type"], ".".join(map(str, path)), _shown(error.get("input"))
    if kind == "extra_forbidden":
        return _unknown_key(root, path)
    if kind == "missing":
        return f"the required key {dotted} is missing."
    if kind == "literal_error":
        return f"{dotted} is {value}; it must be one of {error['ctx']['expected'].replace(' or ', ', ')}."
    if kind in _BOUNDS:
        return f"{dotted} is {value}; it must be {_allowed_range(root, path) or error['msg']}."
    if kind == "too_short":
        return f"{dotted} is empty; it needs at least {error['ctx']['min_length']} item(s)."
    if kind == "string_too_short":
        return f"{dotted} is empty; it needs a text."
    if kind == "string_pattern_mismatch":
        field = _section_at(root, path[:-1]).model_fields[str(path[-1])]
        return f"{dotted} is {value}; allowed: {field.description}"
    if kind == "value_error":
        message = str(error["ctx"]["error"]).rstrip(".")
        end = "" if message.endswith("?") else "."
        return f"{message}{end}" if isinstance(error.get("input"), dict) else f"{dotted} is {value}: {message}{end}"
    base = kind[: -len("_type")] if kind.endswith("_type") else kind
    return f"{dotted} is {value}; it must be {_kind_of(root, path) or _KINDS.get(base) or error['msg']}."


def _kind_of(root: Type[BaseModel], path: KeyPath) -> str:
    """Names the types a field takes, when it takes more than one."""
    field = _section_at(root, path[:-1]).model_fields.get(str(path[-1])) if path else None
    arguments = typing.get_args(field.annotation) if field else ()
    if not field or typing.get_origin(field.annotation) is not typing.Union:
        return ""
    names = []
    for argument in arguments:
        origin = typing.get_origin(argument) or argument
        key = {int: "int", float: "float", bool: "bool", str: "string", list: "list", type(None): "null"}.get(origin)
        names.append("null" if key == "null" else _KINDS.get(key or "", _KINDS["model"]))
    return " or ".join(names)


def _field_path(root: Type[BaseModel], location: Tuple[Any, ...]) -> KeyPath:
    """Drops what pydantic adds to a location for the members of a union (``image_size.int``)."""
    path: List[Any] = []
    section: Optional[Type[BaseModel]] = root
    for part in location:
        if isinstance(part, int):
            path.append(part)
        elif section is not None:
            path.append(part)
            field = section.model_fields.get(part)
            section = section_of(field.annotation) if field else None
    return tuple(path)


def sentence(root: Type[BaseModel], error: ValidationError, source: Source) -> str:
    """Returns the first problem as a sentence, unknown keys first, and how many others there are."""
    problems: Dict[KeyPath, Dict[str, Any]] = {}
    for item in error.errors(include_url=False):
        problems.setdefault(_field_path(root, item["loc"]), dict(item))
    ordered = sorted(problems.items(), key=lambda pair: pair[1]["type"] != "extra_forbidden")
    path, first = ordered[0]
    text = f"{source.place_of(path)}: {_problem(root, first, path)}"
    others = [".".join(map(str, other)) for other, _ in ordered[1:]]
    return text + (f" ({len(others)} more: {', '.join(others)}.)" if others else "")
