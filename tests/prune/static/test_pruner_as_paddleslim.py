"""The same channels go as with PaddleSlim 2.6; its results are in ``assets/paddleslim_pruned.json``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import numpy as np
import paddle
import pytest
import static_networks as networks

from slimkit.ir import legacy_ir
from slimkit.prune.static.pruner import Pruner

ASSET = Path(__file__).parents[2] / "assets" / "paddleslim_pruned.json"
CASES = json.loads(ASSET.read_text())


def _name(case: Dict[str, Any]) -> str:
    selector = "" if case["idx_selector"] == "default_idx_selector" else "-" + case["idx_selector"]
    return f"{case['network']}-{case['criterion']}{selector}-{case['params'][0]}"


def _built(network: str) -> Any:
    with legacy_ir():
        program, startup = paddle.static.Program(), paddle.static.Program()
        with paddle.static.program_guard(program, startup), paddle.utils.unique_name.guard():
            image = paddle.static.data("image", [None, 3, 32, 32])
            getattr(networks, network)(image, **({"scale": 0.25} if network == "mobile_net" else {}))
        scope = paddle.static.Scope()
        paddle.static.Executor(paddle.CPUPlace()).run(startup, scope=scope)
    networks.fill(program, scope)
    return program, scope


@pytest.mark.filterwarnings("ignore:.*given first")
@pytest.mark.parametrize("case", CASES, ids=_name)
def test_the_same_channels_go(case: Dict[str, Any]) -> None:
    program, scope = _built(case["network"])
    names = [var.name for var in program.list_vars() if var.persistable and len(var.shape) == 4]
    before = {name: np.array(scope.find_var(name).get_tensor()) for name in names}
    pruner = Pruner(case["criterion"], case["idx_selector"])
    pruned, _, shapes = pruner.prune(program, scope, case["params"], case["ratios"], param_shape_backup=True)
    gone = {name: axes[0].tolist() for name, axes in pruner.plan.slices().items() if name in names and 0 in axes}
    assert gone == {name: indices for name, indices in case["removed"].items() if name in names}
    after = {name: np.array(scope.find_var(name).get_tensor()) for name in case["shapes"]}
    assert {name: list(array.shape) for name, array in after.items()} == case["shapes"]
    assert {name: list(pruned.global_block().var(name).shape) for name in shapes} == case["shapes"]
    for name, indices in gone.items():
        kept = np.delete(before[name], indices, 0)
        inputs = pruner.plan.slices()[name].get(1, [])
        np.testing.assert_array_equal(after[name], np.delete(kept, inputs, 1))
