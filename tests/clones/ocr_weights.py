"""Turns PP-OCR's inference models into checkpoints that PaddleOCR's tools can start a training from.

An inference model of PP-OCRv4 has one convolution where the network in training has up to six branches, each with a
batch norm. The kernel is split over the branches, unevenly and with noise that cancels, and each batch norm gets the
statistics of what reaches it, so that the network computes what the inference model does and trains like any other.

``SLIMKIT_PADDLEOCR=CLONE python tests/clones/ocr_weights.py CONFIG INFERENCE_DIR DATA_DIR OUT [OPTION ...]``
"""

from __future__ import annotations

import os
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import cv2
import numpy as np

IDENTITY, POINTWISE, NOISE = 0.1, 0.25, 0.5  # what part of a kernel goes to these branches; noise, in deviations

#: Other names of the same kinds of layers in the inference models.
KINDS = {"fc": "linear", "mobile_one_block": "lab", "whswish_b": "act"}
_NAME = re.compile(r"(.+?)_(\d+)\.(\w_\d)$")

Arrays = Dict[str, np.ndarray]


def _by_kind(arrays: Arrays) -> Dict[str, List[Tuple[int, Arrays]]]:
    """Kind of layer -> (number, part -> value) in the order in which the layers were made."""
    layers: Dict[str, Dict[int, Arrays]] = defaultdict(lambda: defaultdict(dict))
    for name, value in arrays.items():
        kind, number, part = _NAME.match(name).groups()  # type: ignore[union-attr]
        layers[KINDS.get(kind, kind)][int(number)][part] = value
    return {kind: sorted(numbered.items()) for kind, numbered in layers.items()}


def _split(layer, kernel: np.ndarray, generator: np.random.Generator) -> None:
    """Splits one kernel over the branches of a re-parameterizable layer."""
    rest, middle = kernel.copy(), layer.kernel_size // 2
    if layer.identity is not None:
        rows = np.arange(len(rest))
        rest[rows, rows % rest.shape[1], middle, middle] -= IDENTITY
    if layer.conv_1x1 is not None:
        part = POINTWISE * rest[:, :, middle : middle + 1, middle : middle + 1]
        rest[:, :, middle : middle + 1, middle : middle + 1] -= part
        layer.conv_1x1.conv.weight.set_value(part)
    count = len(layer.conv_kxk)
    noise = generator.normal(0, NOISE * kernel.std() / count, (count, *kernel.shape)).astype("float32")
    noise -= noise.mean(axis=0)
    for branch, extra in zip(layer.conv_kxk, noise):
        branch.conv.weight.set_value(rest / count + extra)


def _transparent(norm, factor: float, offset: np.ndarray) -> None:
    """Lets a batch norm give ``factor * x + offset``, with the statistics of the first x that it sees."""

    def settle(layer, inputs):
        values = inputs[0].numpy()
        mean, variance = values.mean(axis=(0, 2, 3)), values.var(axis=(0, 2, 3))
        layer._mean.set_value(mean)
        layer._variance.set_value(variance)
        layer.weight.set_value(factor * np.sqrt(variance + layer._epsilon))
        layer.bias.set_value((factor * mean + offset).astype("float32"))
        hook.remove()

    hook = norm.register_forward_pre_hook(settle)


def _fill_branches(layers: Sequence, kernels: Sequence[Arrays], labs: Sequence, acts: Dict[int, Arrays]) -> None:
    generator = np.random.default_rng(0)
    for index, (layer, kernel, (_, lab)) in enumerate(zip(layers, kernels, labs)):
        _split(layer, kernel["w_0"], generator)
        zeros = np.zeros_like(kernel["b_0"])
        for number, branch in enumerate(layer.conv_kxk):
            _transparent(branch.bn, 1.0, zeros if number else kernel["b_0"])
        if layer.conv_1x1 is not None:
            _transparent(layer.conv_1x1.bn, 1.0, zeros)
        if layer.identity is not None:
            _transparent(layer.identity, IDENTITY, zeros)
        for block, values in ((layer.lab, lab), (layer.act.lab, acts.get(index + 1))):
            if values is not None:
                block.scale.set_value(values["w_0"])
                block.bias.set_value(values["w_1"])


