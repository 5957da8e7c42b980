"""Config files: values, overrides, base files, and one sentence for each thing that can be wrong."""

from __future__ import annotations

import os

import pytest
from pydantic import ValidationError

from slimkit.errors import ConfigError
from slimkit.recipe.config import config_hash, differing_keys, flatten
from slimkit.recipe.config_file import load_config


def error(path, *overrides):
    with pytest.raises(ConfigError) as caught:
        load_config(path, overrides)
    text = str(caught.value)
    assert "\n" not in text and "pydantic" not in text and text[-1] in ".?)"
    return text


def test_defaults_are_paddleslims(config_file):
    quant = load_config(config_file()).quant
    assert (quant.weight_quantize_type, quant.activation_quantize_type) == (
        "channel_wise_abs_max",
        "moving_average_abs_max",
    )
    assert (quant.weight_bits, quant.activation_bits, quant.window_size, quant.moving_rate) == (
        8,
        8,
        10000,
        0.9,
    )
    assert quant.onnx_format is True and quant.dtype == "int8" and quant.not_quant_pattern == ["skip_quant"]


def test_numbers_are_yaml_1_2(config_file):
    text = "train:\n  lr: {base: 1e-3, final: .5e-4}\nrun: {seed: 0x10}\npact: {l2: 5e-4}\n"
    config = load_config(config_file(text))
    assert config.train.lr.base == 1e-3 and config.train.lr.final == 5e-5
    assert config.run.seed == 16 and config.pact.l2 == 5e-4


def test_words_that_yaml_1_1_takes_for_booleans_stay_text(config_file):
    assert "it must be true or false" in error(config_file("quant:\n  is_full_quantize: yes\n"))


def test_config_is_frozen(config_file):
    config = load_config(config_file())
    with pytest.raises(ValidationError):
        config.run.seed = 3


@pytest.mark.parametrize(
    "override, get, value",
    [
        ("train.epochs=3", lambda c: c.train.epochs, 3),
        ("train.lr.base=1e-2", lambda c: c.train.lr.base, 0.01),
        ("verify.batch_sizes=[1, 4]", lambda c: c.verify.batch_sizes, [1, 4]),
        ("data.root=/data/a=b", lambda c: c.data.root, "/data/a=b"),
        ("pact={}", lambda c: c.pact.form, "two_sided"),
        ("pact.l2=0.5", lambda c: c.pact.l2, 0.5),
        ("quant.deploy_backend=null", lambda c: c.quant.deploy_backend, None),
        ("quant.rules=[{layers: ['head.*'], skip: true}]", lambda c: c.quant.rules[0].layers, ["head.*"]),
    ],
)
def test_override(config_file, override, get, value):
    assert get(load_config(config_file(), [override])) == value


def test_later_override_wins_and_null_turns_a_section_off(config_file):
    path = config_file("pact: {l2: 0.25}\n")
    assert load_config(path, ["train.epochs=3", "train.epochs=4"]).train.epochs == 4
    assert load_config(path, ["pact=null"]).pact is None


def test_unknown_key_names_line_and_nearest(config_file):
    path = config_file("quant:\n  weight_bits: 8\n  activation_bit: 8\n")
    shown = os.path.relpath(path)
    text = error(path)
    assert "test.yml:6: unknown key quant.activation_bit; did you mean quant.activation_bits?" in text
    assert text.startswith(path if shown.startswith("..") else shown)


def test_unknown_key_of_another_section(config_file):
    assert "unknown key train.seed; did you mean run.seed?" in error(config_file("train: {seed: 1}\n"))


def test_unknown_key_without_a_neighbour_lists_the_keys(config_file):
    text = error(config_file("run: {zzz: 1}\n"))
    assert "the keys in run are output, seed, place" in text


def test_unknown_key_in_an_ordered_rule(config_file):
    text = error(config_file("quant:\n  rules:\n    - skip: true\n    - weight_bitz: 4\n"))
    assert (
        "test.yml:7: unknown key quant.rules.1.weight_bitz; did you mean quant.rules.1.weight_bits?" in text
    )


def test_unknown_override_key(config_file):
    text = error(config_file(), "quant.weight_bit=4")
    assert text == "-o quant.weight_bit=4: unknown key quant.weight_bit; did you mean quant.weight_bits?"


