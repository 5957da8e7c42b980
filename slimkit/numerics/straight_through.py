"""Gradients of simulated quantization: the references that the graph passes are tested against.

Sources: Bengio et al. 2013 (arXiv 1308.3432): the straight-through estimator passes the gradient of the quantized
tensor to the float one. Choi et al. 2018 (arXiv 1805.06085): PACT, ``y = 0.5 (|x| - |x - alpha| + alpha)``, eq. 1, and
its gradients, eq. 3. The two-sided form clips to ``[-alpha, alpha]``; alpha then learns from both ends.
"""

from __future__ import annotations

from typing import Tuple

import numpy as np

from slimkit.errors import NumericsError
from slimkit.numerics.symmetric import fake_quantize

__all__ = ["PACT_FORMS", "pact_clip", "pact_gradients", "pact_quantize", "straight_through_gradient"]

#: ``relu``: the paper's form, clips to [0, alpha]. ``two_sided``: clips to [-alpha, alpha], behind any activation.
PACT_FORMS = ("two_sided", "relu")


def straight_through_gradient(x: np.ndarray, upstream: np.ndarray, scale: float, saturate: bool = False) -> np.ndarray:
    """Gradient of a quantized tensor with respect to the float one.

    Args:
        x: float tensor, any shape.
        upstream: gradient of the quantized tensor, same shape.
        scale: threshold of the grid.
        saturate: no gradient where ``|x| > scale``. False: the identity, as in Paddle's quantization passes.

    Returns:
        Gradient of ``x``.
    """
    return np.where(np.abs(x) <= scale, upstream, 0).astype(upstream.dtype) if saturate else upstream


def _low(alpha: float, form: str) -> float:
    if form not in PACT_FORMS:
        raise NumericsError(f"There is no form '{form}' of PACT; it is one of {', '.join(PACT_FORMS)}.")
    if not alpha > 0:
        raise NumericsError(f"PACT's alpha is {alpha}; it is positive, so lower its learning rate or L2.")
    return -alpha if form == "two_sided" else 0.0


def pact_clip(x: np.ndarray, alpha: float, form: str = "two_sided") -> np.ndarray:
    """``clip(x, -alpha, alpha)``, or ``clip(x, 0, alpha)`` in the paper's form.

    Raises:
        NumericsError: alpha is not positive, or the form is unknown.
    """
    return np.clip(x, x.dtype.type(_low(alpha, form)), x.dtype.type(alpha))


def pact_quantize(
    x: np.ndarray, alpha: float, bits: int, form: str = "two_sided", rounding: str = "half_away"
) -> np.ndarray:
    """Clips at alpha and quantizes on the symmetric grid whose threshold is alpha (eq. 2).

    The paper spreads ``2**bits - 1`` steps over [0, alpha]; here integers are signed, as in every runtime slimkit
    exports to, so [0, alpha] has ``2**(bits-1) - 1``.

    Raises:
        NumericsError: alpha is not positive, or form or bits is not allowed.
    """
    return fake_quantize(pact_clip(x, alpha, form), np.float32(alpha), bits, rounding=rounding)


def pact_gradients(
    x: np.ndarray, upstream: np.ndarray, alpha: float, form: str = "two_sided"
) -> Tuple[np.ndarray, np.floating]:
    """Gradients of ``pact_clip`` and, straight through, of ``pact_quantize``.

    ``dx = dy [low <= x <= alpha]`` and ``dalpha = sum dy ([x > alpha] - [x < -alpha])``; the last term is absent in the
    paper's form. At the ends themselves, where the paper's eq. 3 gives the gradient to alpha, it goes to x, as in
    Paddle's ``clip``.

    Args:
        x: float tensor, any shape.
        upstream: gradient dy of the clipped tensor, same shape.
        alpha: threshold.
        form: one of ``PACT_FORMS``.

    Returns:
        The gradient of ``x`` and that of alpha.

    Raises:
        NumericsError: alpha is not positive, or the form is unknown.
    """
    low = _low(alpha, form)
    dx = np.where((x >= low) & (x <= alpha), upstream, 0).astype(upstream.dtype)
    dalpha = upstream[x > alpha].sum()
    if form == "two_sided":
        dalpha = dalpha - upstream[x < low].sum()
    return dx, dalpha
