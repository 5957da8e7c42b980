"""The quantizers of dygraph PTQ: their names, arguments and thresholds."""

from __future__ import annotations

import numpy as np
import pytest

from slimkit.dygraph.quant import ptq as paddleslims
from slimkit.errors import ConfigError
from slimkit.numerics import AbsHistogram
from slimkit.numerics.observers import observer
from slimkit.quant.layers import PTQ
from slimkit.quant.layers.ptq_quantizers import (
    ACTIVATION_QUANTIZERS,
    AbsmaxQuantizer,
    HistQuantizer,
    KLQuantizer,
    PerChannelAbsmaxQuantizer,
    made_quantizer,
)


def _histogram() -> AbsHistogram:
    histogram = AbsHistogram()
    for seed in range(3):
        histogram.update(np.random.default_rng(seed).laplace(size=40_000).astype("float32") * (1 + seed))
    return histogram


def test_defaults_are_paddleslims() -> None:
    ptq = PTQ()
    assert type(ptq.activation_quantizer) is KLQuantizer and type(ptq.weight_quantizer) is PerChannelAbsmaxQuantizer
    assert ptq.activation_quantizer.quant_bits == ptq.weight_quantizer.quant_bits == 8
    assert ptq.activation_quantizer.upsample_bins == 64
    assert HistQuantizer().hist_percent == 0.99999


def test_paddledetections_call() -> None:
    """configs/slim/post_quant/*.yml"""
    ptq = PTQ(**{"activation_quantizer": "HistQuantizer", "upsample_bins": 127, "hist_percent": 0.999})
    assert (
        repr(ptq.activation_quantizer)
        == "HistQuantizer(quant_bits=8, bins=2048, upsample_bins=127, hist_percent=0.999)"
    )


@pytest.mark.parametrize(
    "name", ["PTQ", "AbsmaxQuantizer", "HistQuantizer", "KLQuantizer", "PerChannelAbsmaxQuantizer"]
)
def test_paddleslims_module_has_the_names(name: str) -> None:
    assert name in paddleslims.__all__ and getattr(paddleslims, name).__name__ == name


@pytest.mark.parametrize("name", ACTIVATION_QUANTIZERS)
def test_thresholds_are_those_of_static_quantization(name: str) -> None:
    histogram, quantizer = _histogram(), made_quantizer("activation_quantizer", name)
    assert quantizer.threshold(histogram) == np.float32(observer(quantizer.algo).threshold(histogram, 8))
    assert quantizer.threshold(AbsHistogram()) > 0  # a tensor of zeros has a grid all the same


def test_arguments_arrive() -> None:
    histogram = _histogram()
    kept = HistQuantizer(hist_percent=0.9).threshold(histogram)
    assert (
        kept
        == np.float32(observer("hist").threshold(histogram, 8, hist_percent=0.9))
        < HistQuantizer().threshold(histogram)
    )
    few, many = (made_quantizer("activation_quantizer", "mse", {"quant_bits": bits}) for bits in (3, 8))
    assert few.threshold(histogram) < many.threshold(histogram)
    assert [KLQuantizer(bins=bins).bins for bins in (1024, 2048, 3000)] == [2048, 2048, 4096]


@pytest.mark.parametrize(
    "given, kind",
    [("KL", "KLQuantizer"), ("kl", "KLQuantizer"), ("hist", "HistQuantizer"), ("abs_max", "AbsmaxQuantizer"),
     ("min_max", "AbsmaxQuantizer"), ("mse", "MseQuantizer"), ("avg", "AvgQuantizer"), ("emd", "EmdQuantizer"),
     (KLQuantizer, "KLQuantizer"), (AbsmaxQuantizer(4), "AbsmaxQuantizer")],
)  # fmt: skip
def test_other_ways_to_name_one(given: object, kind: str) -> None:
    assert type(PTQ(given).activation_quantizer).__name__ == kind


def test_weights() -> None:
    assert type(PTQ(weight_quantizer="abs_max").weight_quantizer) is AbsmaxQuantizer
    assert type(PTQ(weight_quantizer="channel_wise_abs_max").weight_quantizer) is PerChannelAbsmaxQuantizer
    assert PTQ(weight_quantizer=PerChannelAbsmaxQuantizer(4)).weight_quantizer.quant_bits == 4


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        ({"activation_quantizer": "HistQuantiser"}, r"'HistQuantiser': allowed are KL.*; did you mean 'HistQuantizer'"),
        ({"activation_quantizer": "PerChannelAbsmaxQuantizer"}, r"activation_quantizer = 'PerChannel.*allowed are KLQ"),
        ({"weight_quantizer": "KLQuantizer"}, r"weight_quantizer = 'KLQuantizer': allowed are PerChannelAbs"),
        ({"activation_quantizer": None}, r"activation_quantizer = 'None': allowed"),
        ({"hist_percent": 0.9}, r"KLQuantizer has no argument 'hist_percent', it has quant_bits, bins, upsample_bins"),
        ({"activation_quantizer": "hist", "hist_precent": 0.9}, r"'hist_precent'.*did you mean 'hist_percent'"),
        ({"activation_quantizer": "HistQuantizer", "hist_percent": 99.9}, r"hist_percent = 99.9.*such as 0.999"),
        ({"activation_quantizer": "HistQuantizer", "hist_percent": "0.9"}, r"hist_percent = '0.9'"),
        ({"quantizable_layer_type": ["Conv3D"]}, r"'Conv3D' cannot be quantized; allowed are Conv2D, Conv2DTranspose"),
        ({"quant_bits": 1}, r"KLQuantizer: quant_bits = 1: a whole number from 2 to 16"),
        ({"quant_bits": True}, r"quant_bits = True"),
        ({"upsample_bins": 0}, r"upsample_bins = 0"),
        ({"bins": 10.5}, r"bins = 10.5"),
        ({"activation_quantizer": AbsmaxQuantizer(), "quant_bits": 4}, r"is a quantizer already, so 'quant_bits' goes"),
    ],
)  # fmt: skip
def test_what_is_refused(arguments: dict, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        PTQ(**arguments)
    assert "\n" not in str(caught.value) and str(caught.value).endswith((".", "?", "'?", "0.999."))
