"""paddle.vision's classifiers, trained for minutes on the embedded Fashion-MNIST and kept in slimkit's cache.

What is quantized is the file that ``paddle.jit.save`` writes today: a PIR ``.json`` program. The MobileNetV3-small is
the one whose weights come with slimkit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

#: Network -> image size and epochs; accuracy is not the point, trained activations are.
NETWORKS: Dict[str, Any] = {
    "resnet18": (32, 2),
    "resnet50": (32, 2),
    "mobilenet_v1": (32, 3),
    "mobilenet_v2": (32, 3),
    "mobilenet_v3_small": (48, 0),
}


def trained(name: str) -> str:
    """The ``.json`` program of a network; trains it when the cache has none.

    Args:
        name: a key of :data:`NETWORKS`.
    """
    import paddle

    from slimkit.recipe import networks
    from slimkit.recipe.data.cache import cache_dir
    from slimkit.recipe.weights import embedded_path, load_weights

    size, epochs = NETWORKS[name]
    folder = cache_dir() / "bench_classifiers" / f"{name}-{size}-{epochs}"
    target = folder / "model.json"
    if target.is_file():
        return str(target)
    weights = _train(name, size, epochs, folder) if epochs else embedded_path(name, 1.0)
    network = networks.build(name, num_classes=10).backbone
    load_weights(network, weights)
    network.eval()
    spec = [paddle.static.InputSpec([None, 3, size, size], "float32", "image")]
    paddle.jit.save(network, str(folder / "model"), input_spec=spec)
    return str(target)


def _train(name: str, size: int, epochs: int, folder: Path) -> Path:
    from rich.console import Console

    from slimkit.recipe.float_config import FloatConfig
    from slimkit.recipe.float_training import train_float
    from slimkit.schema import build

    settings = {
        "run": {"output": str(folder), "seed": 0},
        "network": {"name": name, "num_classes": 10},
        "data": {"kind": "fashion_mnist", "image_size": size, "batch_size": 64},
        "train": {
            "epochs": epochs,
            "ema": 0.98,
            "evaluate_epochs": epochs,
            "optimizer": {"name": "AdamW", "weight_decay": 0.05},
            "lr": {"schedule": "cosine", "base": 0.002},
        },
    }
    train_float(build(FloatConfig, settings, "benchmark config"), console=Console(stderr=True))
    return folder / "weights.npz"
