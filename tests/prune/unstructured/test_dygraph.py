"""Unstructured pruning of dygraph layers in training."""

import copy

import numpy as np
import paddle
import pytest
from prune.unstructured.networks import CONFIGS, Net, batches, net, paper_ratio, train, zero_share

from slimkit.errors import ConfigError, TrainingError
from slimkit.prune.unstructured.dygraph import GMPUnstructuredPruner, UnstructuredPruner

RATIO = 0.75


def momentum(model, rate=0.1):
    return paddle.optimizer.Momentum(rate, 0.9, parameters=model.parameters(), weight_decay=1e-3)


def descent(model):
    return paddle.optimizer.SGD(0.2, parameters=model.parameters(), weight_decay=1e-3)


def values(model):
    return {name: w.numpy() for name, w in model.weights().items()}


@pytest.mark.parametrize("local", [False, True])
def test_gradual_pruning_follows_the_schedule_at_every_step(local):
    model = net()
    pruner = GMPUnstructuredPruner(model, ratio=RATIO, local_sparsity=local, configs=CONFIGS)
    for k in train(model, momentum(model), pruner, batches(20)):
        assert pruner.ratios_stack == pytest.approx([paper_ratio(i, RATIO, CONFIGS) for i in range(k + 1, 20, 3)][::-1])
        wanted = paper_ratio(k, RATIO, CONFIGS)
        assert pruner.ratio == pytest.approx(wanted, abs=1e-9)
        pruner.update_params()
        weights = values(model)
        if local:
            for w in weights.values():
                assert abs(zero_share([w]) - wanted) * w.size <= 1
        else:
            assert abs(zero_share(weights.values()) - wanted) * sum(w.size for w in weights.values()) <= 1
    assert wanted == RATIO
    rest = [p for p in model.parameters() if p.name not in weights and "w_1" not in p.name and "w_2" not in p.name]
    assert pruner.skip_params == {p.name for p in model.parameters()} - set(weights)
    assert all((p.numpy() != 0).all() for p in rest)


def test_masks_hold_through_optimizer_steps_and_change_only_with_the_ratio():
    model = net()
    pruner = GMPUnstructuredPruner(model, ratio=RATIO, configs={**CONFIGS, "stable_iterations": 0})
    held = {}
    for k in train(model, momentum(model), pruner, batches(17)):
        masks = {name: mask.numpy() for name, mask in pruner.masks.items()}
        for name, w in values(model).items():
            assert not w[masks[name] == 0].any()
            assert (w[masks[name] == 1] != 0).all()
        if (k % 3 and k < 12) or k > 12:
            assert all((masks[name] == held[name]).all() for name in masks)
        held = masks


def test_the_forward_pass_sees_masked_weights_without_step():
    model = net()
    pruner = UnstructuredPruner(model, "ratio", ratio=0.5)
    pruner.step()
    with paddle.no_grad():
        for w in model.weights().values():
            w.set_value(paddle.ones_like(w))
    x = paddle.ones([1, 3, 6, 6])
    model.eval()
    model(x)
    assert zero_share(values(model).values()) == pytest.approx(0.5, abs=0.01)
    by_hand = net()
    by_hand.set_state_dict(model.state_dict())
    by_hand.eval()
    assert (by_hand(x).numpy() == model(x).numpy()).all()


def test_a_checkpoint_is_sparse_without_update_params():
    model = net()
    pruner = UnstructuredPruner(model, "ratio", ratio=0.5)
    pruner.step()
    with paddle.no_grad():
        model.stem.weight.set_value(paddle.ones_like(model.stem.weight))
    saved = model.state_dict()["stem.weight"].numpy()
    assert ((saved == 0) == (pruner.masks[model.stem.weight.name].numpy() == 0)).all() and (saved == 0).any()


RESUMED = ["masks in the checkpoint", "weights loaded before the pruner", "schedule's place in the checkpoint"]


