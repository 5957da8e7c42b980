"""What scripts of Paddle 2 do around the functions: layers, optimizers, control flow, saving, as a launched script."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.nn import functional as F

from slimkit.ir import legacy_api

RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(8, 3, 16, 16)).astype("float32")
LABELS = RNG.integers(0, 10, (8, 1))
FEED = {"x": IMAGES, "y": LABELS}


@pytest.fixture
def programs():
    """Main and startup program of a script that has called ``paddle.enable_static()``."""
    with legacy_api.installed():
        paddle.enable_static()
        try:
            main, startup = paddle.static.Program(), paddle.static.Program()
            with paddle.static.program_guard(main, startup), paddle.utils.unique_name.guard():
                with paddle.static.scope_guard(paddle.static.Scope()):
                    yield main, startup
        finally:
            paddle.disable_static()


def _executor():
    return paddle.static.Executor(paddle.CPUPlace())


def _classifier():
    x = paddle.static.data("x", [None, 3, 16, 16], "float32")
    y = paddle.static.data("y", [None, 1], "int64")
    hidden = paddle.static.nn.batch_norm(paddle.static.nn.conv2d(x, 8, 3, padding=1, act="relu"))
    out = paddle.static.nn.fc(F.max_pool2d(hidden, 2), 10)
    return x, y, out, paddle.mean(F.softmax_with_cross_entropy(out, y))


LAYERS = {
    "fc": ([None, 6, 5], lambda x: paddle.static.nn.fc(x, 5, num_flatten_dims=2, activation="sigmoid")),
    "conv2d_transpose": ([None, 4, 8, 8], lambda x: paddle.static.nn.conv2d_transpose(x, 6, filter_size=3)),
    "conv3d": ([None, 2, 4, 8, 8], lambda x: paddle.static.nn.conv3d(x, 6, 3)),
    "layer_norm": ([None, 4, 8], lambda x: paddle.static.nn.layer_norm(x, begin_norm_axis=2)),
    "group_norm": ([None, 4, 8, 8], lambda x: paddle.static.nn.group_norm(x, 2)),
    "instance_norm": ([None, 4, 8, 8], paddle.static.nn.instance_norm),
    "prelu": ([None, 4, 8, 8], lambda x: paddle.static.nn.prelu(x, "channel")),
    "bilinear": ([None, 4], lambda x: paddle.static.nn.bilinear_tensor_product(x, x, 6)),
    "Print": ([3], lambda x: paddle.static.Print(x, summarize=0) * 1),
    "switch_case": (
        [3],
        lambda x: paddle.static.nn.switch_case(
            paddle.full([1], 1, "int32"), {0: lambda: x, 1: lambda: paddle.exp(x)}
        ),
    ),
    "mobilenet_v1": ([None, 3, 32, 32], lambda x: paddle.vision.models.mobilenet_v1(scale=0.25, num_classes=9)(x)),
    "lstm": ([None, 5, 4], lambda x: nn.LSTM(4, 6)(x)[0]),
    "transformer": ([None, 5, 4], lambda x: nn.TransformerEncoderLayer(4, 2, 8)(x)),
    "layers": (
        [None, 4, 8, 8],
        lambda x: nn.Sequential(
            nn.Conv2D(4, 6, 3), nn.BatchNorm2D(6), nn.Hardswish(), nn.AdaptiveAvgPool2D(1), nn.Flatten(),
            nn.Linear(6, 3), nn.Sigmoid(), nn.Swish(), nn.GELU(), nn.LayerNorm(3), nn.Dropout(0.5),
        )(x),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYERS)
def test_layers(programs, name):
    shape, layer = LAYERS[name]
    x = paddle.static.data("x", shape)
    out = layer(x)
    executor = _executor()
    executor.run(programs[1])
    array = RNG.normal(size=[2 if side is None else side for side in shape]).astype("float32")
    (found,) = executor.run(programs[0], feed={"x": array}, fetch_list=[out])
    assert np.isfinite(found).all() and len(found.shape) == len(out.shape)
    assert all(declared in (-1, side) for declared, side in zip(out.shape, found.shape))


OPTIMIZERS = {
    "decay": lambda: paddle.optimizer.Momentum(0.05, 0.9, weight_decay=paddle.regularizer.L2Decay(1e-4)),
    "adam": lambda: paddle.optimizer.Adam(1e-2, weight_decay=1e-4),
    "adamw": lambda: paddle.optimizer.AdamW(1e-2),
    "rmsprop": lambda: paddle.optimizer.RMSProp(1e-3),
    "clip by global norm": lambda: paddle.optimizer.Momentum(0.05, grad_clip=nn.ClipGradByGlobalNorm(1.0)),
    "clip by norm": lambda: paddle.optimizer.Momentum(0.05, grad_clip=nn.ClipGradByNorm(1.0)),
    "cosine": lambda: paddle.optimizer.Momentum(paddle.optimizer.lr.CosineAnnealingDecay(0.05, 10)),
    "amp": lambda: paddle.static.amp.decorate(paddle.optimizer.Momentum(0.05)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(programs, name):
    main, startup = programs
    loss = _classifier()[3]
    test = main.clone(for_test=True)
    OPTIMIZERS[name]().minimize(loss)
    executor = _executor()
    executor.run(startup)
    strategy, execution = paddle.static.BuildStrategy(), paddle.static.ExecutionStrategy()
    strategy.memory_optimize, execution.num_threads = True, 1
    compiled = paddle.static.CompiledProgram(main, build_strategy=strategy).with_data_parallel(loss_name=loss.name)
    losses = [float(executor.run(compiled, feed=FEED, fetch_list=[loss])[0]) for _ in range(5)]
    assert losses[-1] < 0.9 * losses[0]
    assert float(executor.run(test, feed=FEED, fetch_list=[loss])[0]) < losses[0]
    assert not any(op.type.endswith("_grad") for op in test.global_block().ops)


def test_metrics(programs):
    _, y, out, _ = _classifier()
    scores = F.softmax(out)
    two = scores[:, :2] / scores[:, :2].sum(-1, keepdim=True)
    fetches = [
        paddle.static.accuracy(scores, y, k=5), paddle.metric.accuracy(scores, y, k=5),
        paddle.static.auc(two, paddle.cast(y > 4, "int64"))[0], scores,
    ]  # fmt: skip
    executor = _executor()
    executor.run(programs[1])
    top5, same, auc, values = executor.run(programs[0], feed=FEED, fetch_list=fetches)
    hits = np.mean([label in row for label, row in zip(LABELS[:, 0], np.argsort(-values, axis=1)[:, :5])])
    assert float(top5) == float(same) == pytest.approx(hits)
    assert 0 <= float(auc) <= 1


def test_saved_and_loaded(programs, tmp_path):
    main, startup = programs
    x, _, out, loss = _classifier()
    test = main.clone(for_test=True)
    paddle.optimizer.Adam(1e-3).minimize(loss)
    executor = _executor()
    executor.run(startup)
    executor.run(main, feed=FEED, fetch_list=[loss])
    (want,) = executor.run(test, feed=FEED, fetch_list=[out])
    paddle.static.save(main, str(tmp_path / "all"))
    paddle.static.save_inference_model(str(tmp_path / "deploy"), [x], [out], executor, program=test)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"all.pdmodel", "all.pdopt", "all.pdparams", "deploy.pdmodel", "deploy.pdiparams"}
    state = paddle.static.load_program_state(str(tmp_path / "all"))
    for restore in (
        lambda: paddle.static.load(main, str(tmp_path / "all"), executor),
        lambda: paddle.static.set_program_state(main, state),
    ):
        with paddle.static.scope_guard(paddle.static.Scope()):
            executor.run(startup)
            restore()
            np.testing.assert_allclose(executor.run(test, feed=FEED, fetch_list=[out])[0], want, rtol=1e-6)
    with paddle.static.scope_guard(paddle.static.Scope()):
        program, feeds, fetches = paddle.static.load_inference_model(str(tmp_path / "deploy"), executor)
        assert feeds == ["x"]
        np.testing.assert_allclose(executor.run(program, {"x": IMAGES}, fetches)[0], want, rtol=1e-5, atol=1e-6)


def test_reading_and_writing_elements(programs):
    x = paddle.static.data("x", [4, 6])
    rows = [x[0], x[:, 1:5:2], x[..., -1], x[:, [0, 2]], x.astype("int32"), x.mean(axis=0)]
    rows.append(paddle.static.setitem(x, 1, 0.5))
    array = RNG.normal(size=(4, 6)).astype("float32")
    found = _executor().run(programs[0], feed={"x": array}, fetch_list=rows)
    changed = array.copy()
    changed[1] = 0.5
    want = [array[0], array[:, 1:5:2], array[..., -1], array[:, [0, 2]], array.astype("int32"), array.mean(0), changed]
    for ours, theirs in zip(found, want):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def test_a_loader_feeds_a_program(programs):
    x, y, _, loss = _classifier()

    class Pairs(paddle.io.Dataset):
        def __getitem__(self, index):
            return IMAGES[index], LABELS[index]

        def __len__(self):
            return len(IMAGES)

    loader = paddle.io.DataLoader(
        Pairs(), feed_list=[x, y], places=paddle.CPUPlace(), batch_size=4, return_list=False, drop_last=True
    )
    executor = _executor()
    executor.run(programs[1])
    found = [executor.run(programs[0], feed=data, fetch_list=[loss])[0] for data in loader()]
    assert len(found) == 2 and np.isfinite(found).all()
