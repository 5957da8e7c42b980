"""Dygraph PTQ of MobileNetV3-small: 32 images of 3x112x112 through the float and the observed network, and saving.

    python benchmarks/bench_ptq_dygraph.py [--peer PYTHON] [--save-kl]

Saving starts from calibrated networks and includes the search of thresholds, which takes the peer a second for each
tensor with KL; so that case is measured on demand only.
"""

from __future__ import annotations

import os
import tempfile
from typing import Any, Callable, Dict, List, Sequence

import harness

BATCHES, BATCH, SIZE = 4, 8, 112
SETTINGS: Dict[str, Dict[str, Any]] = {
    "KL": {"activation_quantizer": "KLQuantizer"},
    "hist": {"activation_quantizer": "HistQuantizer", "upsample_bins": 127, "hist_percent": 0.999},
    "abs_max": {"activation_quantizer": "AbsmaxQuantizer"},
}


def cases(quantizer: Callable[..., Any], save_kl: bool) -> Sequence[harness.Case]:
    """Inference, calibration and saving of a side, whose class ``PTQ`` is ``quantizer``."""
    import numpy as np
    import paddle

    paddle.seed(0)
    net = paddle.vision.models.mobilenet_v3_small(num_classes=1000)
    net.eval()
    random = np.random.RandomState(0)
    images = [paddle.to_tensor(random.randn(BATCH, 3, SIZE, SIZE).astype("float32")) for _ in range(BATCHES)]
    spec = [paddle.static.InputSpec([None, 3, SIZE, SIZE], "float32", "x")]

    def through(model: Any) -> None:
        with paddle.no_grad():
            for batch in images:
                model(batch)

    def calibrate(settings: Dict[str, Any]) -> Callable[[], Any]:
        model = quantizer(**settings).quantize(net)
        return lambda: through(model)

    def save(settings: Dict[str, Any]) -> Callable[[], Any]:
        ptq = quantizer(**settings)
        model = ptq.quantize(net)
        through(model)
        return lambda: ptq.save_quantized_model(model, os.path.join(tempfile.mkdtemp(), "out", "model"), spec)

    found: List[harness.Case] = [harness.Case("float", lambda: lambda: through(net))]
    found += [harness.Case(f"calibrate, {name}", lambda s=s: calibrate(s)) for name, s in SETTINGS.items()]
    found += [
        harness.Case(f"save, {name}", lambda s=s: save(s), repeats=1, warmups=0)
        for name, s in SETTINGS.items()
        if name != "KL" or save_kl
    ]
    return found


def slimkit_cases(save_kl: bool) -> Sequence[harness.Case]:
    import zlib  # noqa: F401  (before paddle)

    from slimkit import PTQ

    return cases(PTQ, save_kl)


def peer_cases(save_kl: bool) -> Sequence[harness.Case]:
    import zlib  # noqa: F401  (before paddle)

    from paddleslim import PTQ

    return cases(PTQ, save_kl)


def main() -> None:
    parser = harness.arguments(__doc__.splitlines()[0], repeats=5)
    parser.add_argument("--save-kl", action="store_true")
    options = parser.parse_args()
    harness.run(
        __file__,
        "Dygraph PTQ, MobileNetV3-small, 32 images",
        options,
        {"slimkit": lambda: slimkit_cases(options.save_kl), "peer": lambda: peer_cases(options.save_kl)},
        extra=["--save-kl"] if options.save_kl else [],
    )


if __name__ == "__main__":
    main()
