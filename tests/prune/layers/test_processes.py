"""Two processes: a layer is pruned before it is wrapped in DataParallel, and both train the same one then."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

TESTS = Path(__file__).resolve().parents[2]

WORKER = """
import sys, zlib
import numpy as np, paddle
import paddle.distributed as dist
sys.path.insert(0, sys.argv[1] + "/prune")
from small_layers import Residual, enliven, state
from slimkit import L1NormFilterPruner
from slimkit.errors import ModelError

dist.init_parallel_env()
net = enliven(Residual())
pruner = L1NormFilterPruner(net, [1, 3, 8, 8])
pruner.prune_vars({net.wide.weight.name: 0.5, net.first.weight.name: 0.25}, [0])
wrapped = paddle.DataParallel(net)
optimizer = paddle.optimizer.Momentum(0.1, parameters=wrapped.parameters())
for step in range(2):
    x = np.random.default_rng(dist.get_rank()).standard_normal((2, 3, 8, 8)).astype("float32")
    ((wrapped(paddle.to_tensor(x)) - 1) ** 2).mean().backward()
    optimizer.step()
    optimizer.clear_grad()
try:
    L1NormFilterPruner(wrapped, [1, 3, 8, 8]).prune_vars({net.wide.weight.name: 0.5}, [0])
except ModelError as error:
    assert "wrap it then" in str(error)
    np.savez(f"{sys.argv[2]}/rank{dist.get_rank()}.npz", **state(net))
"""


@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--backend", "gloo"]
    command += ["--log_dir", str(tmp_path / "log"), str(tmp_path / "worker.py"), str(TESTS), str(tmp_path)]
    path = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:]
    first, second = (np.load(tmp_path / f"rank{rank}.npz") for rank in (0, 1))
    assert first["wide.weight"].shape == (8, 6, 3, 3)
    assert all(np.array_equal(first[name], second[name]) for name in first.files)
