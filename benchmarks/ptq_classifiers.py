"""paddle.vision's classifiers, trained for minutes on the embedded Fashion-MNIST and kept in slimkit's cache.

What is quantized is the file that ``paddle.jit.save`` writes today: a PIR ``.json`` program. The MobileNetV3-small is
the one whose weights come with slimkit.
"""

from __future__ import annotations

from typing import Any, Dict

#: Network -> image size and training steps; accuracy is not the point, trained activations are.
NETWORKS: Dict[str, Any] = {
    "resnet18": (32, 100),
    "resnet50": (32, 50),
    "mobilenet_v1": (32, 150),
    "mobilenet_v2": (32, 150),
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

    size, steps = NETWORKS[name]
    target = cache_dir() / "bench_classifiers" / f"{name}-{size}-{steps}" / "model.json"
    if target.is_file():
        return str(target)
    paddle.seed(0)
    network = networks.build(name, num_classes=10)
    if steps:
        _train(network, size, steps)
    else:
        load_weights(network.backbone, embedded_path(name, 1.0))
    network.eval()
    spec = [paddle.static.InputSpec([None, 3, size, size], "float32", "image")]
    paddle.jit.save(network.backbone, str(target.with_suffix("")), input_spec=spec)
    return str(target)


def _train(network: Any, size: int, steps: int) -> None:
    """AdamW with a cosine, on as many batches of 64."""
    import itertools

    import paddle

    from slimkit.recipe.data import build_datasets
    from slimkit.recipe.data.fashion_mnist import CLASS_NAMES
    from slimkit.recipe.schema_data import DataSection
    from slimkit.recipe.small_maps import fast_small_maps
    from slimkit.schema import build

    section = build(DataSection, {"kind": "fashion_mnist", "image_size": size, "batch_size": 64}, "benchmark")
    data = build_datasets(section.model_dump(), num_classes=len(CLASS_NAMES), seed=0)[0]
    rate = paddle.optimizer.lr.CosineAnnealingDecay(0.002, steps)
    optimizer = paddle.optimizer.AdamW(rate, parameters=network.parameters())
    batches = itertools.chain.from_iterable(data.batches(epoch) for epoch in itertools.count())
    network.train()
    with fast_small_maps(network):
        for batch in itertools.islice(batches, steps):
            _, loss = network(paddle.to_tensor(batch["image"]), paddle.to_tensor(batch["label"]))
            loss.backward()
            optimizer.step()
            optimizer.clear_grad()
            rate.step()