@pytest.mark.parametrize("kind", RESUMED)
def test_a_resumed_training_is_the_uninterrupted_one(kind, tmp_path):
    """Killed after 10 of 20 steps, between two rises of the ratio."""
    whole, part, fresh = net(), net(), net(seed=5)
    kept = GMPUnstructuredPruner(whole, ratio=RATIO, configs=CONFIGS)
    for _ in train(whole, descent(whole), kept, batches(20)):
        pass
    pruner = GMPUnstructuredPruner(part, ratio=RATIO, configs=CONFIGS)
    for _ in train(part, descent(part), pruner, batches(10)):
        pass
    paddle.save(part.state_dict(), str(tmp_path / "m.pdparams"))
    loaded = paddle.load(str(tmp_path / "m.pdparams"))

    configs = {**CONFIGS, "resume_iteration": 0 if kind.startswith("schedule") else 10}
    if kind.startswith("weights"):
        fresh.set_state_dict({key: value for key, value in loaded.items() if "mask" not in key and "gmp" not in key})
    second = GMPUnstructuredPruner(fresh, ratio=RATIO, configs=configs)
    if not kind.startswith("weights"):
        fresh.set_state_dict(loaded)
    for _ in train(fresh, descent(fresh), second, batches(10, start=10)):
        pass
    assert second.cur_iteration == kept.cur_iteration == 20 and second.ratio == RATIO
    for one, other in zip(whole.parameters(), fresh.parameters()):
        assert (one.numpy() == other.numpy()).all()


def test_a_checkpoint_of_another_schedule_starts_anew():
    sparse = net()
    pruner = GMPUnstructuredPruner(sparse, ratio=0.5, configs=CONFIGS)
    for _ in range(20):
        pruner.step()
    model = net(seed=1)
    denser = GMPUnstructuredPruner(model, ratio=0.9, configs=CONFIGS)
    model.set_state_dict(sparse.state_dict())
    denser.step()
    assert denser.cur_iteration == 1 and denser.ratio == 0.0
    for _ in range(20):
        denser.step()
    assert zero_share(values(model).values()) == pytest.approx(0.9, abs=0.002)


def test_equal_weights_get_equal_masks_wherever_they_are(tmp_path):
    """What data-parallel processes rely on: no randomness, ties by position."""
    one, other = net(), net()
    with paddle.no_grad():
        for a, b in zip(one.parameters(), other.parameters()):
            a.set_value((a * 4).round() / 4)  # many ties
            b.set_value(a)
    for model in (one, other):
        UnstructuredPruner(model, "ratio", ratio=0.6).step()
    assert all((a == b).all() for a, b in zip(values(one).values(), values(other).values()))
    assert zero_share(values(one).values()) == pytest.approx(0.6, abs=0.001)
    paddle.save(one.state_dict(), str(tmp_path / "m"))  # a checkpoint's zeros are +0.0
    assert not any(np.signbit(w[w == 0]).any() for w in values(one).values())


@pytest.mark.parametrize("kind", ["conv1x1_only", "names", "layers"])
def test_what_is_skipped(kind):
    model = net()
    only_point = {model.stem.weight.name, model.fc.weight.name, model.act._weight.name}
    vectors = {p.name for p in model.parameters() if len(p.shape) == 1}
    if kind == "conv1x1_only":
        pruner = UnstructuredPruner(model, "ratio", ratio=0.5, prune_params_type=kind)
    elif kind == "names":
        pruner = UnstructuredPruner(model, "ratio", ratio=0.5, skip_params_func=lambda m: only_point | vectors)
    else:
        layers = {m.full_name() for m in (model.stem, model.fc, model.act, model.norm, model.group)}
        biases = {model.point.bias.name}
        pruner = UnstructuredPruner(model, "ratio", ratio=0.5, skip_params_func=lambda m: layers | biases)
    pruner.step()
    assert set(pruner.masks) == {model.point.weight.name}
    assert pruner.skip_params == only_point | vectors
    assert pruner._should_prune_layer(model.point) and not pruner._should_prune_layer(model.norm)
    assert UnstructuredPruner.total_sparse_conv1x1(model) == 0.5
    counted = sum(int((p.numpy() == 0).sum()) for p in model.parameters())
    assert UnstructuredPruner.total_sparse(model) == pytest.approx(
        counted / sum(p.numpy().size for p in model.parameters()), abs=1e-12
    )
    assert pruner.sparse_by_layer()[model.stem.weight.name] == 0


