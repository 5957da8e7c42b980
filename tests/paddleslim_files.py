"""Models that PaddleSlim 2.6 quantized, and what its Paddle computes for them: ``assets/paddleslim_models.zip``."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

__all__ = ["peers", "reference"]

ARCHIVE = Path(__file__).parent / "assets" / "paddleslim_models.zip"


@pytest.fixture(scope="session")
def peers(tmp_path_factory):
    """The folder with ``NAME.pdmodel`` and ``NAME.pdiparams`` of every model; ``float`` is the one they come from."""
    folder = tmp_path_factory.mktemp("paddleslim")
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def reference(peers):
    """``x``, and the first result of each model by its name."""
    return dict(np.load(peers / "reference.npz"))
