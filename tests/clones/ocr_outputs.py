"""What a network that PaddleOCR's slim tools trained computes.

In the clone: ``slimkit run ocr_outputs.py OUT.npz KIND -c CONFIG -o ...``. KIND is ``quant``, ``prune`` or ``float``.
Writes ``x``, evaluation data, and ``y``, the network's result in eval mode. ``Global.checkpoints`` names what was
trained; a pruned network is pruned by ``./sen.pickle``.
"""

from __future__ import annotations

import os
import sys
import zlib  # noqa: F401  (before paddle)

import numpy as np
import paddle


def network_of(config, kind):
    """The network of the config, quantized or pruned, with the checkpoint's values."""
    from paddleslim.dygraph import FPGMFilterPruner
    from paddleslim.dygraph.quant import QAT
    from ppocr.modeling.architectures import build_model
    from ppocr.postprocess import build_post_process
    from ppocr.utils.save_load import load_model

    from slimkit.plugins.paddleocr import input_shape

    characters = getattr(build_post_process(config["PostProcess"], config["Global"]), "character", None)
    if characters is not None:
        head, count = config["Architecture"]["Head"], len(characters)
        if head["name"] == "MultiHead":
            head["out_channels_list"] = {"CTCLabelDecode": count, "NRTRLabelDecode": count + 3}
        else:
            head["out_channels"] = count
    network = build_model(config["Architecture"])
    if kind == "quant":
        QAT().quantize(network)
    if kind == "prune":
        network.train()
        pruner = FPGMFilterPruner(network, input_shape(config, [1, 3, 640, 640]))
        found = pruner.sensitive(
            eval_func=None,
            sen_file="./sen.pickle",
            skip_vars=["conv2d_57.w_0", "conv2d_transpose_2.w_0", "conv2d_transpose_3.w_0"],
        )
        pruner.prune_vars(pruner._get_ratios_by_loss(found, loss=0.02), [0])
    load_model(config, network, None, config["Architecture"]["model_type"])
    network.eval()
    return network


def main() -> None:
    """The command line."""
    out, kind = sys.argv.pop(1), sys.argv.pop(1)
    sys.path.insert(0, os.getcwd())
    from ppocr.data import build_dataloader

    from tools import program

    config, device, logger, _ = program.preprocess()
    network = network_of(config, kind)
    x = np.array(next(iter(build_dataloader(config, "Eval", device, logger)))[0])[:4]
    with paddle.no_grad():
        y = network(paddle.to_tensor(x))
    np.savez(out, x=x, y=(y["maps"] if isinstance(y, dict) else y).numpy())


if __name__ == "__main__":
    main()
