"""What all HTML reports share: the page's frame, number formats, and parts of their tables."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

from slimkit.recipe.run_report import SkippedOp

__all__ = ["DASH", "STATE_NAMES", "card", "duration", "facts_line", "percent", "points", "render_page", "size_text",
           "skipped_groups"]  # fmt: skip

STATE_NAMES = {"ok": "run", "unavailable": "not available", "failed": "failed", "converted": "converted only"}
DASH = "–"


def render_page(template: str, **values: Any) -> str:
    """Renders a template of ``templates/``: autoescaped, the style sheet in the page; ``code`` filters backticks."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup, escape

    folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "templates")
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["code"] = lambda text: Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))
    with open(os.path.join(folder, "report.css"), encoding="utf-8") as handle:
        css = handle.read()
    return environment.get_template(template).render(css=Markup(css), **values)


def percent(value: Optional[float], digits: int = 2) -> str:
    """Formats a fraction."""
    return DASH if value is None else f"{value * 100:.{digits}f}%"


def size_text(value: Optional[int]) -> str:
    """Formats bytes."""
    if value is None:
        return DASH
    return f"{value / 1e6:.2f} MB" if value >= 1e5 else f"{value / 1e3:.1f} kB"


def points(value: float) -> str:
    """Formats a difference of accuracies in percentage points, with a real minus sign."""
    return f"{value * 100:+.2f}".replace("-", "\u2212")


def duration(seconds: float) -> str:
    """Formats a wall time."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def card(name: str, big: str, lines: List[str], tone: str = "") -> Dict[str, Any]:
    """Returns a card; ``tone`` colours its first line."""
    tones = [tone] + [""] * len(lines)
    return {"name": name, "big": big, "lines": [{"text": t, "tone": c} for t, c in zip(lines, tones)]}


def skipped_groups(skipped: Sequence[SkippedOp]) -> List[Dict[str, Any]]:
    """Returns the ops left float by reason, the commonest first."""
    groups: Dict[str, List[Any]] = {}
    for op in skipped:
        groups.setdefault(op.reason, []).append(op)
    return [
        {
            "reason": reason,
            "count": len(ops),
            "types": ", ".join(sorted({op.type for op in ops})),
            "names": ", ".join(op.op for op in ops[:40]) + (", …" if len(ops) > 40 else ""),
        }
        for reason, ops in sorted(groups.items(), key=lambda pair: -len(pair[1]))
    ]


def facts_line(values: Mapping[str, Any]) -> str:
    """Returns a dict as "key value, key value", without what is empty; dicts within it are taken apart."""
    parts = []
    for key, value in values.items():
        if isinstance(value, Mapping):
            inner = facts_line(value)
            parts += [f"{key.replace('_', ' ')}: {inner}"] if inner else []
        elif value not in ("", None, []):
            text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
            parts.append(f"{key.replace('_', ' ')} {text}")
    return ", ".join(parts)


def facts(rows: Sequence[Tuple[str, Dict[str, Any]]]) -> List[Tuple[str, str]]:
    """Returns the rows of a list of facts, without those that are empty."""
    return [(name, facts_line(values)) for name, values in rows if values]