def test_norms_are_known_by_type_not_by_name():
    class MyScale(paddle.nn.BatchNorm2D):
        pass

    class Odd(paddle.nn.Layer):
        def __init__(self):
            super().__init__()
            self.batch_norm = paddle.nn.Conv2D(4, 4, 1, bias_attr=False)
            self.conv = MyScale(4)
            self.conv.weights = self.conv.create_parameter([4, 4])  # a norm's own matrix
            self.direct = self.create_parameter([4, 6])

    model = Odd()
    pruner = UnstructuredPruner(model, "ratio")
    assert set(pruner.masks) == {model.batch_norm.weight.name, model.direct.name}


def test_threshold_mode_and_the_threshold_of_a_ratio():
    model = net()
    pruner = UnstructuredPruner(model, "threshold", threshold=0.15)
    before = values(model)
    share = sum((np.abs(w) < 0.15).sum() for w in before.values()) / sum(w.size for w in before.values())
    threshold = pruner.summarize_weights(model, share)
    assert max(np.abs(w[np.abs(w) < 0.15]).max() for w in before.values()) == pytest.approx(threshold)
    pruner.step()
    for name, w in values(model).items():
        assert (w == np.where(np.abs(before[name]) < 0.15, 0, before[name])).all()
    assert pruner.threshold == 0.15


def test_blocks_go_whole():
    model = net()
    pruner = UnstructuredPruner(model, "ratio", ratio=0.5, local_sparsity=True, sparse_block=[2, 1])
    pruner.step()
    point = model.point.weight.numpy().reshape(6, 2, 8)
    assert ((point == 0).all(1) == (point == 0).any(1)).all()
    assert zero_share([point]) == 0.5
    stem = model.stem.weight.numpy().reshape(4, 2, 3, 9)
    assert ((stem == 0).all((1, 3)) == (stem == 0).any((1, 3))).all()
    assert zero_share([stem]) == 0.5


def test_static_masks_keep_the_zeros_of_a_sparse_model():
    model = net()
    UnstructuredPruner(model, "ratio", ratio=0.6).step()
    zeros = {name: w == 0 for name, w in values(model).items()}
    again = copy.deepcopy(model)
    pruner = UnstructuredPruner(again, "ratio", ratio=0.1)
    pruner.set_static_masks()
    optimizer = momentum(again)
    for x, y in batches(3):
        paddle.nn.functional.cross_entropy(again(paddle.to_tensor(x)), paddle.to_tensor(y)).backward()
        optimizer.step()
        optimizer.clear_grad()
    pruner.update_params()
    for mask, w in zip(zeros.values(), values(again).values()):
        assert ((w == 0) == mask).all()


def test_a_copy_holds_its_own_masks_and_averaged_masks_are_masks():
    model = net()
    pruner = UnstructuredPruner(model, "ratio", ratio=0.5)
    pruner.step()
    twin = copy.deepcopy(model)
    with paddle.no_grad():
        twin.stem.weight.set_value(paddle.ones_like(twin.stem.weight))
        mask = twin.stem._buffers["weight_sparsity_mask"]
        mask.set_value(paddle.where(mask > 0.5, 0.9 * mask, mask + 0.1))  # as an EMA makes of it
    twin.eval()
    twin(paddle.ones([1, 3, 6, 6]))
    wanted = pruner.masks[model.stem.weight.name].numpy()
    assert set(np.unique(twin.stem.weight.numpy())) == {0.0, 1.0}
    assert (twin.stem.weight.numpy() == wanted).all()
    assert (model.stem.weight.numpy() != 1).all()


def test_a_subclass_ranks_and_masks_its_own_way():
    class Own(UnstructuredPruner):
        def update_threshold(self):
            self.threshold = 0.2

        def mask_parameters(self, param, mask):
            super().mask_parameters(param, mask)
            seen.append(param.name)

    seen, model = [], net()
    before = values(model)
    pruner = Own(model, "ratio", ratio=0.5)
    pruner.step()
    model(paddle.ones([1, 3, 6, 6]))
    assert seen == list(before)  # by step(); the forward pass in training needs it no more
    model(paddle.ones([1, 3, 6, 6]))
    assert seen == list(before) * 2
    for name, w in values(model).items():
        assert (w == np.where(np.abs(before[name]) < 0.2, 0, before[name])).all()


