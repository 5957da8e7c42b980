"""Data-parallel training: every process computes the same masks, though each sees other data."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[2]
WORKER = """
import zlib, sys
import paddle
sys.path.insert(0, sys.argv[1])
from prune.unstructured.networks import CONFIGS, batches, net, train, zero_share
from slimkit.prune.unstructured.dygraph import GMPUnstructuredPruner

paddle.distributed.init_parallel_env()
rank = paddle.distributed.get_rank()
model = net(seed=rank)  # DataParallel hands out the weights of the first
parallel = paddle.DataParallel(model)
pruner = GMPUnstructuredPruner(parallel, ratio=0.75, configs=CONFIGS)
optimizer = paddle.optimizer.Momentum(0.1, 0.9, parameters=parallel.parameters())
for _ in train(parallel, optimizer, pruner, batches(20, start=100 * rank)):
    pass
weights = [w.numpy() for w in model.weights().values()]
paddle.save([*weights, *(m.numpy() for m in pruner.masks.values())], f"{sys.argv[2]}/rank{rank}")
"""


@pytest.mark.slow
def test_processes_agree(tmp_path):
    import numpy as np
    import paddle
    from prune.unstructured.networks import zero_share

    (tmp_path / "worker.py").write_text(WORKER, encoding="utf-8")
    command = [sys.executable, "-m", "paddle.distributed.launch", "--nproc_per_node", "2", "--backend", "gloo"]
    command += ["--log_dir", str(tmp_path / "log"), str(tmp_path / "worker.py"), str(TESTS), str(tmp_path)]
    path = os.pathsep.join([str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:]
    first, second = (paddle.load(str(tmp_path / f"rank{k}"), return_numpy=True) for k in (0, 1))
    assert all((np.asarray(a) == np.asarray(b)).all() for a, b in zip(first, second))
    assert zero_share(first[:3]) == 0.75
