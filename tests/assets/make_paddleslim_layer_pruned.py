"""Makes ``paddleslim_layer_pruned.json``: which channels PaddleSlim 2.6 removes of dygraph layers, and what is left.

Run it where paddlepaddle 2.6.2 and paddleslim 2.6.0 are installed (CPython 3.10), nothing of slimkit is needed:

    python make_paddleslim_layer_pruned.py [OUT.json]

The networks are those of ``paddle.vision.models``, with weights of a seeded numpy generator. ``kept`` is, for every
convolution's weight by its place in ``named_parameters()``, the CRC-32 of the values that ``prune_vars`` leaves and
their shape, so that the same filters must be left, with the same inputs.
"""

import json
import sys
import zlib

import numpy as np
import paddle
from paddle.vision import models

CASES = [
    ("mobilenet_v1", {"scale": 0.25}, "L1NormFilterPruner"),
    ("mobilenet_v1", {"scale": 0.25}, "FPGMFilterPruner"),
    ("mobilenet_v1", {"scale": 0.25}, "L2NormFilterPruner"),
    ("resnet18", {}, "L1NormFilterPruner"),
    ("mobilenet_v2", {"scale": 0.25}, "FPGMFilterPruner"),
]


def network(name, arguments):
    """A network whose parameters are the same wherever it is made."""
    net = getattr(models, name)(**arguments)
    random = np.random.default_rng(zlib.crc32(name.encode()))
    for _, tensor in net.named_parameters():
        tensor.set_value(random.standard_normal(tensor.shape).astype("float32"))
    net.eval()
    return net


def ratios_of(net):
    """Every convolution but the last by another ratio, 0.1 to 0.7; the last of mobilenet_v2 PaddleSlim cannot prune."""
    convolutions = [layer.weight.name for layer in net.sublayers() if isinstance(layer, paddle.nn.Conv2D)]
    return {name: round(0.1 + 0.6 * (place * 7 % 11) / 10, 2) for place, name in enumerate(convolutions[:-1])}


def kept(net):
    """Place of each weight -> CRC-32 and shape."""
    found = {}
    for place, (_, tensor) in enumerate(net.named_parameters()):
        if len(tensor.shape) > 1:
            array = np.ascontiguousarray(tensor.numpy())
            found[str(place)] = [zlib.crc32(array.tobytes()), list(array.shape)]
    return found


if __name__ == "__main__":
    import paddleslim

    results = []
    for name, arguments, pruner in CASES:
        net = network(name, arguments)
        getattr(paddleslim.dygraph, pruner)(net, [1, 3, 64, 64]).prune_vars(ratios_of(net), [0])
        results.append({"network": name, "arguments": arguments, "pruner": pruner, "kept": kept(net)})
    path = sys.argv[1] if len(sys.argv) > 1 else "paddleslim_layer_pruned.json"
    with open(path, "w") as stream:
        json.dump(results, stream)
        stream.write("\n")
