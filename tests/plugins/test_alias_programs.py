"""What programs build with ``paddleslim.core`` and ``paddleslim.models``."""

from __future__ import annotations

from typing import Iterator

import pytest

import slimkit
from slimkit.errors import SlimkitError
from slimkit.plugins import alias


@pytest.fixture(autouse=True)
def _alias() -> Iterator[None]:
    alias.install()
    try:
        yield
    finally:
        alias.uninstall()


def test_a_graph_wrapper_finds_the_parameters_of_norms_as_paddleslim_s_page_on_sparse_training_does() -> None:
    import paddle
    import paddleslim

    with slimkit.legacy_ir():
        program = paddle.static.Program()
        with paddle.static.program_guard(program, paddle.static.Program()):
            image = paddle.static.data("image", [None, 3, 8, 8])
            hidden = paddle.static.nn.conv2d(image, 4, 3, param_attr="conv")
            paddle.static.nn.batch_norm(hidden, param_attr="scale", bias_attr="offset")
        skipped = set()
        graph = paddleslim.core.GraphWrapper(program)
        for op in graph.ops():
            if "norm" in op.type() and "grad" not in op.type():
                skipped |= {name.name() for name in op.all_inputs()}
    assert {"scale", "offset"} <= skipped and "conv" not in skipped


def test_the_networks_of_the_tutorials_are_built() -> None:
    import paddle
    import paddleslim as slim

    with slimkit.legacy_ir(), paddle.static.scope_guard(paddle.static.Scope()):
        _, train, val, inputs, outputs = slim.models.image_classification("MobileNet", [1, 28, 28], 10)
        assert slim.analysis.flops(train) == 10896832  # as in PaddleSlim's notebook on sensitivities
        assert [var.name for var in inputs] == ["image", "label"] and len(outputs) == 4
        assert {"conv2_1_sep_weights", "fc7_weights"} <= {p.name for p in train.global_block().all_parameters()}
        assert not any(op.type.endswith("_grad") for op in val.global_block().ops)
        with pytest.raises(SlimkitError, match=r"no network 'MobilNet'.*did you mean 'MobileNet'\?"):
            slim.models.image_classification("MobilNet", [1, 28, 28], 10)
