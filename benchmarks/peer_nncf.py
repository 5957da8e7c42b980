"""Worker of ``bench_ptq_accuracy.py`` in NNCF's own interpreter (``pip install nncf onnx onnxruntime``).

python peer_nncf.py FLOAT.onnx BATCHES.npz OUT.onnx performance|mixed|transformer
"""

from __future__ import annotations

import sys

import numpy as np


def main() -> None:
    import nncf
    import onnx

    source, data, target, setting = sys.argv[1:5]
    model = onnx.load(source)
    name = model.graph.input[0].name
    with np.load(data) as arrays:
        batches = [{name: arrays[f"arr_{index}"]} for index in range(len(arrays.files))]
    options = {
        "performance": {"preset": nncf.QuantizationPreset.PERFORMANCE},
        "mixed": {"preset": nncf.QuantizationPreset.MIXED},
        "transformer": {"model_type": nncf.ModelType.TRANSFORMER},
    }[setting]
    quantized = nncf.quantize(model, nncf.Dataset(batches), subset_size=len(batches), **options)
    onnx.save(quantized, target)


if __name__ == "__main__":
    main()
