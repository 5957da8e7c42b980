"""What ``import slimkit`` adds to ``import paddle``, each time in a fresh process.

python benchmarks/bench_import.py [--peer PYTHON]
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from typing import Any, Callable, Dict, Sequence

import harness

#: Case -> the modules imported one after another; the time of each is taken in a process that imported those before.
CHAINS: Dict[str, Dict[str, Sequence[str]]] = {
    "slimkit": {
        "import paddle": ["paddle"],
        "import slimkit, over paddle": ["paddle", "slimkit"],
        "import slimkit.quant, over paddle": ["paddle", "slimkit.quant"],
        "import slimkit.recipe, over paddle": ["paddle", "slimkit.recipe"],
    },
    "peer": {"import paddle": ["paddle"], "import paddleslim, over paddle": ["paddle", "paddleslim"]},
}

_CHILD = """
import importlib, json, sys, time, zlib
*before, last = sys.argv[1:]
for name in before:
    importlib.import_module(name)
cpu, wall = time.process_time(), time.perf_counter()
importlib.import_module(last)
print("@" + json.dumps({"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}))
"""


def cases(side: str) -> Sequence[harness.Case]:
    def prepare(modules: Sequence[str]) -> Callable[[], Any]:
        def timed() -> harness.Measured:
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, *modules], env=os.environ, text=True, check=True, stdout=subprocess.PIPE
            )
            line = next(text for text in done.stdout.splitlines() if text.startswith("@"))
            return harness.Measured(**json.loads(line[1:]))

        return timed

    return [harness.Case(name, functools.partial(prepare, modules)) for name, modules in CHAINS[side].items()]


if __name__ == "__main__":
    harness.run(
        __file__,
        "import time",
        harness.arguments(__doc__, repeats=9).parse_args(),
        {"slimkit": lambda: cases("slimkit"), "peer": lambda: cases("peer")},
    )
