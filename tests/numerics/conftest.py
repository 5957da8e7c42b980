"""A fixture that runs one legacy Paddle op on arrays."""

import zlib  # noqa: F401  (before paddle)

import numpy as np
import paddle
import pytest
from hypothesis import HealthCheck, settings

from slimkit.ir.guards import legacy_ir

# Shared machines are slow at times, and a run is to be repeatable.
settings.register_profile("repeatable", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("repeatable")


def _run_op(op_type, inputs, outputs, attrs):
    """Returns the outputs of an op as arrays by slot.

    Args:
        op_type: legacy name.
        inputs: slot -> array.
        outputs: slot -> shape, or the name of an input slot that is updated in place.
        attrs: the op's attributes.
    """
    place, scope = paddle.CPUPlace(), paddle.static.Scope()
    with legacy_ir(), paddle.static.scope_guard(scope):
        program = paddle.static.Program()
        block = program.global_block()

        def put(slot, array):
            name = f"in_{slot}"
            scope.var(name).get_tensor().set(np.ascontiguousarray(array), place)
            return block.create_var(name=name, shape=array.shape, dtype=str(array.dtype), persistable=True)

        held = {slot: put(slot, array) for slot, array in inputs.items()}
        results = {
            slot: held[like]
            if isinstance(like, str)
            else block.create_var(name=f"out_{slot}", shape=like, dtype="float32")
            for slot, like in outputs.items()
        }
        block.append_op(type=op_type, inputs=held, outputs=results, attrs=attrs)
        values = paddle.static.Executor(place).run(program, fetch_list=list(results.values()))
        return dict(zip(results, (np.array(v) for v in values)))


@pytest.fixture(scope="session")
def run_op():
    """The function ``run_op(op_type, inputs, outputs, attrs)``."""
    return _run_op
