"""What a model that PaddleClas trained computes: ``slimkit run clas_outputs.py OUT.npz -c CONFIG ...`` in its folder.

Writes ``x``, a batch of its evaluation data, and ``y``, the probabilities of the model in eval mode (PaddleClas exports
the model with a softmax behind it).
"""

from __future__ import annotations

import os
import sys
import zlib  # noqa: F401  (before paddle)

import numpy as np
import paddle


def main() -> None:
    out = sys.argv.pop(1)
    sys.path.insert(0, os.getcwd())
    from ppcls.engine.engine import Engine
    from ppcls.utils import config

    args = config.parse_args()
    engine = Engine(config.get_config(args.config, overrides=args.override, show=False), mode="eval")
    engine.model.eval()
    x = np.array(next(iter(engine.eval_dataloader))[0])
    with paddle.no_grad():
        y = paddle.nn.functional.softmax(engine.model(paddle.to_tensor(x)), axis=-1).numpy()
    np.savez(out, x=x, y=y)


if __name__ == "__main__":
    main()
