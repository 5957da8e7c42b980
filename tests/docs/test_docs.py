"""The documents hold: their Python runs, their links lead somewhere, their commands and error messages exist."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "README_zh.md", *sorted((ROOT / "docs").rglob("*.md"))]
IDS = [page.relative_to(ROOT).as_posix() for page in PAGES]


def blocks(page: Path, language: str) -> List[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)


def _with_python() -> List[Any]:
    with_code = [(page, name) for page, name in zip(PAGES, IDS) if blocks(page, "python")]
    return [
        pytest.param(page, id=name)
        for page, name in with_code
        if page.name not in ("report.md", "ptq_report.md", "prune_report.md")
    ]


@pytest.mark.parametrize("page", _with_python())
def test_python_blocks_run(page: Path, tmp_path: Path) -> None:
    """A page's blocks are one script, run in a folder of its own, as a reader would."""
    script = tmp_path / "page.py"
    script.write_text("\n".join(blocks(page, "python")), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        cwd=tmp_path, capture_output=True, text=True, check=False, env=_environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def _environment() -> Dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def _anchors(page: Path) -> set:
    """GitHub's anchors of a page's headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    titles = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.replace("`", "").lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name} links to {target}, which is not there"
        if anchor:
            assert anchor in _anchors(file), f"{page.name} links to {target}, which has no such heading"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_commands_name_files_that_exist(page: Path) -> None:
    for block in blocks(page, "bash"):
        for name in re.findall(r"(?:configs|tools|demo|benchmarks)/[\w./-]+\.(?:yml|py)", block):
            of_a_clone = page.name in ("paddleocr.md", "paddledetection.md", "paddleclas.md")
            assert of_a_clone or (ROOT / name).is_file(), f"{page.name} names {name}"


@pytest.mark.parametrize("page", PAGES, ids=IDS)
def test_slimkit_commands_parse(page: Path) -> None:
    from slimkit.cli import _parser

    for block in blocks(page, "bash"):
        for line in re.findall(r"(?:^|/)slimkit ([a-z-]+ [^\n#&]*)", block, re.M):
            _parser().parse_args(line.split())


def _sentences() -> str:
    """Every piece of text between the blanks of slimkit's f-strings, a line each."""

    def constants() -> Iterator[str]:
        for file in (ROOT / "slimkit").rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value.replace("\n", " ")

    return "\n".join(constants())


def test_troubleshooting_quotes_real_messages() -> None:
    """In the first column a message of slimkit is in quotation marks, with … for what varies."""
    said = _sentences()
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    quoted = re.findall(r"^\| “(.*?)”", text, re.M)
    assert len(quoted) >= 25
    for message in quoted:
        for piece in message.split("…"):
            assert piece.strip() in said, f"no error of slimkit says {piece.strip()!r}"


def test_ci_runs_the_readme_s_test_command() -> None:
    (line,) = re.findall(r"^.*-m pytest.*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.M)
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    tests = line.split("-m pytest", 1)[1].strip()
    assert f"-m pytest {tests}" in ci and "'.[cpu,test]'" in line and "'.[cpu,test]'" in ci


def test_both_readmes_have_the_same_commands() -> None:
    assert blocks(ROOT / "README.md", "bash") == blocks(ROOT / "README_zh.md", "bash")
    english, chinese = (blocks(ROOT / name, "bash") for name in ("docs/quick_start.md", "docs/zh/quick_start.md"))
    assert english == chinese
