"""How important each filter of a weight is: what the criteria of filter pruning compute of one array.

Every function takes an array and the axis along which filters are counted, and returns float64, one number a filter;
small means unimportant. Sums run in float64 whatever the array's dtype.
"""

from __future__ import annotations

import numpy as np

from slimkit.errors import NumericsError

__all__ = ["bn_scale", "geometry_median", "l1_norm", "l2_norm", "taylor", "taylor_abs"]

#: A squared distance below this fraction of the two squared norms has lost digits to cancellation: it is then summed
#: from differences. At and above it the relative error of a distance is below 1e-9.
_CANCELLED = 1e-6
#: Numbers that differences of pairs of filters may fill at a time (64 MB).
_PAIR_NUMBERS = 1 << 23


def l1_norm(array: np.ndarray, axis: int = 0) -> np.ndarray:
    """Sum of magnitudes of each filter: ``s_j = sum |F_j|``.

    Source: Li et al., Pruning Filters for Efficient ConvNets, 2017 (arXiv:1608.08710), section 3.1.

    Args:
        array: weights of any rank.
        axis: along which filters are counted.

    Returns:
        float64, shape [array.shape[axis]].

    Raises:
        NumericsError: the array has no such axis.
    """
    axis = _axis(array, axis)
    others = tuple(i for i in range(array.ndim) if i != axis)
    return np.abs(array).sum(axis=others, dtype=np.float64)


def l2_norm(array: np.ndarray, axis: int = 0) -> np.ndarray:
    """Euclidean norm of each filter: ``s_j = sqrt(sum F_j^2)``.

    Source: He et al., Soft Filter Pruning, 2018 (arXiv:1808.06866), equation 2 with p = 2.

    Args, returns and raises as :func:`l1_norm`.
    """
    rows = _rows(array, axis)
    return np.sqrt(np.einsum("ij,ij->i", rows, rows))


def geometry_median(array: np.ndarray, axis: int = 0) -> np.ndarray:
    """Sum of each filter's Euclidean distances to all others: ``s_j = sum_k ||F_j - F_k||`` (FPGM).

    A small sum is a filter near the geometric median, which the others can stand in for.

    Source: He et al., Filter Pruning via Geometric Median, 2019 (arXiv:1811.00250), equation 6.

    The distances are ``|a|^2 + |b|^2 - 2 ab`` of the Gram matrix, so one matrix product does the work. Filters are
    centred first, which leaves distances as they are and norms small; where the three terms cancel nevertheless, as
    between equal filters, the distance is summed from differences.

    Args, returns and raises as :func:`l1_norm`.
    """
    rows = _rows(array, axis)
    if not rows.size:
        return np.zeros(len(rows))
    rows = rows - rows.mean(axis=0)
    gram = rows @ rows.T
    norms = np.diagonal(gram).copy()
    both = norms[:, None] + norms[None, :]
    squared = np.multiply(gram, -2.0, out=gram)
    squared += both
    cancelled = squared < np.multiply(both, _CANCELLED, out=both)
    np.fill_diagonal(cancelled, False)
    np.fill_diagonal(squared, 0.0)
    if cancelled.any():
        _from_differences(rows, squared, cancelled)
    return np.sqrt(squared, out=squared).sum(axis=1)


def _from_differences(rows: np.ndarray, squared: np.ndarray, where: np.ndarray) -> None:
    """Sets the marked squared distances, of a symmetric matrix, to sums of squared differences."""
    first, second = np.nonzero(np.triu(where))
    step = max(1, _PAIR_NUMBERS // rows.shape[1])
    for start in range(0, len(first), step):
        one, other = first[start : start + step], second[start : start + step]
        difference = rows[one] - rows[other]
        exact = np.einsum("ij,ij->i", difference, difference)
        squared[one, other] = exact
        squared[other, one] = exact


def bn_scale(gamma: np.ndarray, axis: int = 0) -> np.ndarray:
    """Magnitude of the batch norm's scale behind each filter: ``s_j = |gamma_j|``.

    Source: Liu et al., Learning Efficient Convolutional Networks through Network Slimming, 2017 (arXiv:1708.06519),
    section 3; there gamma is trained with an L1 penalty.

    Args, returns and raises as :func:`l1_norm`, for gamma of shape [channels].
    """
    return l1_norm(gamma, axis)


def taylor(array: np.ndarray, gradient: np.ndarray, axis: int = 0) -> np.ndarray:
    """Squared change of the loss to first order, summed over a filter's weights: ``s_j = sum (g w)^2``.

    Source: Molchanov et al., Importance Estimation for Neural Network Pruning, 2019 (arXiv:1906.10771), equation 10.
    The paper averages it over batches; a gradient that is the root mean square over batches gives that average.

    Args:
        array: weights of any rank.
        gradient: of the loss with respect to them; same shape.
        axis: along which filters are counted.

    Returns:
        float64, shape [array.shape[axis]].

    Raises:
        NumericsError: the shapes differ, or there is no such axis.
    """
    product = _product(array, gradient, axis)
    return np.einsum("ij,ij->i", product, product)


def taylor_abs(array: np.ndarray, gradient: np.ndarray, axis: int = 0) -> np.ndarray:
    """Magnitude of the change of the loss to first order, summed over a filter's weights: ``s_j = sum |g w|``.

    Source: the weights' form of Molchanov et al., Pruning Convolutional Neural Networks for Resource Efficient
    Inference, 2017 (arXiv:1611.06440), equation 7, which sums over activations. A gradient that is the mean magnitude
    over batches gives its average.

    Args, returns and raises as :func:`taylor`.
    """
    return np.abs(_product(array, gradient, axis)).sum(axis=1)


def _product(array: np.ndarray, gradient: np.ndarray, axis: int) -> np.ndarray:
    if array.shape != gradient.shape:
        raise NumericsError(
            f"A gradient of shape {list(gradient.shape)} is not of a weight of shape {list(array.shape)}; give the "
            "gradient with respect to this very weight."
        )
    return _rows(array, axis) * _rows(gradient, axis)


def _rows(array: np.ndarray, axis: int) -> np.ndarray:
    """The filters as rows, float64, shape [filters, numbers of each]."""
    axis = _axis(array, axis)
    count = array.shape[axis]
    size = array.size // count if count else 0
    return np.moveaxis(array, axis, 0).astype(np.float64, order="C").reshape(count, size)


def _axis(array: np.ndarray, axis: int) -> int:
    if not -array.ndim <= axis < array.ndim:
        raise NumericsError(
            f"A weight of shape {list(array.shape)} has no axis {axis} to count filters along; its axes are 0 to "
            f"{array.ndim - 1}."
        )
    return axis % array.ndim
