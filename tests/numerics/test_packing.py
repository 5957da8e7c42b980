"""Packing integers: nothing is lost, nothing is wrapped."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimkit.errors import NumericsError
from slimkit.numerics.packing import pack, storage_type


@pytest.mark.parametrize("bits", range(2, 17))
@pytest.mark.parametrize("signed", [True, False])
def test_every_integer_of_the_grid_survives(bits, signed):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    for dtype in (np.int32, np.int64, np.float32, np.float64):
        q = np.arange(low, high + 1).astype(dtype)
        packed = pack(q, bits, signed)
        assert packed.dtype == storage_type(bits, signed)
        assert packed.dtype.itemsize == (1 if bits <= 8 else 2)
        assert [int(v) for v in packed] == list(range(low, high + 1))
    for value in (low - 1, high + 1):
        with pytest.raises(NumericsError, match=f"outside the {bits}-bit range"):
            pack(np.array([0, value]), bits, signed)


@given(st.lists(st.floats(width=32), min_size=1, max_size=20))
def test_packs_whole_numbers_in_range_and_nothing_else(values):
    x = np.array(values, np.float32)
    good = all(np.isfinite(v) and v == int(v) and -128 <= v <= 127 for v in values)
    if good:
        assert pack(x).tolist() == [int(v) for v in values]
    else:
        with pytest.raises(NumericsError):
            pack(x)


def test_messages_name_the_tensor_the_count_and_the_first_value():
    with pytest.raises(
        NumericsError, match=r"conv1.w holds 2 of 3 values outside the 8-bit range -128..127 \(first: 200\)"
    ):
        pack(np.array([1, 200, -300]), name="conv1.w")
    with pytest.raises(NumericsError, match=r"1 of 2 values that are not whole numbers \(first: 0.5\)"):
        pack(np.array([1.0, 0.5]))
    with pytest.raises(NumericsError, match="dtype complex128"):
        pack(np.array([1j]))
    with pytest.raises(NumericsError, match="dtype bool"):
        pack(np.array([True]))
    with pytest.raises(NumericsError, match="2 to 16"):
        storage_type(32)
