"""What the recipe's tests share."""

from __future__ import annotations

import pytest

MINIMAL = "network: {name: mobilenet_v3_small, num_classes: 10}\ndata:\n  kind: fashion_mnist\n"


@pytest.fixture
def config_file(tmp_path):
    """Returns a function that writes a config file (the minimal one plus some text) and gives its path."""

    def write(text="", name="test.yml", minimal=True):
        path = tmp_path / name
        path.write_text((MINIMAL if minimal else "") + text, encoding="utf-8")
        return str(path)

    return write
