"""Every call of static quantization: PaddleOCR, PaddleClas, PaddleSeg, PaddleNLP, PaddleSpeech, PaddleSlim's demos."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Iterator, List

import numpy as np
import paddle
import pytest
from client_networks import Classifier, TextDetector, enliven
from quantized_networks import first
from small_programs import Net, mobile_net, random
from under_the_alias import under_the_alias  # noqa: F401  (a fixture)

from slimkit import Model, legacy_ir, load_quantized

pytestmark = pytest.mark.usefixtures("under_the_alias")
IMAGES = random(0, 6, 3, 32, 32)


class Images(paddle.io.Dataset):
    """Image and label, as a project's dataset."""

    def __getitem__(self, index: int) -> Any:
        return IMAGES[index], index

    def __len__(self) -> int:
        return len(IMAGES)


class NamedImages(Images):
    """PaddleSeg's: a dict."""

    def __getitem__(self, index: int) -> Any:
        return {"img": IMAGES[index], "trans_info": []}


@pytest.fixture(scope="module")
def inference_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An exported float classifier and text detector, under the names the projects give them."""
    folder = tmp_path_factory.mktemp("inference")
    for name, net, shape in (
        ("inference", Classifier(), [None, 3, 32, 32]), ("det/inference", TextDetector(), [None, 3, -1, -1]),
    ):  # fmt: skip
        enliven(net).eval()
        Model.from_layer(net, [paddle.static.InputSpec(shape)]).save(folder / name)
    return str(folder)


@pytest.fixture
def static() -> Iterator[None]:
    """``paddle.enable_static()``, as the scripts call it, for a test."""
    paddle.enable_static()
    try:
        yield
    finally:
        paddle.disable_static()


def sample_generator(loader: Any) -> Callable[[], Iterator[Any]]:
    """deploy/slim/quantization/quant_kl.py, and PaddleClas's deploy/slim/quant_post_static.py."""

    def __reader__() -> Iterator[Any]:
        for _indx, data in enumerate(loader):
            images = np.array(data[0])
            yield images

    return __reader__


def close(folder: Any, source: Any, images: np.ndarray = IMAGES, share: float = 0.1) -> Any:
    """The table of a quantized model, which computes nearly what the float one does."""
    whole, found = Model.load(source).run([images])[0], Model.load(folder).run([images])[0]
    assert 0 < np.linalg.norm(found - whole) < share * np.linalg.norm(whole)
    return load_quantized(Path(folder)).table


def files(folder: Any) -> List[str]:
    return sorted(os.listdir(folder))


# ------------------------------------------------------------------------------------ post-training


def test_paddleocr_quant_kl(static: None, inference_model: str, tmp_path: Path) -> None:
    """Samples that come with a batch dimension, from a loader; transposed convolutions."""
    import paddleslim

    train_dataloader = paddle.io.DataLoader(Images(), batch_size=1, num_workers=0)
    exe = paddle.static.Executor(paddle.CPUPlace())
    paddleslim.quant.quant_post_static(
        executor=exe,
        model_dir=os.path.join(inference_model, "det"),
        model_filename="inference.pdmodel",
        params_filename="inference.pdiparams",
        quantize_model_path=str(tmp_path / "save_inference_dir"),
        sample_generator=sample_generator(train_dataloader),
        save_model_filename="inference.pdmodel",
        save_params_filename="inference.pdiparams",
        batch_size=1,
        batch_nums=None,
    )
    assert files(tmp_path / "save_inference_dir") == ["inference.pdiparams", "inference.pdmodel"]
    table = close(tmp_path / "save_inference_dir", os.path.join(inference_model, "det"))
    assert {"conv2d", "conv2d_transpose", "depthwise_conv2d"} <= {op.type for op in table.ops}
    assert not paddle.in_dynamic_mode()  # the script has switched it on, and goes on in it


def test_paddleclas_quant_post_static(static: None, inference_model: str, tmp_path: Path) -> None:
    import paddleslim
    from paddle.jit import to_static  # noqa: F401
    from paddleslim.analysis import dygraph_flops as flops  # noqa: F401
    from paddleslim.dygraph.quant import QAT  # noqa: F401

    exe = paddle.static.Executor(paddle.CPUPlace())
    train_dataloader = paddle.io.DataLoader(Images(), batch_size=1, num_workers=0)
    paddleslim.quant.quant_post_static(
        executor=exe,
        model_dir=inference_model,
        model_filename="inference.pdmodel",
        params_filename="inference.pdiparams",
        quantize_model_path=os.path.join(str(tmp_path), "quant_post_static_model"),
        sample_generator=sample_generator(train_dataloader),
        batch_size=1,
        batch_nums=10,
    )
    assert files(tmp_path / "quant_post_static_model") == ["model.pdiparams", "model.pdmodel"]
    assert len(close(tmp_path / "quant_post_static_model", inference_model).ops) == 7


