"""``slimkit flops``."""

from __future__ import annotations

import json
import zlib  # noqa: F401  (before paddle)
from pathlib import Path

import pytest
from paddle import nn
from paddle.static import InputSpec

from slimkit.cli import main
from slimkit.ir import Model

MACS = 2 * 4 * 14 * 30 * 27


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    layer = nn.Sequential(nn.Conv2D(3, 4, 3), nn.ReLU())
    model = Model.from_layer(layer, [InputSpec([-1, 3, -1, 32], "float32", "image")])
    return model.save(tmp_path_factory.mktemp("model") / "net")


def test_totals(saved: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["flops", str(saved), "--input", "image=2,3,16,32"]) == 0
    said = capsys.readouterr().out
    assert "input       image [2, 3, 16, 32]" in said
    assert f"MACs        90.72 k  ({MACS:,})" in said
    assert "parameters  112  (112)" in said
    assert "conv2d" not in said


def test_detail_and_json(saved: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["flops", str(saved), "--input", "image=2,3,16,32", "--detail"]) == 0
    assert "2x4x14x30" in capsys.readouterr().out
    assert main(["flops", str(saved), "--input", "image=2,3,16,32", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["macs"] == MACS and found["ops"][0]["output_shape"] == [2, 4, 14, 30]


def test_an_unknown_shape_is_one_sentence(saved: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["flops", str(saved)]) == 2
    assert "on the command line --input image=1,3,320,32." in capsys.readouterr().err


@pytest.mark.parametrize("text", ["image", "image=1,x", "=1,3", "image=0,3,16,32"])
def test_inputs_that_are_none(saved: Path, text: str, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        main(["flops", str(saved), "--input", text])
    assert "is not NAME=SIDES, such as x=1,3,224,224" in capsys.readouterr().err
