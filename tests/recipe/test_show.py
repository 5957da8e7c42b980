"""What inspect, convert and lite-install print."""

from __future__ import annotations

import json
import os

import pytest

from slimkit.cli import main


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    import paddle

    from slimkit.ir import Model

    layer = paddle.nn.Sequential(paddle.nn.Conv2D(3, 4, 3), paddle.nn.ReLU(), paddle.nn.Flatten())
    spec = [paddle.static.InputSpec([-1, 3, 8, 8], "float32", "image")]
    prefix = tmp_path_factory.mktemp("model") / "net"
    Model.from_layer(layer, spec).save(prefix)
    return prefix


def test_inspect(model, capsys):
    assert main(["inspect", str(model)]) == 0
    shown = capsys.readouterr().out
    for part in ("ProgramDesc", "image float32 [?, 3, 8, 8]", "conv2d 1", "112 numbers", "net.pdiparams"):
        assert part in shown, part


def test_inspect_json(model, capsys):
    assert main(["inspect", str(model), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == 112 and found["ops"]["conv2d"] == 1


def test_inspect_nothing(tmp_path, capsys):
    assert main(["inspect", str(tmp_path / "none")]) == 2
    assert capsys.readouterr().err.startswith("slimkit: No model is at")


@pytest.mark.parametrize("target, written", [("out/", "out/net"), ("deep/er/net", "deep/er/net")])
def test_convert(model, tmp_path, capsys, target, written):
    from slimkit.ir import Model

    assert main(["convert", str(model), os.path.join(str(tmp_path), target)]) == 0
    assert (tmp_path / f"{written}.pdmodel").is_file() and (tmp_path / f"{written}.pdiparams").is_file()
    assert str(tmp_path / f"{written}.pdmodel") in capsys.readouterr().out.replace("\n", "")
    assert Model.load(tmp_path / written).feeds == ["image"]


def test_convert_missing_source(tmp_path, capsys):
    assert main(["convert", str(tmp_path / "no.json"), str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.count("\n") == 1 and os.listdir(tmp_path) == []


def test_lite_install_hands_its_arguments_on(monkeypatch, capsys, tmp_path):
    calls = []
    monkeypatch.setattr("slimkit.deploy.install_interpreter", lambda *a: calls.append(a) or "/x/python")
    monkeypatch.setenv("SLIMKIT_CACHE", str(tmp_path))
    assert main(["lite-install"]) == 0 and main(["lite-install", "d", "--python", "p"]) == 0
    assert calls == [(str(tmp_path / "paddle-lite"), None), ("d", "p")]
    assert "/x/python" in capsys.readouterr().out
