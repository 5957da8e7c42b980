"""``import paddleslim`` is slimkit: every name of the table, what is not there, and nothing left behind."""

from __future__ import annotations

import importlib
import inspect
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, List, Tuple

import pytest

import slimkit
from slimkit.errors import SlimkitError
from slimkit.plugins import alias
from slimkit.plugins.missing import LATER, NONE
from slimkit.plugins.names import MODULES

ROWS = [(module, name, row) for module, rows in MODULES.items() for name, row in rows.items()]
OBJECTS = [(module, name, row) for module, name, row in ROWS if not row.startswith((LATER, NONE))]
ABSENT = [(module, name, row) for module, name, row in ROWS if row.startswith((LATER, NONE))]


@pytest.fixture(autouse=True)
def _alias() -> Iterator[None]:
    alias.install()
    try:
        yield
    finally:
        alias.uninstall()


def _python(code: str, *path: Path) -> str:
    """What a process prints that has the alias and these folders in front."""
    start = "import sys; from slimkit.plugins import alias; alias.install(); "
    search = os.pathsep.join([*map(str, path), str(Path(slimkit.__file__).parents[1])])
    command = [sys.executable, "-c", start + code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": search}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# ------------------------------------------------------------------ what is there


def test_every_name_of_the_table_is_the_object_it_says() -> None:
    for module, name, row in OBJECTS:
        view = importlib.import_module(module)
        where, _, other = row.partition(":")
        wanted = getattr(importlib.import_module(where), other or name)
        assert getattr(view, name) is wanted, f"{module}.{name}"
        assert name in dir(view) and name in view.__all__


def test_from_import_gives_the_same() -> None:
    for module, name, _ in OBJECTS[::7]:
        found: dict = {}
        exec(f"from {module} import {name}", found)
        assert found[name] is getattr(importlib.import_module(module), name)


def test_the_attribute_chain_is_walked_from_the_top_as_paddledetection_does() -> None:
    assert _python("import paddleslim; print(paddleslim.dygraph.quant.QAT.__module__)").startswith("slimkit.")


def test_importing_it_does_not_import_paddle_or_numpy() -> None:
    code = "import paddleslim, paddleslim.quant, paddleslim.dygraph.prune; from paddleslim.common import get_logger; "
    assert _python(code + "print('paddle' in sys.modules, 'numpy' in sys.modules)") == "False False"


def test_a_function_keeps_its_place_before_the_module_of_its_name() -> None:
    import paddleslim.analysis.flops
    import paddleslim.quant.quant_embedding
    from paddleslim.analysis.flops import dygraph_flops

    assert paddleslim.analysis.flops is slimkit.analysis.flops
    assert paddleslim.quant.quant_embedding is slimkit.quant.quant_embedding
    assert dygraph_flops is slimkit.analysis.dygraph_flops


def test_what_slimkit_has_besides_is_reached_too() -> None:
    import paddleslim
    import paddleslim.prune.layers
    from paddleslim.ir import Model

    assert paddleslim.Model is Model is slimkit.Model
    assert paddleslim.prune.layers.prune_layer is importlib.import_module("slimkit.prune.layers").prune_layer
    assert paddleslim.prune.sensitivity is slimkit.prune.sensitivity
    assert inspect.ismodule(sys.modules["slimkit.prune.sensitivity"])


def test_the_version_is_2_6_and_says_whose() -> None:
    import paddleslim

    assert paddleslim.__version__ == f"2.6.0+slimkit.{slimkit.__version__}"
    assert paddleslim.__file__ == slimkit.__file__


def test_the_installed_version_is_told_too() -> None:
    from importlib import metadata

    import paddleslim

    assert metadata.version("paddleslim") == paddleslim.__version__
    alias.uninstall()
    with pytest.raises(metadata.PackageNotFoundError):
        metadata.version("paddleslim")


def test_star_import_brings_the_names_and_no_modules() -> None:
    found: dict = {}
    exec("from paddleslim.prune import *", found)
    assert {"Pruner", "sensitivity", "load_model", "GMPUnstructuredPruner"} <= set(found)
    assert "pruner" not in found and "criterion" not in found


def test_objects_are_pickled_under_slimkit_s_name() -> None:
    from paddleslim.common import AvgrageMeter

    assert b"slimkit" in pickle.dumps(AvgrageMeter()) and b"paddleslim" not in pickle.dumps(AvgrageMeter())


# ------------------------------------------------------------------ what is not


def _error(statement: str) -> Exception:
    with pytest.raises(SlimkitError) as caught:
        exec(statement, {})
    return caught.value


@pytest.mark.parametrize(
    ("statement", "kind", "text"),
    [
        ("from paddleslim.quant import quant_awre", ImportError,
         "paddleslim.quant has no name 'quant_awre' in slimkit; did you mean 'quant_aware'?"),
        ("import paddleslim; paddleslim.dygraph.L1NormFilterPrunr", AttributeError,
         "paddleslim.dygraph has no name 'L1NormFilterPrunr' in slimkit; did you mean 'L1NormFilterPruner'?"),
        ("import paddleslim.qant", ImportError, "paddleslim has no name 'qant' in slimkit; did you mean 'quant'?"),
        ("from paddleslim import dist", ImportError,
         "paddleslim.dist is not in slimkit yet: it comes with distillation."),
        ("import paddleslim.nas.ofa", ImportError,
         "paddleslim.nas is not in slimkit yet: it comes with architecture search (NAS)."),
        ("from paddleslim.auto_compression.config_helpers import load_config", ImportError,
         "paddleslim.auto_compression is not in slimkit yet: it comes with AutoCompression."),
        ("import paddleslim; paddleslim.nas.SANAS", AttributeError,
         "paddleslim.nas is not in slimkit yet: it comes with architecture search (NAS)."),
        ("from paddleslim import Distill", ImportError,
         "paddleslim.Distill is not in slimkit yet: it comes with distillation."),
        ("from paddleslim.quant.observers.abs_max import AbsmaxObserver", ImportError,
         "slimkit has no paddleslim.quant.observers.abs_max: paddle.quantization is Paddle's own; "
         "slimkit.QAT takes PaddleSlim's config dict."),
    ],
)  # fmt: skip
def test_one_sentence(statement: str, kind: type, text: str) -> None:
    error = _error(statement)
    assert isinstance(error, kind) and str(error) == text


def test_every_absent_name_is_absent_in_one_sentence() -> None:
    for module, name, _ in ABSENT:
        view = importlib.import_module(module)
        assert not hasattr(view, name) and name not in view.__all__
        for statement in (f"import {module}; {module}.{name}", f"from {module} import {name}"):
            text = str(_error(statement))
            assert f"{module}.{name}" in text and text.endswith(".") and text.count(". ") == 0, text


def test_programs_that_try_go_on() -> None:
    import paddleslim

    try:
        from paddleslim.nas import SANAS
    except ImportError:
        SANAS = None
    assert SANAS is None and getattr(paddleslim, "nas", None) is None


def test_a_package_that_slimkit_lacks_is_named_itself() -> None:
    code = (
        "sys.modules['paddle'] = None\ntry:\n    from paddleslim.prune import anything\nexcept ImportError as error:\n"
    )
    assert "paddle" in _python("import paddleslim\n" + code + "    print(error.name)")


def test_dunder_names_are_plain_attribute_errors() -> None:
    import paddleslim

    with pytest.raises(AttributeError) as caught:
        paddleslim.__wrapped__  # noqa: B018  (inspect asks every module for such names)
    assert not isinstance(caught.value, SlimkitError)


# ------------------------------------------------------------------ in front of the real one


def test_a_paddleslim_on_the_path_loses(tmp_path: Path) -> None:
    package = tmp_path / "paddleslim" / "common"
    package.mkdir(parents=True)
    (tmp_path / "paddleslim" / "__init__.py").write_text("raise SystemExit('the real one')")
    (package / "__init__.py").write_text("raise SystemExit('the real one')")
    code = "import paddleslim; from paddleslim.common import get_logger; print(paddleslim.__version__)"
    assert _python(code, tmp_path).startswith("2.6.0+slimkit.")


def test_one_imported_before_is_put_aside_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alias.uninstall()
    (tmp_path / "paddleslim").mkdir()
    (tmp_path / "paddleslim" / "__init__.py").write_text("__version__ = 'real'")
    monkeypatch.syspath_prepend(str(tmp_path))
    real = importlib.import_module("paddleslim")
    try:
        before = list(sys.meta_path)
        alias.install()
        alias.install()
        assert importlib.import_module("paddleslim") is not real
        alias.uninstall()
        assert sys.modules["paddleslim"] is real and sys.meta_path == before
    finally:
        sys.modules.pop("paddleslim", None)


def test_slimkit_s_modules_are_left_as_they_were() -> None:
    names = set(vars(slimkit.analysis)), set(vars(slimkit.quant))
    import paddleslim

    with pytest.raises(AttributeError):
        paddleslim.quant.quant_awre  # noqa: B018
    paddleslim.quant.quanter.quant_aware  # noqa: B018
    assert names == (set(vars(slimkit.analysis)), set(vars(slimkit.quant)))


def test_an_empty_plan_takes_over_what_a_pruner_made() -> None:
    import paddle
    import paddleslim

    network = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.Conv2D(4, 2, 3))
    plan = paddleslim.PruningPlan("a model")
    assert plan.masks == {} and not plan.contains("conv2d_0.w_0") and "not counted" in str(plan)
    with pytest.raises(SlimkitError, match="empty"):
        plan.apply(network)
    pruner = paddleslim.dygraph.L1NormFilterPruner(network, [1, 3, 8, 8])
    plan.extend(pruner.prune_var(network[0].weight.name, 0, 0.5, apply=None))
    plan.apply(network)
    assert network[0].weight.shape == [2, 3, 3, 3] and network[1].weight.shape == [2, 2, 3, 3]


