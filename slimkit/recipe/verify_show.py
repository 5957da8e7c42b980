"""The terminal's form of a verification: a table, the sentences to it, and the verdict."""

from __future__ import annotations

from typing import Any, List, Optional, Tuple

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from slimkit.recipe.html_parts import DASH
from slimkit.recipe.ptq_report import PtqRunReport
from slimkit.recipe.ptq_rows import deployed_rows, figure_name, verdict

__all__ = ["show_verification"]


def show_verification(report: PtqRunReport, console: Optional[Console] = None) -> None:
    """Prints the results of a verification or a post-training quantization.

    Args:
        report: what was found.
        console: where to; None: the terminal.
    """
    console = console or _console()
    rows = deployed_rows(report)
    columns = _columns(report)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for index, (name, _) in enumerate(columns):
        table.add_column(name, justify="right" if index else "left", no_wrap=bool(index), overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell(row)) for _, cell in columns))
    console.print()
    console.print(table)
    for note in report.notes:
        console.print(f"[yellow]note[/] {escape(note)}")
    for row in rows:
        if row["notes"]:
            console.print(f"\n[bold]{escape(row['runtime'])}[/]")
            for note in row["notes"]:
                console.print(Padding(escape(note), (0, 0, 0, 2), expand=False))
    console.print()
    console.print(Padding(f"[bold]{escape(verdict(report))}[/]", (0, 0, 1, 0), expand=False))


def _columns(report: PtqRunReport) -> List[Tuple[str, Any]]:
    """Heading and cell of each column; that of a metric only where there is one."""
    columns: List[Tuple[str, Any]] = [("runtime", lambda row: row["runtime"])]
    if report.headline:
        columns.append((figure_name(report.headline), lambda row: _two(row["figure"], row["delta"])))
    columns.append(("SQNR\ncosine", lambda row: _two(row["sqnr"], row["cosine"])))
    columns.append(("size", lambda row: _two(row["size"], row["ratio"])))
    columns.append(("int8 / float\nops", lambda row: row["ops"]))
    for index, size in enumerate(report.batch_sizes):
        columns.append((f"batch {size}\np10–p90", lambda row, at=index: _latency(row["latency"][at])))
    return columns


def _two(upper: str, lower: str) -> str:
    return upper if lower == DASH else f"{upper}\n{lower}"


def _latency(cell: Any) -> str:
    speed = f" {cell['speed']}" if cell["speed"] else ""
    return f"{cell['median']}{speed}\n{cell['spread']}" if cell["spread"] else str(cell["median"])


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=140)
