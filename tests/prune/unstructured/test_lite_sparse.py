"""What Paddle-Lite makes of a sparse model: fewer bytes on ARM, nothing unless it is told."""

import paddle
import pytest

from slimkit.deploy import lite
from slimkit.errors import ConfigError
from slimkit.ir import Model
from slimkit.prune.unstructured.dygraph import UnstructuredPruner


@pytest.fixture(scope="module")
def sparse_model(tmp_path_factory):
    """Two 1x1 convolutions with 80% zeros and a dense one of the same size; 64 channels."""
    paddle.seed(0)
    net = paddle.nn.Sequential(*(paddle.nn.Conv2D(64, 64, 1) for _ in range(3)))
    kept = net[2].weight.name
    vectors = {p.name for p in net.parameters() if len(p.shape) == 1}
    pruner = UnstructuredPruner(
        net, "ratio", ratio=0.8, local_sparsity=True, skip_params_func=lambda model: {kept} | vectors
    )
    pruner.step()
    prefix = tmp_path_factory.mktemp("sparse") / "model"
    Model.from_layer(net, [paddle.static.InputSpec([1, 64, 8, 8], "float32", "x")]).save(prefix)
    return prefix


@pytest.mark.parametrize("target, sparse", [("x86", 0.6), ("arm", 0), ("arm", 1.5)])
def test_a_threshold_that_is_none_is_one_sentence(sparse_model, tmp_path, target, sparse):
    with pytest.raises(ConfigError, match=r"sparse = .* it is the fraction of zeros, between 0 and 1"):
        lite.convert(sparse_model, tmp_path / "m", target, sparse=sparse)


@pytest.mark.lite
def test_arm_stores_sparse_weights_sparsely_when_told(sparse_model, tmp_path):
    if lite.ARM.available() is not None:
        pytest.skip(lite.ARM.available())
    dense = lite.convert(sparse_model, tmp_path / "dense")
    sparse = lite.convert(sparse_model, tmp_path / "sparse", sparse=0.6)
    above = lite.convert(sparse_model, tmp_path / "above", sparse=0.9)
    assert dense.kernels["conv2d"] == above.kernels["conv2d"] == {"float": 3}
    assert sparse.kernels["sparse_conv2d"] == {"float": 2} and sparse.kernels["conv2d"] == {"float": 1}
    saved = 2 * 64 * 64 * (4 - 0.2 * 8)  # bytes: of 4 a weight, 8 stay for each that is not zero
    assert dense.size_bytes - sparse.size_bytes == pytest.approx(saved, rel=0.2)
    assert above.size_bytes == dense.size_bytes
