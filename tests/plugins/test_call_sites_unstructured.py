"""Every call of unstructured pruning on layers: PaddleDetection's trainer and PaddleSlim's demo, as they write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional, Set

import numpy as np
import paddle
import pytest
from client_networks import Classifier, Detector, enliven
from paddle import nn
from paddle.utils import try_import
from under_the_alias import under_the_alias  # noqa: F401  (a fixture)

from slimkit import Model

pytestmark = pytest.mark.usefixtures("under_the_alias")


class DetUnstructuredPruner:
    """ppdet/slim/unstructured_prune.py."""

    def __init__(
        self, stable_epochs: int, pruning_epochs: int, tunning_epochs: int, pruning_steps: int, ratio: float,
        initial_ratio: float, prune_params_type: Optional[str] = None,
    ) -> None:  # fmt: skip
        self.stable_epochs, self.pruning_epochs, self.tunning_epochs = stable_epochs, pruning_epochs, tunning_epochs
        self.ratio, self.prune_params_type = ratio, prune_params_type
        self.initial_ratio, self.pruning_steps = initial_ratio, pruning_steps

    def __call__(self, model: nn.Layer, steps_per_epoch: int, skip_params_func: Any = None) -> Any:
        paddleslim = try_import("paddleslim")
        assert paddleslim.GMPUnstructuredPruner
        from paddleslim import GMPUnstructuredPruner

        configs = {
            "pruning_strategy": "gmp",
            "stable_iterations": self.stable_epochs * steps_per_epoch,
            "pruning_iterations": self.pruning_epochs * steps_per_epoch,
            "tunning_iterations": self.tunning_epochs * steps_per_epoch,
            "resume_iteration": 0,
            "pruning_steps": self.pruning_steps,
            "initial_ratio": self.initial_ratio,
        }
        pruner = GMPUnstructuredPruner(
            model,
            ratio=self.ratio,
            skip_params_func=skip_params_func,
            prune_params_type=self.prune_params_type,
            local_sparsity=True,
            configs=configs,
        )
        return pruner


def sparsity(net: nn.Layer) -> Dict[str, float]:
    return {p.name: float((p.numpy() == 0).mean()) for p in net.parameters() if len(p.shape) == 4}


@pytest.mark.parametrize("only_points", [True, False])
def test_paddledetection_trainer(only_points: bool) -> None:
    """engine/trainer.py: step after the optimizer, update_params after an epoch; configs/slim/prune's two types."""
    paddle.seed(0)
    model = enliven(Detector())
    names = [p.name for p in model.parameters()]
    data = {"image": paddle.randn([2, 3, 32, 32]), "gt": paddle.ones([2, 5, 8, 8]), "scale_factor": paddle.ones([2, 2])}
    optimizer = paddle.optimizer.Momentum(1e-3, 0.9, parameters=model.parameters())
    slim = DetUnstructuredPruner(1, 3, 1, 3, 0.75, 0.3, "conv1x1_only" if only_points else None)
    pruner = slim(model, steps_per_epoch=2)
    model.train()
    for _ in range(5):
        for _ in range(2):
            loss = model(data)["loss"]
            loss.backward()
            optimizer.step()
            pruner.step()
            optimizer.clear_grad()
        pruner.update_params()
    found = sparsity(model)
    points = {p.name for p in model.parameters() if len(p.shape) == 4 and p.shape[2:] == [1, 1]}
    for name, share in found.items():
        pruned = name in points or not only_points
        assert share == pytest.approx(0.75, abs=0.03) if pruned else share == 0
    assert [p.name for p in model.parameters()] == names
    model.set_state_dict(dict(model.state_dict()))
    model.eval()
    assert np.isfinite(model(data)["bbox"].numpy()).all()


def test_skip_params_func() -> None:
    """The function of one's own that PaddleDetection hands on: names of what stays."""

    def skip_params_self(model: nn.Layer) -> Set[str]:
        skip_params = set()
        for _, sub_layer in model.named_sublayers():
            if type(sub_layer).__name__.split(".")[-1] in ("BatchNorm2D", "Linear"):
                skip_params.add(sub_layer.full_name())
                for param in sub_layer.parameters(include_sublayers=False):
                    skip_params.add(param.name)
        return skip_params

    model = enliven(Classifier())
    pruner = DetUnstructuredPruner(0, 1, 0, 1, 0.5, 0.5)(model, 1, skip_params_self)
    pruner.step()
    pruner.update_params()
    assert not (model.fc.weight.numpy() == 0).any()
    assert (model.last_conv.weight.numpy() == 0).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("strategy", ["gmp", "base"])
def test_paddleslim_demo(tmp_path: Path, strategy: str) -> None:
    """demo/dygraph/unstructured_pruning/train.py: both pruners, total_sparse, a checkpoint, export."""
    from paddleslim import GMPUnstructuredPruner, UnstructuredPruner

    paddle.seed(0)
    model = enliven(Classifier())
    opt = paddle.optimizer.Momentum(1e-3, 0.9, parameters=model.parameters())
    configs = {
        "stable_iterations": 0, "pruning_iterations": 4, "tunning_iterations": 2, "resume_iteration": 0,
        "pruning_steps": 2, "initial_ratio": 0.15,
    }  # fmt: skip
    pruner: Any
    if strategy == "base":
        pruner = UnstructuredPruner(
            model, mode="ratio", ratio=0.55, threshold=1e-5, prune_params_type=None, local_sparsity=False,
            sparse_block=[1, 1],
        )  # fmt: skip
    else:
        pruner = GMPUnstructuredPruner(
            model, ratio=0.55, prune_params_type=None, local_sparsity=False, sparse_block=[1, 1], configs=configs
        )
    x, y = paddle.randn([8, 3, 32, 32]), paddle.randint(0, 5, [8, 1])
    model.train()
    for _ in range(6):
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        opt.step()
        opt.clear_grad()
        pruner.step()
    pruner.update_params()
    assert 0.4 < UnstructuredPruner.total_sparse(model) < 0.56
    weights = np.concatenate([p.numpy().ravel() for p in model.parameters() if p.name in pruner.masks])
    assert (weights == 0).mean() == pytest.approx(0.55, abs=0.01)
    paddle.save(model.state_dict(), str(tmp_path / "model.pdparams"))
    model.eval()
    paddle.jit.save(model, str(tmp_path / "model"), [paddle.static.InputSpec([None, 3, 32, 32])])
    (found,) = Model.load(tmp_path / "model").run([x.numpy()])
    np.testing.assert_allclose(found, model(x).numpy(), rtol=1e-4, atol=1e-5)
    again = Classifier()
    again.set_state_dict(paddle.load(str(tmp_path / "model.pdparams")))
    again.eval()
    np.testing.assert_array_equal(again(x).numpy(), model(x).numpy())
