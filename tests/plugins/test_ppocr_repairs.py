"""The repairs of PaddleOCR, on modules and scripts of the shape that its own have."""

import ast
import types
import zlib  # noqa: F401

import numpy as np
import paddle
import pytest

from slimkit import QAT
from slimkit.ir import Model
from slimkit.plugins.paddleocr import REPAIRS, input_shape, mended_main
from slimkit.plugins.paddleocr_rep import merge_branches, note_checkpoint

BY_MODULE = {repair.module: repair.apply for repair in REPAIRS}

TRAIN = """
def main(config):
    if hasattr(post_process_class, "character"):
        found = "NRTRLabelDecode" if config["Head"] == "MultiHead" else "one head"
    return found
"""
SLIM = """
def main(config):
    {before}
    if hasattr(post_process_class, "character"):
        assert config["Head"] != "MultiHead"
        found = "SARLabelDecode"
    return found, {result}
"""
SHAPES = """
    if config["Architecture"]["model_type"] == "det":
        input_shape = [1, 3, 640, 640]
    elif config["Architecture"]["model_type"] == "rec":
        input_shape = [1, 3, 32, 320]
    infer_shape = [3, -1, -1]
    if config["Architecture"]["model_type"] == "rec":
        infer_shape = [3, 32, -1]
"""


def config(kind, *transforms):
    return {
        "Head": "MultiHead",
        "Architecture": {"model_type": kind},
        "Eval": {"dataset": {"transforms": [{"DecodeImage": None}, *transforms]}},
    }


def write_clone(folder, source):
    """A clone with tools/train.py and one deploy/slim script; returns the script."""
    (folder / "tools").mkdir()
    (folder / "tools/train.py").write_text(TRAIN)
    script = folder / "deploy/slim/prune/sensitivity_anal.py"
    script.parent.mkdir(parents=True)
    script.write_text(source)
    return script


def run(script, settings):
    """Runs a script as slimkit does: its own code, then ``preprocess``, then ``main``."""
    program = types.ModuleType("tools.program")
    program.preprocess = lambda: (settings, "cpu", None, None)
    undo = BY_MODULE["tools.program"](program)
    named = {"__file__": str(script), "program": program, "post_process_class": types.SimpleNamespace(character="a")}
    source = script.read_text() + "\nsettings, *_ = program.preprocess()\nresult = main(settings)"
    exec(compile(source, str(script), "exec"), named)
    undo()
    return named["result"]


def test_a_slim_script_sets_up_heads_as_train_does(tmp_path):
    script = write_clone(tmp_path, SLIM.format(before="", result="0"))
    assert run(script, config("rec"))[0] == "NRTRLabelDecode"
    assert "NRTR" not in script.read_text()


LINES = {"RecResizeImg": {"image_shape": [3, 48, 320]}}
TURNED = {"ClsResizeImg": {"image_shape": [3, 48, 192]}}


@pytest.mark.parametrize(
    ("kind", "steps", "expected"),
    [
        ("rec", [LINES], ([1, 3, 48, 320], [3, 48, -1])),
        ("cls", [TURNED], ([1, 3, 48, 192], [3, -1, -1])),
        ("det", [{"DetResizeForTest": None}], ([1, 3, 640, 640], [3, -1, -1])),
        ("rec", [], ([1, 3, 32, 320], [3, 32, -1])),
    ],
)
def test_prune_scripts_take_the_shapes_of_the_config(tmp_path, kind, steps, expected):
    script = write_clone(tmp_path, SLIM.format(before=SHAPES.strip(), result="input_shape, infer_shape"))
    assert run(script, config(kind, *steps))[1:] == expected


def test_shapes_of_a_script_without_them_are_left_alone():
    script = """
def main(config):
    if config:
        input_shape = config["shape"]
    else:
        input_shape = None
"""
    assert mended_main(script, TRAIN) is None


def test_a_script_that_is_right_is_not_touched():
    assert mended_main(TRAIN, TRAIN) is None
    assert mended_main("x = 1", TRAIN) is None


def test_changes_are_named():
    found = mended_main(SLIM.format(before=SHAPES.strip(), result="0"), TRAIN)
    assert found is not None and len(found[1]) == 3
    assert ast.unparse(found[0]).count("_slimkit_input_shape") == 2


