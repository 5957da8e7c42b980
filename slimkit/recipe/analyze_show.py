"""The terminal's form of an analysis."""

from __future__ import annotations

from typing import List, Optional, Sequence, Tuple

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from slimkit.recipe.analyze_rows import curve_rows, layer_rows, rules_text, verdict
from slimkit.recipe.analyze_run import AnalyzeReport

__all__ = ["show_analysis"]

_SHOWN = 12


def show_analysis(report: AnalyzeReport, console: Optional[Console] = None) -> None:
    """Prints the worst layers, the curve and the rules.

    Args:
        report: what was found.
        console: where to; None: the terminal.
    """
    if console is None:
        console = Console(highlight=False)
        console = console if console.is_terminal else Console(highlight=False, width=120)
    found = report.analysis
    console.print(f"\n[bold]{escape(report.title)}[/]")
    console.print(
        f"[dim]{len(found.layers)} quantized layers, {found.samples} samples, {sum(found.seconds.values()):.1f} s; "
        "SQNR in dB, higher is better[/]\n"
    )
    columns = ["layer, most harmful first", "op", "results", "own", "weight", "activation", "all quantized", "due to"]
    keys = ("name", "type", "final", "own", "weight", "activation", "accumulated", "cause")
    _table(console, columns, [tuple(row[key] for key in keys) for row in layer_rows(found, _SHOWN)], range(2, 7))
    if len(found.layers) > _SHOWN:
        console.print(f"[dim]and {len(found.layers) - _SHOWN} more: --json, --report[/]")
    console.print()
    names = ["float", "layer", "results", *([report.headline] if report.headline else []), ""]
    rows = curve_rows(found, report.headline)
    fields = ("count", "layer", "sqnr", *(("metric",) if report.headline else ()), "suggested")
    _table(console, names, [tuple(row[key] for key in fields) for row in rows], (0, 2, 3))
    for note in report.notes:
        console.print(f"\n[yellow]note[/] {escape(note)}")
    if found.rules:
        console.print("\n[dim]In the config of slimkit ptq:[/]")
        console.print(Padding(escape(rules_text(found)), (0, 0, 0, 2), expand=False))
    console.print()
    console.print(Padding(f"[bold]{escape(verdict(found, report.headline))}[/]", (0, 0, 1, 0), expand=False))


def _table(console: Console, columns: List[str], rows: Sequence[Tuple[str, ...]], numbers: Sequence[int]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for index, name in enumerate(columns):
        table.add_column(name, justify="right" if index in numbers else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)
