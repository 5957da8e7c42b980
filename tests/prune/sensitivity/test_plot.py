from __future__ import annotations

from pathlib import Path
from typing import Dict
from xml.etree import ElementTree

import pytest

from slimkit.errors import ConfigError
from slimkit.prune.sensitivity import plot_sensitivities


def curves(count: int) -> Dict[str, Dict[float, float]]:
    return {f"conv2d_{i}.w_0": {r / 10: (r / 10) ** 2 * (i + 1) / count for r in range(1, 10)} for i in range(count)}


def texts(svg: str) -> str:
    return " ".join(
        "".join(node.itertext()) for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text")
    )


@pytest.mark.parametrize("count", [1, 13, 60])
def test_every_layer_has_a_panel(tmp_path: Path, count: int) -> None:
    ratios = {f"conv2d_{i}.w_0": 0.37 for i in range(count)}
    shown = texts(plot_sensitivities(curves(count), line=0.05, ratios=ratios, path=tmp_path / "s.png"))
    assert all(f"{name}  37%" in shown for name in ratios)
    assert "0.05 = 5.00%" in shown
    assert (tmp_path / "s.png").read_bytes()[:4] == b"\x89PNG"


def test_svg_is_the_same_each_time(tmp_path: Path) -> None:
    svg = plot_sensitivities(curves(3), path=tmp_path / "s.svg")
    assert svg == plot_sensitivities(curves(3))
    assert (tmp_path / "s.svg").read_text(encoding="utf-8").endswith(svg)
    assert "loss line" not in texts(svg) and "%  37" not in texts(svg)


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no sensitivities to draw"):
        plot_sensitivities({"a": {}})
    with pytest.raises(ConfigError, match=r"written as \.svg or \.png"):
        plot_sensitivities(curves(1), path=tmp_path / "s.jpg")