def test_data_parallel_and_two_pruners():
    model = net()
    pruner = GMPUnstructuredPruner(paddle.DataParallel(model), ratio=0.5, configs=CONFIGS)
    for _ in range(20):
        pruner.step()
    assert zero_share(values(model).values()) == pytest.approx(0.5, abs=0.002)
    assert float(model.state_dict()["gmp_progress"][0]) == 20
    hooks = len(model.stem._forward_pre_hooks)
    UnstructuredPruner(model, "ratio", ratio=0.7).step()
    assert len(model.stem._forward_pre_hooks) == hooks
    assert zero_share(values(model).values()) == pytest.approx(0.7, abs=0.002)


BAD = [
    ({"mode": "ratoi"}, r"mode = 'ratoi' is not known; it is 'ratio' or 'threshold'; did you mean 'ratio'\?"),
    ({"ratio": 0}, r"ratio = 0: it must be a fraction of the weights, greater than 0 and less than 1"),
    ({"ratio": 1.0}, r"ratio = 1.0: it must be a fraction"),
    ({"ratio": "half"}, r"ratio = 'half': it must be a fraction"),
    ({"mode": "threshold", "threshold": -1}, r"threshold = -1: it must be a magnitude of weights, 0 or more"),
    ({"prune_params_type": "conv1x1"}, r"prune_params_type = 'conv1x1' .* did you mean 'conv1x1_only'\?"),
    ({"mode": "threshold", "local_sparsity": True}, r"local_sparsity = True needs mode = 'ratio'"),
    ({"sparse_block": [2, 0]}, r"sparse_block = \[2, 0\]: it must be two positive whole numbers"),
    ({"sparse_block": 2}, r"sparse_block = 2: it must be two positive whole numbers"),
    ({"skip_params_func": lambda m: {"stem.wieght"}}, r"returned 'stem.wieght', which is no parameter or layer"),
    ({"skip_params_func": lambda m: None}, r"skip_params_func returned NoneType; it must return a set"),
    ({"skip_params_func": lambda m: {p.name for p in m.parameters()}}, r"All 13 parameters .* nothing is left"),
]


@pytest.mark.parametrize("arguments, sentence", BAD, ids=range(len(BAD)))
def test_a_bad_argument_is_one_sentence_and_leaves_the_model_alone(arguments, sentence):
    model = net()
    with pytest.raises(ConfigError, match=sentence):
        UnstructuredPruner(model, **{"mode": "ratio", **arguments})
    assert not any("mask" in key for key in model.state_dict())


BAD_CONFIGS = [
    (None, r"A GMP pruner needs configs"),
    ({**CONFIGS, "prunning_steps": 3}, r"unknown key 'prunning_steps'; did you mean 'pruning_steps'\?"),
    ({k: v for k, v in CONFIGS.items() if k != "pruning_steps"}, r"of the GMP pruner: pruning_steps = .*: Field"),
    ({**CONFIGS, "initial_ratio": 0.9}, r"initial_ratio = 0.9 is above the final ratio = 0.75"),
    ({**CONFIGS, "pruning_steps": 13}, r"pruning_steps = 13 do not fit into pruning_iterations = 12"),
    ({**CONFIGS, "pruning_strategy": "admm"}, r"pruning_strategy = 'admm'"),
]


@pytest.mark.parametrize("configs, sentence", BAD_CONFIGS, ids=range(len(BAD_CONFIGS)))
def test_bad_configs_are_one_sentence(configs, sentence):
    model = net()
    with pytest.raises(ConfigError, match=sentence):
        GMPUnstructuredPruner(model, ratio=RATIO, configs=configs)
    assert not any("mask" in key or "gmp" in key for key in model.state_dict())


def test_weights_that_are_nan_and_things_that_are_no_layer():
    model = net()
    pruner = UnstructuredPruner(model, "ratio")
    with paddle.no_grad():
        model.fc.weight.set_value(model.fc.weight * float("nan"))
    with pytest.raises(TrainingError, match=rf"'{model.fc.weight.name}' holds NaN or infinity"):
        pruner.step()
    with pytest.raises(ConfigError, match=r"needs a paddle.nn.Layer, not list"):
        UnstructuredPruner([], "ratio")
    with pytest.raises(ConfigError, match=r"no 1x1 convolution"):
        UnstructuredPruner.total_sparse_conv1x1(paddle.nn.Linear(2, 2))
    assert isinstance(model, Net)
