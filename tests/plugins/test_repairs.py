"""Repairs of third-party code: applied after the import, documented, undone."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any, Iterator, List

import numpy as np
import paddle
import pytest
from paddle import nn

from slimkit.plugins import startup
from slimkit.plugins.hooks import ImportHooks
from slimkit.plugins.repairs import REPAIRS, all_repairs, together, with_attribute


@pytest.fixture
def repaired() -> Iterator[None]:
    startup.install()
    try:
        yield
    finally:
        startup.uninstall()


# ------------------------------------------------------------------ the hooks


@pytest.fixture
def hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImportHooks]:
    """In effect, with a package ``brokenpkg`` to import, whose submodule counts its imports."""
    package = tmp_path / "brokenpkg"
    package.mkdir()
    (package / "__init__.py").write_text("value = 1\n")
    (package / "inner.py").write_text("import brokenpkg\nseen = brokenpkg.value\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    made = ImportHooks()
    sys.meta_path.insert(0, made)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        sys.meta_path.remove(made)  # type: ignore[arg-type]
        for name in [name for name in sys.modules if name.startswith("brokenpkg")]:
            del sys.modules[name]


def test_an_action_runs_after_the_module_s_own_code_and_before_its_importer_goes_on(hooks: ImportHooks) -> None:
    hooks.after("brokenpkg", lambda module: with_attribute(module, "value", module.value + 1))
    inner = importlib.import_module("brokenpkg.inner")
    assert inner.seen == 2
    hooks.undo()
    assert sys.modules["brokenpkg"].value == 1


def test_a_module_that_is_imported_already_is_repaired_at_once(hooks: ImportHooks) -> None:
    module = importlib.import_module("brokenpkg")
    hooks.after("brokenpkg", lambda module: with_attribute(module, "value", "now"))
    assert module.value == "now"


def test_the_module_s_loader_is_its_own_and_it_can_be_reloaded(hooks: ImportHooks) -> None:
    seen: List[ModuleType] = []
    hooks.after("brokenpkg.inner", lambda module: seen.append(module))
    inner = importlib.import_module("brokenpkg.inner")
    assert type(inner.__spec__.loader).__name__ == "SourceFileLoader"
    assert importlib.reload(inner) is inner and seen == [inner]


def test_a_repair_that_fails_is_a_warning_and_the_import_goes_on(hooks: ImportHooks) -> None:
    def fails(module: Any) -> None:
        raise KeyError("no such thing")

    hooks.after("brokenpkg", fails)
    hooks.after("brokenpkg", lambda module: with_attribute(module, "value", 5))
    with pytest.warns(UserWarning, match=r"slimkit: a repair of 'brokenpkg' failed \(KeyError: 'no such thing'\)"):
        assert importlib.import_module("brokenpkg").value == 5


def test_undo_goes_backwards_and_forgets_what_is_waited_for(hooks: ImportHooks) -> None:
    order: List[int] = []
    module = importlib.import_module("brokenpkg")
    for number in (1, 2):
        hooks.after("brokenpkg", lambda module, number=number: lambda: order.append(number))
    hooks.after("brokenpkg.inner", lambda module: with_attribute(module, "seen", "repaired"))
    hooks.undo()
    assert order == [2, 1] and importlib.import_module("brokenpkg.inner").seen == module.value == 1


def test_attributes_are_put_back_and_new_ones_taken_away() -> None:
    module = ModuleType("a")
    module.old = 1  # type: ignore[attr-defined]
    undo = together(with_attribute(module, "old", 2), None, with_attribute(module, "new", 3))
    assert (module.old, module.new) == (2, 3)
    undo()
    assert module.old == 1 and not hasattr(module, "new")


# ------------------------------------------------------------------ the table


def test_every_row_says_what_breaks_and_where_that_is_reported() -> None:
    rows = list(all_repairs())
    assert len(rows) >= len(REPAIRS)
    for row in rows:
        assert row.module and callable(row.apply) and row.symptom and row.upstream


def test_nothing_is_repaired_twice_and_everything_is_undone() -> None:
    before = vars(paddle.Tensor)["__int__"], importlib.import_module("paddle.hapi.dynamic_flops").dynamic_flops
    for _ in range(2):
        startup.install()
        startup.install()
        startup.uninstall()
    after = vars(paddle.Tensor)["__int__"], importlib.import_module("paddle.hapi.dynamic_flops").dynamic_flops
    assert before == after


# ------------------------------------------------------------------ rows


@pytest.mark.usefixtures("repaired")
def test_numpy_has_sctypes() -> None:
    kinds = {kind: set(np.sctypes[kind]) for kind in ("int", "uint", "float")}
    assert kinds["int"] == {np.int8, np.int16, np.int32, np.int64}
    assert np.float32 in kinds["float"] and np.uint8 in kinds["uint"]


@pytest.mark.usefixtures("repaired")
def test_tensors_of_one_element_are_numbers() -> None:
    for shape in ([], [1], [1, 1]):
        assert int(paddle.full(shape, 3, "int64")) == 3
        assert float(paddle.full(shape, 0.5)) == 0.5
        assert float(paddle.full(shape, 0.5, "bfloat16")) == 0.5
        assert complex(paddle.full(shape, 2.0)) == 2 + 0j
        assert int(paddle.full(shape, 2.75)) == 2
        assert [7, 8, 9][paddle.full(shape, 1, "int64")] == 8
    with pytest.raises((TypeError, AssertionError), match=r"one element"):  # the repair's, or an older numpy's Paddle's
        float(paddle.zeros([2]))


def test_the_guard_of_tracing_has_its_old_name_too() -> None:
    base = importlib.import_module("paddle.base.dygraph.base")
    had = hasattr(base, "_to_static_mode_guard_")
    startup.install()
    try:
        with base._to_static_mode_guard_(is_to_static=True):
            assert base.in_to_static_mode()
        assert not base.in_to_static_mode()
    finally:
        startup.uninstall()
    assert hasattr(base, "_to_static_mode_guard_") == had


def _network() -> nn.Layer:
    return nn.Sequential(
        nn.Conv2D(3, 8, 3, padding=1), nn.BatchNorm2D(8), nn.ReLU(), nn.Conv2D(8, 8, 3, groups=8),
        nn.Flatten(), nn.Linear(8 * 6 * 6, 10),
    )  # fmt: skip


#: y.numel() * (kernel * inputs a group + bias), 2 * batch norm's elements, and the linear layer's product.
_FLOPS = 8 * 64 * (27 + 1) + 2 * 8 * 64 + 8 * 36 * (9 + 1) + 288 * 10


def _flops(network: nn.Layer) -> int:
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return paddle.flops(network, [1, 3, 8, 8], print_detail=True)


@pytest.mark.usefixtures("repaired")
def test_paddle_flops_of_a_float_a_quantized_and_a_pruned_network() -> None:
    from slimkit.dygraph import L1NormFilterPruner
    from slimkit.quant.layers import QAT
    from slimkit.quant.layers.wrappers import QuantizedConv2D

    network = _network()
    assert _flops(network) == _FLOPS
    QAT().quantize(network)
    assert _flops(network) == _FLOPS
    assert "children" not in vars(QuantizedConv2D)
    assert len(list(network[0]._layer.children())) >= 2

    pruned = _network()
    L1NormFilterPruner(pruned, [1, 3, 8, 8], skip_leaves=False).prune_var(pruned[0].weight.name, 0, 0.5)
    assert pruned[0].weight.shape[0] == 4
    half = 4 * 64 * (27 + 1) + 2 * 4 * 64 + 4 * 36 * (9 + 1) + 144 * 10
    assert _flops(pruned) == half
