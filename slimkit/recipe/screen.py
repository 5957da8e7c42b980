"""What a run shows on the terminal: four steps, facts under each, and one progress bar."""

from __future__ import annotations

from typing import Any, Dict, List, Optional, Sequence, Tuple

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from slimkit.recipe.progress import Progress as RunProgress
from slimkit.recipe.run_report import RunReport
from slimkit.recipe.training import Watcher

__all__ = ["STEPS", "Screen", "ScreenWatcher", "show_results"]

STEPS = ("Choose the quantization config", "Convert the model", "Train", "Save and verify")


def _console() -> Console:
    """Returns the terminal; what is redirected to a file is 120 columns wide, not rich's 80."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


class Screen:
    """The terminal of one run; a context manager, since the bar is live while it is entered."""

    def __init__(self, console: Optional[Console] = None) -> None:
        self.console = console or _console()
        self._bar = Progress(
            TextColumn("     {task.description}"),
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=self.console,
            transient=True,
        )
        self._task = self._bar.add_task("", visible=False, note="")

    def __enter__(self) -> Screen:
        self._bar.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._bar.stop()

    def line(self, text: str = "", style: str = "") -> None:
        """Prints a line of plain text."""
        self.console.print(escape(text), style=style or None)

    def step(self, number: int) -> None:
        """Prints the heading of one of the four steps."""
        self.end()
        self.console.print(f"\n[bold cyan]{number}/{len(STEPS)}[/]  [bold]{STEPS[number - 1]}[/]")

    def heading(self, text: str) -> None:
        """Prints the heading of a step of another kind of run."""
        self.end()
        self.console.print(f"\n[bold cyan]{escape(text)}[/]")

    def fact(self, name: str, value: Any) -> None:
        """Prints one fact under a step."""
        self._row(f"[dim]{escape(name)}[/]", str(value))

    def warn(self, text: str) -> None:
        """Prints something the user should know."""
        self._row("[yellow]note[/]", text)

    def _row(self, name: str, text: str) -> None:
        """Prints a name and a text that wraps beside it."""
        grid = Table.grid(padding=(0, 1, 0, 0))
        grid.add_column(width=12)
        grid.add_column(overflow="fold")
        grid.add_row(name, escape(text))
        self.console.print(Padding(grid, (0, 0, 0, 5), expand=False))

    def begin(self, description: str, total: Optional[int]) -> None:
        """Starts the bar anew for some work; ``total`` None pulses."""
        self._bar.reset(self._task, description=description, total=total, visible=True, note="")

    def advance(self, note: str = "", by: int = 1) -> None:
        """Moves the bar."""
        if note:
            self._bar.update(self._task, note=note)
        self._bar.advance(self._task, by)

    def at(self, completed: int) -> None:
        """Sets the bar's position, as when a run is resumed."""
        self._bar.update(self._task, completed=completed)

    def end(self) -> None:
        """Hides the bar."""
        self._bar.update(self._task, visible=False)

    def table(self, columns: Sequence[str], rows: Sequence[Tuple[str, ...]]) -> None:
        """Prints a table; columns after the second are numbers."""
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for index, name in enumerate(columns):
            right = index > 1
            table.add_column(name, justify="right" if right else "left", no_wrap=right, overflow="fold")
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        self.console.print(Padding(table, (0, 0, 0, 5), expand=False))


class ScreenWatcher(Watcher):
    """Shows the training on the screen."""

    def __init__(self, screen: Screen, total: int, epochs: int, done: int) -> None:
        self.screen, self.total, self.epochs = screen, total, epochs
        self._resume_bar(done)

    def _resume_bar(self, done: int) -> None:
        self.screen.begin("training", max(1, self.total))
        self.screen.at(done)

    def on_step(self, progress: RunProgress, loss: float, rate: float) -> None:
        self.screen.advance(f"loss {loss:.3f}  lr {rate:.2g}")

    def on_evaluation_start(self, batches: int) -> None:
        self.screen.begin("evaluating", batches)

    def on_evaluation_batch(self) -> None:
        self.screen.advance()

    def on_evaluation(self, progress: RunProgress) -> None:
        last = progress.evaluations[-1]
        text = f"top-1 {last['top1'] * 100:.2f}% simulated"
        if progress.curve.loss:
            recent: List[float] = progress.curve.loss[-20:]
            text = f"loss {sum(recent) / len(recent):.3f}   {text}"
        if progress.best_step == progress.step:
            text += "   best so far"
        self.screen.fact(f"epoch {last['epoch']}/{self.epochs}", text)
        self._resume_bar(progress.step)


def show_results(screen: Screen, report: RunReport) -> None:
    """Prints the table of runtimes and the sentence that sums the run up."""
    from slimkit.recipe.html_report import runtime_rows, verdict

    sizes = report.config["verify"]["batch_sizes"]
    rows = runtime_rows(report)
    screen.console.print()
    screen.table(
        ["runtime", "state", "top-1", "against float", "size", *(f"batch {size}" for size in sizes)],
        [(r["runtime"], r["state"], r["top1"], r["delta"], r["size"], *r["latency"]) for r in rows],
    )
    reasons: Dict[str, List[str]] = {}
    for row in rows:
        if row["status"] in ("failed", "unavailable"):
            reasons.setdefault(" ".join(row["notes"]), []).append(row["runtime"])
    for reason, titles in reasons.items():
        screen.warn(f"{' and '.join(titles)}: {reason}")
    screen.console.print()
    screen.console.print(Padding(f"[bold]{escape(verdict(report))}[/]", (0, 0, 1, 5), expand=False))
