"""Float models and inputs for the int8 benchmarks: paddle.vision's classifiers at 224 x 224, PP-OCR's three models.

The classifiers have seeded random weights, and batch-norm statistics of a few seeded batches: latency does not depend
on what was learned, and activations are as wide as in a trained network. PP-OCR's models are the real ones.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Tuple

import numpy as np

CLASSIFIERS = {
    "ResNet18": "resnet18",
    "ResNet50": "resnet50",
    "MobileNetV1": "mobilenet_v1",
    "MobileNetV2": "mobilenet_v2",
    "MobileNetV3": "mobilenet_v3_large",
}
PPOCR = {"PP-OCR det": ("det", 320, 320), "PP-OCR rec": ("rec", 48, 320), "PP-OCR cls": ("cls", 48, 192)}
NAMES = (*CLASSIFIERS, *PPOCR)


def float_model(name: str) -> Tuple[Any, np.ndarray]:
    """Builds one.

    Returns:
        The ``Model`` and eight inputs: float32, ``[8, 3, height, width]``.
    """
    from slimkit.ir import Model

    if name in PPOCR:
        from slimkit.recipe.data.real_models import ppocr_model

        kind, height, width = PPOCR[name]
        return Model.load(ppocr_model(kind)), text_images(kind, height, width)
    import paddle

    paddle.seed(0)
    layer = getattr(paddle.vision.models, CLASSIFIERS[name])(pretrained=False)
    _settle(layer)
    return Model.from_layer(layer, [paddle.static.InputSpec([None, 3, 224, 224], "float32", "x")]), photographs(8, 1)


def _settle(layer: Any) -> None:
    """Batch-norm statistics of four batches."""
    import paddle

    layer.train()
    for part in layer.sublayers():
        if isinstance(part, paddle.nn.BatchNorm2D):
            part._momentum = 0.5
    with paddle.no_grad():
        for seed in range(4):
            layer(paddle.to_tensor(photographs(4, 100 + seed)))
    layer.eval()


def photographs(count: int, seed: int) -> np.ndarray:
    """Coarse colour patches and noise, normalised: float32 ``[count, 3, 224, 224]``."""
    rng = np.random.RandomState(seed)
    patches = np.kron(rng.randn(count, 3, 14, 14), np.ones((16, 16)))
    return (patches + 0.3 * rng.randn(count, 3, 224, 224)).astype(np.float32)


def text_images(kind: str, height: int, width: int, count: int = 8) -> np.ndarray:
    """Rendered lines (cls, rec) or pages of lines (det), normalised as PP-OCR does it."""
    from slimkit.recipe.data.fonts import find_fonts
    from slimkit.recipe.data.text_render import LineRenderer

    renderer = LineRenderer(find_fonts(["latin"]), 0.4)
    draw: Dict[str, Callable[..., np.ndarray]] = {"det": _page}
    made = [draw.get(kind, _line)(renderer, np.random.default_rng(i), height, width) for i in range(count)]
    return np.stack(made).transpose(0, 3, 1, 2).astype(np.float32)


def _line(renderer: Any, generator: Any, height: int, width: int) -> np.ndarray:
    import cv2

    line = renderer.line(generator, bool(generator.integers(2)) and height == width)
    line = cv2.resize(line, (min(width, round(line.shape[1] * height / line.shape[0])), height))
    image = np.full((height, width, 3), 127.5)
    image[:, : line.shape[1]] = line
    return image / 127.5 - 1


def _page(renderer: Any, generator: Any, height: int, width: int) -> np.ndarray:
    import cv2

    page, top = np.full((height, width, 3), 235, np.uint8), 10
    while top < height - 42:
        tall = int(generator.integers(16, 32))
        line = renderer.line(generator, False)
        line = cv2.resize(line, (min(width - 20, max(8, round(line.shape[1] * tall / line.shape[0]))), tall))
        page[top : top + tall, 10 : 10 + line.shape[1]] = line
        top += tall + int(generator.integers(6, 16))
    return (page / 255.0 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
