"""onnxruntime's own ``quantize_static``, in a process of its own: its histograms keep all activations of all batches.

python peer_ort.py FLOAT.onnx BATCHES.npz OUT.onnx MinMax|Percentile|Entropy
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np


def main() -> None:
    import onnx
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    source, data, target, method = sys.argv[1:5]
    name = onnx.load(source, load_external_data=False).graph.input[0].name

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """The batches, one after another."""

        def __init__(self) -> None:
            with np.load(data) as arrays:
                self._batches = iter([arrays[f"arr_{index}"] for index in range(len(arrays.files))])

        def get_next(self) -> Optional[Dict[str, Any]]:
            batch = next(self._batches, None)
            return None if batch is None else {name: batch}

    with tempfile.TemporaryDirectory() as folder:
        ready = str(Path(folder) / "ready.onnx")
        quant_pre_process(source, ready, skip_symbolic_shape="symbolic" not in sys.argv)
        quantize_static(
            ready,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=getattr(CalibrationMethod, method),
        )


if __name__ == "__main__":
    main()
