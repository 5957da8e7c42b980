"""``docs/config.md`` and ``docs/report.md`` from the schemas, so that they cannot fall behind them."""

from __future__ import annotations

import json
import typing
from typing import Any, List, Sequence, Type

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from slimkit.recipe import prune_report, ptq_report
from slimkit.recipe.config import RecipeConfig
from slimkit.recipe.config_messages import section_of
from slimkit.recipe.prune_schema import PruneRecipe
from slimkit.recipe.ptq_schema import PtqRecipe
from slimkit.recipe.run_report import (
    SCHEMA_VERSION,
    Curves,
    Histogram,
    LayerResult,
    RunReport,
    RuntimeResult,
    SkippedOp,
)

__all__ = ["PAGES", "render_config_docs", "render_report_docs"]

_HEAD = """\
# Config reference

A recipe is a YAML file of the sections below; `slimkit quant -c FILE` runs it. This page is written by
`python tools/gen_config_docs.py` from the schemas: change a key's description there.

- A key that does not exist is an error which names the nearest one, with file and line.
- `-o section.key=value` on the command line changes a key; the value is read as YAML (`3`, `1e-3`, `true`,
  `null`, `[1, 2]`), so `-o train.epochs=4 verify.batch_sizes=[1,16] pact=null`.
- `base: other.yml` at the top of a file builds on another one, key by key; lists are replaced.
- Types are strict: `"8"` is no number, `yes` is a text. `1e-3` is a number.
"""

_REPORT_HEAD = """\
# report.json

`slimkit quant` leaves `report.json` beside `report.html`: the same figures, for machines. This page is
written by `python tools/gen_config_docs.py` from `slimkit.recipe.run_report`.

`schema_version` is {version}. It goes up when a field changes its meaning or goes away; fields may be added
without that. To read a report with its types:

```python
from slimkit.recipe.run_report import RunReport

report = RunReport.model_validate_json(open("output/mbv3_pact/report.json").read())
print(report.result("int8", "paddle").top1)
```
"""

_PTQ_HEAD = """\
# report.json of `slimkit ptq`

`slimkit ptq` leaves `report.json` beside `report.html`: the same figures, for machines. This page is
written by `python tools/gen_config_docs.py` from `slimkit.recipe.ptq_report`.

`schema_version` is {version}. It goes up when a field changes its meaning or goes away; fields may be added
without that. To read a report with its types:

```python
from slimkit.recipe.ptq_report import PtqRunReport

report = PtqRunReport.model_validate_json(open("output/rec_int8/report.json").read())
for result in report.results:
    print(result.title, result.model, result.metrics, result.size_ratio, result.speed_ratio)
```
"""

_PTQ_CONFIG_HEAD = """\
# Config of `slimkit ptq`

`slimkit ptq -c FILE` reads a YAML file of these keys; flags of the command line overrule it, and so does
`-o key=value`. This page is written by `python tools/gen_config_docs.py` from the schema. What the rules for files are
(unknown keys, types, `base`) is in [config.md](config.md).
"""

_PRUNE_CONFIG_HEAD = """\
# Config of `slimkit prune`

`slimkit prune -c FILE` and `slimkit sensitivity -c FILE` read a YAML file of these keys; `-o key=value` changes one.
This page is written by `python tools/gen_config_docs.py` from the schema. What the rules for files are (unknown keys,
types, `base`) is in [config.md](config.md). Give `network` and `data`, or `model` and `samples`: [prune.md](prune.md).
"""

_PRUNE_HEAD = """\
# report.json of `slimkit prune`

`slimkit prune` leaves `report.json` beside `report.html`: the same figures, for machines. This page is
written by `python tools/gen_config_docs.py` from `slimkit.recipe.prune_report`.

`schema_version` is {version}. It goes up when a field changes its meaning or goes away; fields may be added
without that. To read a report with its types:

```python
from slimkit.recipe.prune_report import PruneRunReport

report = PruneRunReport.model_validate_json(open("output/resnet_prune_sensitive/report.json").read())
print(report.costs["macs"].removed, report.figure("float"), report.figure("fine-tuned"))
```
"""

_REPORT_PARTS = (RunReport, RuntimeResult, LayerResult, Histogram, SkippedOp, Curves)
_PTQ_PARTS = (
    ptq_report.PtqRunReport,
    ptq_report.DeployedResult,
    ptq_report.Closeness,
    ptq_report.Timing,
    ptq_report.RuntimePlan,
    ptq_report.PlannedLayer,
    SkippedOp,
    ptq_report.TensorGrid,
    ptq_report.GridRange,
    Histogram,
    ptq_report.LayerError,
)

_PRUNE_PARTS = (
    prune_report.PruneRunReport,
    prune_report.Cost,
    prune_report.Stage,
    prune_report.PrunedGroup,
    ptq_report.DeployedResult,
    ptq_report.Closeness,
    ptq_report.Timing,
    SkippedOp,
    Curves,
)