def _names_of_paddleslim() -> List[Tuple[str, str]]:
    """The public names of the installed peer's quantization, pruning and analysis, typed from its documents."""
    listed = {
        "paddleslim": "QAT PTQ L1NormFilterPruner L2NormFilterPruner FPGMFilterPruner FilterPruner PruningPlan "
        "UnstructuredPruner GMPUnstructuredPruner flops dygraph_flops model_size quant prune analysis dygraph common",
        "paddleslim.quant": "quant_aware convert quant_post_static quant_post_dynamic quant_post quant_embedding",
        "paddleslim.prune": "Pruner sensitivity load_sensitivities merge_sensitive get_ratios_by_loss save_model "
        "load_model UnstructuredPruner GMPUnstructuredPruner sensitive prune_io unstructured_pruner",
        "paddleslim.dygraph": "QAT PTQ L1NormFilterPruner FPGMFilterPruner FilterPruner Status quant prune",
        "paddleslim.dygraph.prune.filter_pruner": "FILTER_DIM FilterPruner Status",
        "paddleslim.dygraph.prune.pruning_plan": "PruningPlan PruningMask",
        "paddleslim.analysis": "flops dygraph_flops model_size",
        "paddleslim.common": "get_logger load_config VarCollector AvgrageMeter",
        "paddleslim.common.dataloader": "get_feed_vars wrap_dataloader",
        "paddleslim.core": "GraphWrapper dygraph2program",
        "paddleslim.models": "MobileNet image_classification",
    }
    return [(module, name) for module, names in listed.items() for name in names.split()]


@pytest.mark.parametrize(("module", "name"), _names_of_paddleslim())
def test_a_name_that_projects_use_is_there(module: str, name: str) -> None:
    found: Any = importlib.import_module(module)
    assert getattr(found, name) is not None
