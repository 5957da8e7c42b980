"""``model_size``: how many numbers a network is made of."""

from __future__ import annotations

from typing import Any

from slimkit.analysis.complexity import count_parameters
from slimkit.analysis.sources import model_of

__all__ = ["model_size"]


def model_size(program: Any) -> int:
    """Counts the numbers in a network's parameters, as PaddleSlim's ``model_size`` does.

    Weights, biases and batch norms' running statistics count; an optimizer's states and the scales of simulated
    quantization do not. Loaded models count like built ones: a parameter is what the forward pass reads and a file
    gives, whatever its Python type.

    Args:
        program: a legacy or PIR program, a Model, or the path of a saved model.

    Raises:
        ModelError: it is something else.
    """
    return count_parameters(model_of(program))