def test_a_script_elsewhere_is_not_rewritten(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(SLIM.format(before="", result="0"))
    with pytest.raises(AssertionError):
        run(script, config("rec"))


def test_dynamic_sides_stay():
    assert input_shape(config("rec", LINES), [3, 32, -1]) == [3, 48, -1]


def test_a_crop_takes_one_number_of_a_region():
    module = types.ModuleType("random_crop_data")
    module.region_wise_random_select = lambda regions, size: 1 / 0
    undo = BY_MODULE["ppocr.data.imaug.random_crop_data"](module)
    regions = [np.arange(2, 5), np.arange(9, 12)]
    found = {module.region_wise_random_select(regions, 20) for _ in range(200)}
    ends = {end for pair in found for end in pair}
    assert ends == {2, 3, 4, 9, 10, 11} and all(low <= high for low, high in found)
    undo()
    with pytest.raises(ZeroDivisionError):
        module.region_wise_random_select(regions, 20)


def test_a_float_model_is_written_in_both_formats(tmp_path):
    module = types.ModuleType("ppocr.utils.export_model")

    def export_single_model(model, arch_config, save_path, logger, input_shape=None, quanter=None):
        if quanter is None:
            paddle.jit.save(model, save_path, [paddle.static.InputSpec([None, 4], "float32")])

    module.export_single_model = export_single_model
    BY_MODULE["ppocr.utils.export_model"](module)
    module.export_single_model(paddle.nn.Linear(4, 2), {}, str(tmp_path / "inference"), None)
    assert {file.suffix for file in tmp_path.iterdir()} == {".json", ".pdmodel", ".pdiparams"}
    module.export_single_model(None, {}, str(tmp_path / "none"), None, None, object())


class Branch(paddle.nn.Layer):
    """Convolution and batch norm, as in ppocr/modeling/backbones/rec_lcnetv3.py."""

    def __init__(self, inside, outside, size, groups):
        super().__init__()
        self.conv = paddle.nn.Conv2D(inside, outside, size, padding=size // 2, groups=groups, bias_attr=False)
        self.bn = paddle.nn.BatchNorm2D(outside)

    def forward(self, x):
        return self.bn(self.conv(x))


class LearnableRepLayer(paddle.nn.Layer):
    """Branches that ``rep()`` merges; names and behaviour of PPLCNetV3's."""

    def __init__(self, channels, groups):
        super().__init__()
        self.is_repped, self.groups, self.in_channels, self.out_channels = False, groups, 99, 99
        self.conv_kxk = paddle.nn.LayerList([Branch(channels, channels, 3, groups) for _ in range(2)])
        self.conv_1x1 = Branch(channels, channels, 1, groups)
        self.identity = None

    def forward(self, x):
        if self.is_repped:
            return self.reparam_conv(x)
        return sum((branch(x) for branch in self.conv_kxk), self.conv_1x1(x))

    def rep(self):
        merged = paddle.nn.Conv2D(self.in_channels, self.out_channels, 3, padding=1, groups=self.groups)
        kernel, bias = 0, 0
        for branch in [*self.conv_kxk, self.conv_1x1]:
            factor = branch.bn.weight / (branch.bn._variance + branch.bn._epsilon).sqrt()
            own = branch.conv.weight * factor.reshape([-1, 1, 1, 1])
            kernel += own if own.shape[-1] == 3 else paddle.nn.functional.pad(own, [1, 1, 1, 1])
            bias += branch.bn.bias - branch.bn._mean * factor
        merged.weight.set_value(kernel)
        merged.bias.set_value(bias)
        self.reparam_conv, self.is_repped = merged, True


LearnableRepLayer.__module__ = "ppocr.modeling.backbones.rec_lcnetv3"


@pytest.fixture
def branched():
    """A network of branches with some statistics, under the repair of QAT; and an input."""
    from slimkit.quant.layers import qat

    paddle.seed(0)
    undo = BY_MODULE["slimkit.quant.layers.qat"](qat)
    network = paddle.nn.Sequential(LearnableRepLayer(4, 4), LearnableRepLayer(4, 1))
    x = paddle.randn([2, 4, 8, 8])
    network.train()
    network(x)
    network.eval()
    yield network, x
    undo()
    note_checkpoint({"Global": {}})


def test_branches_are_merged_before_they_are_quantized(branched, tmp_path):
    network, x = branched
    expected = network(x).numpy()
    quanter = QAT(act_preprocess=PACT)
    quanter.quantize(network)
    np.testing.assert_allclose(network(x).numpy(), expected, atol=0.05 * np.abs(expected).max())
    network.train()
    network(x)
    network.eval()
    quanter.save_quantized_model(network, str(tmp_path / "m"), [paddle.static.InputSpec([None, 4, 8, 8])])
    found = Model.load(tmp_path / "m").run([x.numpy()])[0]
    np.testing.assert_allclose(found, network(x).numpy(), atol=1e-6)
    assert sorted(network.state_dict()) == sorted(key for key in network.state_dict() if ".reparam_conv._layer." in key)


def test_a_network_with_merged_branches_resumes(branched, tmp_path):
    network, _ = branched
    QAT().quantize(network)
    paddle.save(network.state_dict(), str(tmp_path / "latest.pdparams"))
    note_checkpoint({"Global": {"checkpoints": str(tmp_path / "latest")}})
    again = paddle.nn.Sequential(LearnableRepLayer(4, 4), LearnableRepLayer(4, 1))
    QAT().quantize(again)
    assert set(again.state_dict()) == set(network.state_dict())


def test_branches_that_were_trained_quantized_stay(branched, tmp_path):
    paddle.save({"0.conv_kxk.0.conv._layer.weight": paddle.ones([1])}, str(tmp_path / "latest.pdparams"))
    note_checkpoint({"Global": {"checkpoints": str(tmp_path / "latest")}})
    network, _ = branched
    QAT().quantize(network)
    assert any(".conv_kxk.1.conv._layer." in key for key in network.state_dict())


def test_a_pruned_network_is_exported_merged(branched):
    network, x = branched
    expected = network(x).numpy()
    assert merge_branches(network) == 2 and merge_branches(network) == 0
    np.testing.assert_allclose(network(x).numpy(), expected, atol=1e-5)
    script = "def main(config):\n    model = to_static(model)\n    return model"
    main, _ = mended_main(script, TRAIN)
    assert [ast.unparse(row) for row in main.body][:2] == ["model.eval()", "_slimkit_merge_branches(model)"]


class PACT(paddle.nn.Layer):
    """As deploy/slim/quantization/quant.py writes it."""

    def __init__(self):
        super().__init__()
        attr = paddle.ParamAttr(name=self.full_name() + ".pact", initializer=paddle.nn.initializer.Constant(20))
        self.alpha = self.create_parameter(shape=[1], attr=attr, dtype="float32")

    def forward(self, x):
        relu = paddle.nn.functional.relu
        return x - relu(x - self.alpha) + relu(-self.alpha - x)


@pytest.fixture
def quantized_wrappers():
    """``slimkit.quant.layers.wrappers``, repaired for a test."""
    from slimkit.quant.layers import wrappers

    undo = BY_MODULE["slimkit.quant.layers.wrappers"](wrappers)
    yield wrappers
    undo()


def alpha_after(batches, act=PACT):
    """alpha of a linear layer after some batches of training."""
    network = paddle.nn.Sequential(paddle.nn.Linear(8, 2))
    QAT(act_preprocess=act).quantize(network)
    network.train()
    for batch in batches:
        network(paddle.to_tensor(batch.astype(np.float32)))
    return network[0]._layer._act_preprocess.alpha.item()


def normal(deviation):
    return np.random.default_rng(0).normal(0, deviation, (64, 8))


def test_alpha_is_raised_where_it_would_clip_the_network_away(quantized_wrappers):
    assert 500 < alpha_after([normal(300)]) < 1200  # the largest is 1170


def test_alpha_stays_where_it_clips_little(quantized_wrappers):
    few = normal(5)
    few[0, 0] = 25
    assert alpha_after([few]) == 20


def test_only_the_first_batch_counts(quantized_wrappers):
    assert alpha_after([normal(5), normal(300)]) == 20


def test_without_the_repair_alpha_is_the_users():
    assert alpha_after([normal(300)]) == 20


def test_another_layer_is_left_alone(quantized_wrappers):
    class Half(PACT):
        def forward(self, x):
            return x - paddle.nn.functional.relu(x - self.alpha)

    assert alpha_after([normal(300)], Half) == 20
