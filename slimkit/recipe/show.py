"""What ``slimkit inspect``, ``convert`` and ``lite-install`` print."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Dict, List, Optional, Sequence, Tuple

from rich.console import Console
from rich.markup import escape
from rich.table import Table

__all__ = ["show_conversion", "show_inspection", "show_lite_install"]

_MOST_OPS = 12
_MOST_NAMES = 4


def _console() -> Console:
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=120)


def _facts(console: Console, facts: Sequence[Tuple[str, str]]) -> None:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in facts:
        grid.add_row(name, escape(text))
    console.print(grid)


def _bytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e5 else f"{count / 1e3:.1f} kB"


def show_inspection(path: str, *, as_json: bool = False) -> None:
    """Prints what a model is.

    Args:
        path: prefix, file or folder.
        as_json: print JSON instead.

    Raises:
        ModelError: there is no model, or it cannot be read.
    """
    from slimkit.deploy import inspect

    found = inspect(path)
    console = _console()
    if as_json:
        console.print_json(json.dumps(found.to_dict()))
        return
    total = sum(found.ops.values())
    listed = ", ".join(f"{name} {count}" for name, count in list(found.ops.items())[:_MOST_OPS])
    more = ", ..." if len(found.ops) > _MOST_OPS else ""
    sizes = ", ".join(f"{name} {_bytes(count)}" for name, count in found.files.items())
    dtypes = ", ".join(f"{name} {_bytes(count)}" for name, count in found.parameter_bytes.items())
    facts = [
        ("model", found.path),
        ("format", found.description),
        ("inputs", "; ".join(_tensor(t) for t in found.feeds)),
        ("outputs", "; ".join(_tensor(t) for t in found.fetches)),
        ("ops", f"{total}: {listed}{more}" + (f"; {found.sub_blocks} sub-blocks" if found.sub_blocks else "")),
        ("parameters", f"{found.parameters:,} numbers" + (f": {dtypes}" if dtypes else "")),
        ("size", f"{_bytes(found.size_bytes)}: {sizes}"),
    ]
    _facts(console, [(name, text) for name, text in facts if text])
    _quantization(console, found)


def _tensor(tensor: Any) -> str:
    shape = ", ".join("?" if side < 0 else str(side) for side in tensor.shape)
    return f"{tensor.name} {tensor.dtype} [{shape}]"


def _quantization(console: Console, found: Any) -> None:
    """Prints the quantized layers by kind, the ones left float by reason, and a Paddle-Lite model's kernels."""
    kinds: Counter = Counter((q.op, q.weight_bits, q.activation_bits, q.scheme) for q in found.quantized)
    rows = [
        (op, str(count), f"W{weight or 'float'} A{activation or 'float'}", scheme or "")
        for (op, weight, activation, scheme), count in kinds.most_common()
    ]
    _table(console, ["quantized op", "count", "bits", "weight scales"], rows)
    left: Dict[Tuple[str, str], List[str]] = {}
    for layer in found.left_float:
        left.setdefault((layer.op, layer.reason), []).append(layer.weight or "")
    rows = [(op, str(len(names)), why, _some(names)) for (op, why), names in left.items()]
    _table(console, ["left float", "count", "why", "weights"], sorted(rows, key=lambda row: -int(row[1])))
    kernels: Dict[str, Dict[str, int]] = found.kernels
    listed = [(op, ", ".join(f"{name} {n}" for name, n in counts.items())) for op, counts in kernels.items()]
    _table(console, ["op", "kernels"], listed)


def _some(names: Sequence[str]) -> str:
    named = [name for name in names if name]
    more = f", ... ({len(named) - _MOST_NAMES} more)" if len(named) > _MOST_NAMES else ""
    return ", ".join(named[:_MOST_NAMES]) + more


def _table(console: Console, columns: List[str], rows: Sequence[Tuple[str, ...]]) -> None:
    if not rows:
        return
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for name in columns:
        table.add_column(name, justify="right" if name == "count" else "left", overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print()
    console.print(table)


def show_conversion(source: str, target: str) -> None:
    """Converts any Paddle model to ``.pdmodel`` + ``.pdiparams`` and prints what was written.

    Args:
        source: a Paddle 3 ``.json`` or a ``.pdmodel``, a prefix or a folder.
        target: prefix to write, or a folder (existing, or ending in ``/``).

    Raises:
        ModelError: the source cannot be read, or the target cannot be written.
        TranslationError: an op has no legacy form.
    """
    from slimkit.deploy import model_size
    from slimkit.ir import Model, convert

    written = convert(source, target)
    model = Model.load(written)
    console = _console()
    ops = sum(model.op_counts().values())
    _facts(
        console,
        [
            ("read", source),
            ("written", str(written)),
            ("", str(written.with_suffix(".pdiparams"))),
            ("inputs", ", ".join(model.feeds)),
            ("outputs", ", ".join(model.fetches)),
            ("ops", str(ops)),
            ("size", str(model_size(written))),
        ],
    )


def show_lite_install(folder: Optional[str], python: Optional[str]) -> None:
    """Sets up Paddle-Lite's interpreter and prints where it is.

    Args:
        folder: the virtual environment to make; None: in slimkit's cache folder.
        python: CPython 3.10 or 3.8 to build it on; None: searched.

    Raises:
        RuntimeUnavailableError: no such CPython.
        RuntimeFailedError: the installation failed.
    """
    from slimkit.deploy import install_interpreter
    from slimkit.deploy.lite_interpreter import settings_file

    console = _console()
    target = folder or str(settings_file().parent / "paddle-lite")
    console.print(f"Installing Paddle-Lite in {escape(target)} ...")
    inside = install_interpreter(target, python)
    _facts(console, [("installed", inside), ("used by", "slimkit quant (verify.lite) from now on")])