def test_paddleseg_ptq(static: None, inference_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """deploy/slim/quant/ptq.py: samples by name from a loader with places, KL, a relative path."""
    from paddleslim.quant import quant_post_static

    monkeypatch.chdir(tmp_path)

    def sample_generator(loader: Any) -> Callable[[], Iterator[Any]]:
        def __reader__() -> Iterator[Any]:
            for _indx, data in enumerate(loader):
                images = np.array(data["img"])
                yield images

        return __reader__

    place = paddle.CPUPlace()
    exe = paddle.static.Executor(place)
    data_loader = paddle.io.DataLoader(NamedImages(), places=place, drop_last=False, batch_size=1, shuffle=False)
    quant_post_static(
        executor=exe,
        model_dir=inference_model,
        quantize_model_path="quant_model",
        save_model_filename="model.pdmodel",
        save_params_filename="model.pdiparams",
        sample_generator=sample_generator(data_loader),
        model_filename="inference.pdmodel",
        params_filename="inference.pdiparams",
        batch_size=1,
        batch_nums=4,
        algo="KL",
    )
    assert files(".") == ["quant_model"] and files("quant_model") == ["model.pdiparams", "model.pdmodel"]
    assert len(close("quant_model", inference_model).ops) == 7


def test_three_kinds_of_data(static: None, inference_model: str, tmp_path: Path) -> None:
    """All three give one result; a dataset in the generator's place, as in the tutorial."""
    from paddleslim.quant import quant_post_static

    exe = paddle.static.Executor(paddle.CPUPlace())
    where = {
        "model_dir": inference_model, "model_filename": "inference.pdmodel", "params_filename": "inference.pdiparams"
    }  # fmt: skip
    kinds = {
        "samples": {"sample_generator": lambda: ((image,) for image in IMAGES), "batch_size": 2},
        "batches": {"batch_generator": lambda: ([IMAGES[i : i + 2]] for i in range(0, 6, 2))},
        "loader": {"data_loader": paddle.io.DataLoader(Images(), batch_size=2)},
        "dataset": {"sample_generator": Images(), "batch_size": 2},
    }
    tables = {}
    for kind, data in kinds.items():
        out = str(tmp_path / kind)
        quant_post_static(executor=exe, quantize_model_path=out, **where, **data, algo="hist", hist_percent=0.9999)
        tables[kind] = load_quantized(Path(out)).table
    for kind in kinds:
        assert tables[kind].params.keys() == tables["samples"].params.keys()
        for name, params in tables[kind].params.items():
            np.testing.assert_array_equal(params.scale, tables["samples"].params[name].scale)


def test_quant_post_dynamic(static: None, inference_model: str, tmp_path: Path) -> None:
    """PaddleSpeech's ptq_dynamic.py, and the tutorial's quant_post_dynamic with its files' names."""
    import paddleslim
    from paddleslim.quant import quant_post_dynamic, quant_post_only_weight

    assert paddleslim.quant.quant_post_dynamic is quant_post_dynamic is quant_post_only_weight
    for weight_bits in (8, 16):
        quant_post_dynamic(
            model_dir=inference_model,
            save_model_dir=str(tmp_path / f"{weight_bits}"),
            model_filename="inference.pdmodel",
            params_filename="inference.pdiparams",
            save_model_filename=f"inference_{weight_bits}bits.pdmodel",
            save_params_filename=f"inference_{weight_bits}bits.pdiparams",
            quantizable_op_type=["conv2d_transpose", "conv2d", "depthwise_conv2d", "mul"],
            weight_bits=weight_bits,
        )
        folder = tmp_path / f"{weight_bits}" / "quantized_model"
        assert files(folder) == [f"inference_{weight_bits}bits.pdiparams", f"inference_{weight_bits}bits.pdmodel"]
        table = close(folder / f"inference_{weight_bits}bits", inference_model, share=0.02)
        assert {params.bits for params in table.params.values()} == {weight_bits} and len(table.ops) == 7
    sizes = [(tmp_path / f"{n}/quantized_model/inference_{n}bits.pdiparams").stat().st_size for n in (8, 16)]
    assert sizes[0] < 0.75 * sizes[1] < 0.75 * os.path.getsize(os.path.join(inference_model, "inference.pdiparams"))


# ---------------------------------------------------------------------------------- embedding, QAT


def test_paddlenlp_quant_embeddings(tmp_path: Path) -> None:
    """trainer_compress.py: an inference program, ``log``, saved again; and PaddleSlim's demo, ``abs_max``."""
    import paddleslim.quant as quant

    ids, values = np.array([0, 5, 3]), np.exp(random(2, 6, 50)).astype("float32")
    net = Net()
    net.op("lookup_table_v2", {"Out": "rows"}, {"padding_idx": -1}, W=net.param("emb", values), Ids=net.data(
        "ids", [-1], "int64", grad=False
    ))  # fmt: skip
    net.relu("rows", "y")
    net.model(["ids"], ["y"]).save(tmp_path / "infer")
    place = paddle.CPUPlace()
    configs = [
        {"quantize_op_types": ["lookup_table_v2"], "lookup_table_v2": {"quantize_type": "log"}},
        {
            "quantize_op_types": ["lookup_table_v2"],
            "lookup_table_v2": {"quantize_type": "abs_max", "quantize_bits": 8, "dtype": "int8"},
        },
    ]
    for number, config in enumerate(configs):
        with legacy_ir(), paddle.static.scope_guard(paddle.static.Scope()):
            exe = paddle.static.Executor(place)
            main_program, feed_target_names, fetch_targets = paddle.static.load_inference_model(
                str(tmp_path / "infer"), exe
            )
            quant_emb_program = quant.quant_embedding(main_program, place, config)
            feeds = [quant_emb_program.global_block().var(name) for name in feed_target_names]
            fetches = [quant_emb_program.global_block().var(fetch.name) for fetch in fetch_targets]
            out = str(tmp_path / f"quant_emb_{number}")
            paddle.static.save_inference_model(out, feeds, fetches, exe, program=quant_emb_program)
        found = Model.load(tmp_path / f"quant_emb_{number}").run([ids])[0]
        np.testing.assert_allclose(found, values[ids], rtol=0.05, atol=0.5 * values.max() / 127)
        assert Model.load(tmp_path / f"quant_emb_{number}").params["emb.int"].dtype == np.int8


@pytest.mark.parametrize("save_int8", [False, True])
def test_quant_aware_and_convert(tmp_path: Path, save_int8: bool) -> None:
    """demo/quant/quant_aware/train.py: train and test program, PACT as a function of one's own, convert, save."""
    import paddleslim as slim
    from paddleslim.quant import convert, quant_aware

    assert slim.quant.quant_aware is quant_aware
    config = {
        "weight_quantize_type": "channel_wise_abs_max", "activation_quantize_type": "moving_average_abs_max",
        "weight_bits": 8, "activation_bits": 8, "not_quant_pattern": ["skip_quant"],
        "quantize_op_types": ["conv2d", "depthwise_conv2d", "mul", "matmul_v2"], "dtype": "int8",
        "window_size": 10000, "moving_rate": 0.9, "onnx_format": not save_int8,
    }  # fmt: skip
    net, place = mobile_net(), paddle.CPUPlace()
    feed = {"x": random(1, 8, 3, 8, 8), "label": np.arange(8).reshape(8, 1) % 5}
    val_program = net.test_program()
    net.minimize(lambda: paddle.optimizer.Momentum(0.01, 0.9))
    exe = net.executor
    with legacy_ir(), paddle.static.scope_guard(net.scope):
        val_program = quant_aware(
            val_program, place, config, scope=None, act_preprocess_func=None, optimizer_func=None, executor=None,
            for_test=True,
        )  # fmt: skip
        compiled_train_prog = quant_aware(
            net.program, place, config, scope=None, act_preprocess_func=None, optimizer_func=None, executor=None,
            for_test=False,
        )  # fmt: skip
        losses = [exe.run(compiled_train_prog, feed=feed, fetch_list=["loss"])[0].item() for _ in range(5)]
        assert losses[-1] < losses[0]
        (expected,) = exe.run(val_program, feed=feed, fetch_list=["logits"])
        if save_int8:
            float_program, int8_program = convert(val_program, place, config, scope=net.scope, save_int8=True)
        else:
            float_program = convert(val_program, place, config)
        programs = {"float": float_program, **({"int8": int8_program} if save_int8 else {})}
        for name, program in programs.items():
            block = program.global_block()
            paddle.static.save_inference_model(
                str(tmp_path / name / "quantization_model"), [block.var("x")], [block.var("logits")], exe,
                program=program,
            )  # fmt: skip
    for name in programs:
        found = Model.load(tmp_path / name / "quantization_model").run([feed["x"]])[0]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        assert len(load_quantized(tmp_path / name / "quantization_model").table.ops) == 6


def test_names_of_quant() -> None:
    """Modules and names, walked by attributes and by import."""
    import paddleslim
    from paddleslim.quant import quant_post
    from paddleslim.quant.quanter import quant_aware, quant_post_static

    assert paddleslim.quant.quant_post_static is quant_post_static
    assert paddleslim.quant.quanter.quant_aware is quant_aware is paddleslim.quant.quant_aware
    assert callable(quant_post) and first(paddle.ones([1]))[0] == 1