@pytest.mark.parametrize(
    "override, sentence",
    [
        ("train.epochs=1.5", "train.epochs is 1.5; it must be an integer."),
        ("train.epochs='3'", 'train.epochs is "3"; it must be an integer.'),
        ("train.epochs=true", "train.epochs is true; it must be an integer."),
        ("train.lr.base=fast", 'train.lr.base is "fast"; it must be a number.'),
        ("run.output=3", "run.output is 3; it must be text."),
        ("verify.batch_sizes=8", "verify.batch_sizes is 8; it must be a list such as [1, 2]."),
        ("train=3", "train is 3; it must be a section (key: value lines)."),
        ("data.image_size=big", 'data.image_size is "big"; it must be an integer or a list such as [1, 2].'),
        ("quant.weight_bits=17", "quant.weight_bits is 17; it must be at least 2 and at most 16."),
        ("quant.moving_rate=1", "quant.moving_rate is 1; it must be greater than 0 and less than 1."),
        ("train.lr.schedule=cos", "it must be one of 'cosine', 'piecewise', 'constant'."),
        ("quant.weight_quantize_type=absmax", "did you mean 'abs_max'?"),
        ("quant.quantize_op_types=[conv2]", "did you mean 'conv2d'?"),
        ("run.place=cuda", "Device that trains: cpu, gpu:0"),
        ("train.lr.schedule=piecewise", "needs train.lr.boundaries"),
        ("train.lr={schedule: piecewise, boundaries: [3, 1]}", "train.lr.boundaries must ascend."),
        ("network.model=ppocr:cls", "give exactly one of network.name and network.model."),
        ("data.mean=[0.5]", "must be three numbers, one a channel."),
        ("network.num_classes=null", "network.num_classes is null; it must be an integer."),
    ],
)
def test_wrong_value_is_one_sentence(config_file, override, sentence):
    text = error(config_file(), override)
    assert sentence in text and text.startswith(f"-o {override}" if "network.model" not in override else "")


@pytest.mark.parametrize("override", ["train.epochs", "=3", "train..epochs=3", ".a=3"])
def test_override_that_is_none(config_file, override):
    assert "an override is written key=value" in error(config_file(), override)


def test_override_below_a_value(config_file):
    text = error(config_file("train: {epochs: 2}\n"), "train.epochs.x=3")
    assert "train.epochs is a single value, with no key 'x'" in text


def test_override_that_is_not_yaml(config_file):
    assert "is not valid YAML; quote it" in error(config_file(), "run.output=[a")


def test_wrong_value_in_the_file_names_its_line(config_file):
    assert "test.yml:5: train.epochs is -1; it must be at least 0." in error(
        config_file("train:\n  epochs: -1\n")
    )


def test_missing_required_key(config_file):
    assert "the required key data is missing." in error(
        config_file("network: {name: resnet18, num_classes: 10}\n", minimal=False)
    )


def test_further_problems_are_counted(config_file):
    assert error(config_file(), "train.epochs=a", "run.seed=b").endswith("(1 more: train.epochs.)")


def test_missing_file(tmp_path):
    text = error(str(tmp_path / "no.yml"))
    assert "no.yml: no such config file" in text


def test_folder_instead_of_file(tmp_path):
    assert "the config file cannot be read: Is a directory." in error(str(tmp_path))


def test_syntax_error_shows_the_line(config_file):
    text = error(config_file("train:\n  epochs: [1, 2\nrun: {}\n"))
    assert "test.yml:6:4: not valid YAML:" in text and "run: {}" in text


def test_tab_indentation_shows_the_line(config_file):
    assert "test.yml:5:1: not valid YAML:" in error(config_file("train:\n\tepochs: 1\n"))


def test_key_given_twice(config_file):
    text = error(config_file("train: {epochs: 1}\nrun: {}\ntrain: {epochs: 2}\n"))
    assert "test.yml:6: the key train is given twice" in text


def test_not_a_mapping(config_file):
    assert "a config is a mapping of sections" in error(config_file("- a\n- b\n", minimal=False))


def test_base_is_changed_key_by_key(config_file):
    config_file("train: {epochs: 7, lr: {base: 0.5}}\nverify: {batch_sizes: [1, 2, 3]}\n", name="base.yml")
    path = config_file(
        "base: base.yml\ntrain:\n  lr: {final: 0.1}\nverify: {batch_sizes: [9]}\n", minimal=False
    )
    config = load_config(path)
    assert (config.train.epochs, config.train.lr.base, config.train.lr.final) == (7, 0.5, 0.1)
    assert config.verify.batch_sizes == [9]


def test_base_problem_names_the_file_it_is_in(config_file):
    config_file("train:\n  epochs: x\n", name="base.yml")
    assert "base.yml:5: train.epochs" in error(config_file("base: base.yml\nrun: {seed: 1}\n", minimal=False))


def test_base_loop(config_file):
    config_file("base: test.yml\n", name="base.yml", minimal=False)
    assert "leads back to this same file" in error(config_file("base: base.yml\n", minimal=False))


def test_hash_and_differences_ignore_what_does_not_train(config_file):
    path = config_file()
    one = load_config(path)
    same = load_config(path, ["run.output=elsewhere", "verify.threads=3", "data.workers=0"])
    other = load_config(path, ["train.lr.base=0.5", "quant.weight_bits=4"])
    assert config_hash(one) == config_hash(same) != config_hash(other)
    assert differing_keys(one, same.model_dump()) == []
    assert differing_keys(other, one.model_dump()) == [
        "quant.weight_bits (8 there, 4 here)",
        "train.lr.base (0.001 there, 0.5 here)",
    ]


def test_flatten():
    assert flatten({"a": {"b": 1, "c": {"d": [2]}}, "e": None}) == {"a.b": 1, "a.c.d": [2], "e": None}
