"""docs/tasks.md names every task and every option."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from slimkit.recipe.tasks import TASKS, task_type

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tasks.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", list(TASKS))
def test_every_option_is_explained(name: str) -> None:
    section = re.search(rf"^### {name}\n(.*?)(?=^##)", PAGE, re.M | re.S)
    assert section and f"| `{name}` |" in PAGE
    told = {
        option
        for first in re.findall(r"^\| (`.*?`) \|", section.group(1), re.M)
        for option in re.findall(r"`(\w+)`", first)
    }
    parameters = inspect.signature(task_type(name).__init__).parameters.values()
    assert told == {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
