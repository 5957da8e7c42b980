"""A start for a test's training: ``slimkit run clas_start.py OUT NETWORK DATA_SIZE`` in PaddleClas's folder.

Writes ``OUT.pdparams``: random weights, and batch norm statistics of what they compute. From PaddleClas's own start a
training of two steps ends in a network that computes the same of every image, which would compare equal with anything.
"""

from __future__ import annotations

import os
import sys
import zlib  # noqa: F401  (before paddle)

import paddle


def main() -> None:
    out, name, size = sys.argv[1:]
    sys.path.insert(0, os.getcwd())
    from ppcls.arch import backbone

    paddle.seed(0)
    network = getattr(backbone, name)(class_num=10)
    network.train()
    for layer in network.sublayers():
        if hasattr(layer, "_momentum"):
            layer._momentum = 0.0
    with paddle.no_grad():
        network(paddle.randn([16, 3, int(size), int(size)]))
    paddle.save(network.state_dict(), f"{out}.pdparams")


if __name__ == "__main__":
    main()