def fill(network, arrays: Arrays, images: np.ndarray) -> None:
    """Gives a PaddleOCR network the parameters of its inference model, in place.

    Args:
        network: of ``ppocr.modeling.architectures.build_model``.
        arrays: parameters of the inference model.
        images: float32 (N, 3, H, W), prepared for the network: the statistics of the branches are taken on them.
    """
    import paddle

    source = _by_kind(arrays)
    branched = [layer for layer in network.sublayers() if hasattr(layer, "rep")]
    inside = {p.name for layer in branched for p in (*layer.parameters(), *layer.buffers())}
    if branched:
        convolutions = [values for _, values in source["conv2d"]]
        source["conv2d"] = source["conv2d"][: -len(branched)]
        _fill_branches(branched, convolutions[-len(branched) :], source["lab"], dict(source["act"]))
    own = {t.name: t for t in (*network.parameters(), *network.buffers()) if t.name not in inside}
    for kind, layers in _by_kind({n: t for n, t in own.items() if _NAME.match(n)}).items():
        for (_, values), (_, given) in zip(layers, source.get(kind, [])):
            for part, tensor in values.items():
                tensor.set_value(given[part])
    if getattr(getattr(network, "head", None), "thresh", None) is not None:  # DB: of training only, so a copy
        network.head.thresh.set_state_dict(network.head.binarize.state_dict())
    network.eval()
    with paddle.no_grad():
        network(paddle.to_tensor(images))


def prepared(folder: Path, kind: str, count: int = 32) -> np.ndarray:
    """Pictures of a folder as a network of PP-OCR takes them: float32 (N, 3, H, W)."""
    height, width = {"cls": (48, 192), "rec": (48, 320), "det": (480, 480)}[kind]
    mean, std = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)) if kind == "det" else ((0.5,) * 3, (0.5,) * 3)
    files = sorted((folder / "images").iterdir())[: 6 if kind == "det" else count]
    pictures = [cv2.resize(cv2.imread(str(file)), (width, height)) for file in files]
    return ((np.stack(pictures) / 255 - mean) / std).transpose(0, 3, 1, 2).astype("float32")


def write_checkpoint(config: dict, inference: Path, data: Path, out: Path) -> float:
    """Writes ``out.pdparams``; returns the greatest difference of the network's and the inference model's results."""
    import paddle
    from ppocr.modeling.architectures import build_model

    from slimkit.ir import Model

    architecture = config["Architecture"]
    if architecture["model_type"] == "rec":
        head = architecture["Head"]
        head.update(out_channels=6625, out_channels_list={"CTCLabelDecode": 6625, "NRTRLabelDecode": 6628})
        head.pop("out_channels" if head["name"] == "MultiHead" else "out_channels_list")
    model = Model.load(str(inference))
    network = build_model(architecture)
    images = prepared(data, architecture["model_type"])
    fill(network, {name: np.array(value) for name, value in model.params.items()}, images)
    result = network(paddle.to_tensor(images[:4]))
    result = (result["maps"] if isinstance(result, dict) else result).numpy()
    paddle.save(network.state_dict(), f"{out}.pdparams")
    return float(np.abs(result - model.run([images[:4]])[0]).max())


def main() -> None:
    """The command line."""
    import yaml

    clone = os.environ["SLIMKIT_PADDLEOCR"]
    sys.path.insert(0, clone)
    from tools.program import ArgsParser, merge_config

    config, inference, data, out, *options = sys.argv[1:]
    settings = yaml.safe_load((Path(clone) / config).read_text(encoding="utf-8"))
    merge_config(settings, ArgsParser()._parse_opt(options))
    print("difference", write_checkpoint(settings, Path(inference), Path(data), Path(out)))


if __name__ == "__main__":
    main()
