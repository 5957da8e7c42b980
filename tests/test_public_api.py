"""``slimkit``'s own names: complete, lazy, and cheap to import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Sequence

import pytest

import slimkit

#: What `import slimkit` must not bring: each costs time that only its user should pay.
HEAVY = ("paddle", "numpy", "matplotlib", "jinja2", "pydantic", "cv2", "rich", "yaml", "PIL")


def _child(code: str, *arguments: str) -> Any:
    environment = {**os.environ, "PYTHONPATH": str(Path(slimkit.__file__).parents[1])}
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_every_public_name_is_there() -> None:
    for name in slimkit.__all__:
        assert getattr(slimkit, name) is not None
        assert name in dir(slimkit)


def test_every_lazy_name_is_public() -> None:
    assert set(slimkit._LAZY) <= set(slimkit.__all__)


def test_a_name_is_the_very_object_of_its_pillar() -> None:
    from slimkit.ir import Model
    from slimkit.quant import QatTrainer

    assert slimkit.Model is Model and slimkit.QatTrainer is QatTrainer
    assert slimkit.quant.QatTrainer is QatTrainer


def test_every_public_name_of_pruning_is_there() -> None:
    import slimkit.prune

    for name in slimkit.prune.__all__:
        assert getattr(slimkit.prune, name) is not None
        assert name in dir(slimkit.prune)
    assert set(slimkit.prune._LAZY) <= set(slimkit.prune.__all__)


#: The package of this name is for ``from slimkit.prune.sensitivity import ...``; the name is PaddleSlim's function.
_SENSITIVITY = """
import json
from slimkit.prune.sensitivity.points import Sensitivities
import slimkit.prune.sensitivity.engine
import slimkit
from slimkit.prune import sensitivity
from slimkit.prune.sensitivity import measure_sensitivity
print(json.dumps([callable(slimkit.prune.sensitivity), sensitivity is slimkit.prune.sensitivity]))
"""


def test_sensitivity_is_the_function_whatever_was_imported_before() -> None:
    assert _child(_SENSITIVITY) == [True, True]


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'slimkit' has no attribute 'Modell'"):
        _ = slimkit.Modell  # type: ignore[attr-defined]


def test_import_brings_nothing_heavy() -> None:
    loaded = _child("import json, sys, slimkit; print(json.dumps(sorted(sys.modules)))")
    assert [name for name in HEAVY if name in loaded] == []


#: CPU seconds, because machines that test are busy: importing paddle, then slimkit or what follows it.
_TIMED = """
import importlib, json, sys, time, zlib
importlib.import_module("paddle")
start = time.process_time()
for name in sys.argv[1:]:
    importlib.import_module(name)
print(json.dumps(time.process_time() - start))
"""


@pytest.mark.parametrize("modules, most", [(["slimkit"], 0.3), (["slimkit", "slimkit.ir"], 0.3)])
def test_import_over_paddle_is_light(modules: Sequence[str], most: float) -> None:
    assert min(_child(_TIMED, *modules) for _ in range(3)) < most
