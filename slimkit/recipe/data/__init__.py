"""Datasets of the recipes: Fashion-MNIST (embedded), ImageNet-style folders, rendered text lines."""

from __future__ import annotations

from slimkit.recipe.data.build import build_datasets
from slimkit.recipe.data.dataset import CorruptSample, Dataset

__all__ = ["CorruptSample", "Dataset", "build_datasets"]