_TYPES = {int: "integer", float: "number", bool: "true/false", str: "text", type(None): "null", Any: "any"}
_BOUNDS = (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))


def render_config_docs() -> str:
    """Returns the page as Markdown."""
    parts = [_HEAD]
    for name, field in RecipeConfig.model_fields.items():
        parts += _section(name, field, 2)
    return "\n".join(parts).rstrip() + "\n"


def render_ptq_config_docs() -> str:
    """Returns the description of the config of ``slimkit ptq`` as Markdown."""
    return _config_docs(_PTQ_CONFIG_HEAD, PtqRecipe)


def render_prune_config_docs() -> str:
    """Returns the description of the config of ``slimkit prune`` as Markdown."""
    return _config_docs(_PRUNE_CONFIG_HEAD, PruneRecipe)


def _config_docs(head: str, schema: Type[BaseModel]) -> str:
    """Returns keys at the top first, then the sections."""
    rows = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    sections: List[str] = []
    for name, field in schema.model_fields.items():
        nested = section_of(field.annotation)
        if nested is None:
            rows.append(f"| `{name}` | {_type(field)} | {_default(field, None)} | {_meaning(field)} |")
        else:
            sections += _section(name, field, 2)
    return "\n".join([head, *rows, "", *sections]).rstrip() + "\n"


def render_report_docs() -> str:
    """Returns the description of ``report.json`` as Markdown."""
    return _report_docs(_REPORT_HEAD.format(version=SCHEMA_VERSION), _REPORT_PARTS)


def render_ptq_report_docs() -> str:
    """Returns the description of the ``report.json`` of ``slimkit ptq`` as Markdown."""
    return _report_docs(_PTQ_HEAD.format(version=ptq_report.PTQ_SCHEMA_VERSION), _PTQ_PARTS)


def render_prune_report_docs() -> str:
    """Returns the description of the ``report.json`` of ``slimkit prune`` as Markdown."""
    return _report_docs(_PRUNE_HEAD.format(version=prune_report.PRUNE_SCHEMA_VERSION), _PRUNE_PARTS)


def _report_docs(head: str, schema: Sequence[Type[BaseModel]]) -> str:
    parts = [head]
    for part in schema:
        title = "The report" if part is schema[0] else f"`{part.__name__}`"
        parts += [f"## {title}", "", _first_paragraph(part), "", "| field | type | meaning |", "| --- | --- | --- |"]
        parts += [f"| `{key}` | {_type(item)} | {_meaning(item)} |" for key, item in part.model_fields.items()]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


#: File in docs/ -> what it must hold.
PAGES = {
    "config.md": render_config_docs,
    "prune_config.md": render_prune_config_docs,
    "prune_report.md": render_prune_report_docs,
    "ptq_config.md": render_ptq_config_docs,
    "report.md": render_report_docs,
    "ptq_report.md": render_ptq_report_docs,
}


def _section(name: str, field: FieldInfo, level: int) -> List[str]:
    section = section_of(field.annotation)
    if section is None:
        return []
    optional = " (optional: without it, off)" if type(None) in typing.get_args(field.annotation) else ""
    title = f"{'#' * level} `{name}`{optional}"
    about = [_first_paragraph(section)]
    rows = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    inner: List[str] = []
    for key, item in section.model_fields.items():
        nested = section_of(item.annotation)
        if nested is not None:
            inner += _section(f"{name}.{key}", item, level + 1)
            rows.append(f"| `{key}` | {_shape(item)} | {_default(item, nested)} | {_meaning(item)} |")
        else:
            rows.append(f"| `{key}` | {_type(item)} | {_default(item, None)} | {_meaning(item)} |")
    return [title, "", *about, "", *rows, "", *inner]


def _first_paragraph(section: Type[BaseModel]) -> str:
    text = (section.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(text.replace("``", "`").split())


def _shape(field: FieldInfo) -> str:
    many = typing.get_origin(field.annotation) is list
    return "list of sections, below" if many else "section, below"


def _type(field: FieldInfo) -> str:
    text = _type_name(field.annotation)
    bounds = []
    for attribute, sign in _BOUNDS:
        for item in field.metadata:
            value = getattr(item, attribute, None)
            if value is not None:
                bounds.append(f"{sign} {value}")
    return f"{text} {', '.join(bounds)}".strip()


def _type_name(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is typing.Union:
        return " or ".join(_type_name(argument) for argument in arguments)
    if origin is list:
        return f"list of {_type_name(arguments[0])}"
    if origin is dict:
        return f"{_type_name(arguments[0])} → {_type_name(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"`{annotation.__name__}`"
    return _TYPES.get(annotation, str(annotation))


def _default(field: FieldInfo, nested: Any) -> str:
    if field.is_required():
        return "**required**"
    if nested is not None and typing.get_origin(field.annotation) is not list:
        return ""
    value = field.get_default(call_default_factory=True)
    return f"`{json.dumps(value, ensure_ascii=False)}`"


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split()).replace("|", "\\|").replace("<", "&lt;")
