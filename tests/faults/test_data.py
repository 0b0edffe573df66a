"""Data and settings as users bring them: rows 20 to 23 and 26 of the faults, and what is looked at before training."""

import json

import pytest
import yaml

from hf_primaldual.training.arguments import (
    SeriesDataArguments,
    SeriesModelArguments,
    SeriesTrainingArguments,
    parse_arguments,
)

SERIES = (SeriesDataArguments, SeriesModelArguments, SeriesTrainingArguments)


def parsed(folder, settings: dict | str, *flags: str):
    file = folder / "run.yaml"
    file.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings))
    return parse_arguments(*SERIES, argv=[str(file), "--output_dir", str(folder), *flags])


def test_row_26_settings_of_a_file_have_the_types_of_flags(tmp_path):
    text = """
seeds: 3
attention: bn
bn_scaling: "false"
learning_rate: 1e-3
num_train_epochs: 3
efficiency_tokens: []
threads: null
report_to: [none]
lr_scheduler_kwargs: {min_lr: 0.1}
per_attention: {bn: {bn_beta: "0.5", num_train_epochs: 2}}
"""
    _, model, args = parsed(tmp_path, text)
    assert (args.seeds, args.learning_rate, args.num_train_epochs) == ([3], 1e-3, 3.0)
    assert (args.efficiency_tokens, args.threads) == ([], None)
    assert (model.attention, model.bn_scaling) == (["bn"], False)
    assert model.per_attention == {"bn": {"bn_beta": 0.5, "num_train_epochs": 2.0}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_train_epochs": [3]}, r"run\.yaml: `num_train_epochs` must be a number, got \[3\]"),
        ({"bn_beta": "x"}, "`bn_beta` must be a number, got 'x'"),
        ({"bn_beta": True}, "`bn_beta` must be a number, got True"),
        ({"bn_beta": None}, "`bn_beta` must be a number, got None"),
        ({"hidden_size": 32.5}, "`hidden_size` must be a whole number, got 32.5"),
        ({"seeds": ["a"]}, r"`seeds` must be a list, each a whole number, got \['a'\]"),
        ({"seeds": [[1]]}, r"`seeds` must be a list, each a whole number, got \[\[1\]\]"),
        ({"seeds": None}, "`seeds` must be a list"),
        ({"bn_scaling": "maybe"}, "`bn_scaling` must be true or false, got 'maybe'"),
        ({"bn_scaling": 2}, "`bn_scaling` must be true or false, got 2"),
        ({"dataset": True}, "`dataset` must be text, got True"),
        ({"dataset": {"a": 1}}, "`dataset` must be text, got {'a': 1}"),
        ({"optim": "adamm"}, "`optim` must be one of adamw_torch.*, got 'adamm'"),
        ({"per_attention": {"bn+sh": {"bn_beta": "x"}}}, r"`per_attention` of bn\+sh: `bn_beta` must be a number"),
        ({"per_attention": [1]}, r"`per_attention` must be text or a mapping or null, got \[1\]"),
        ({"per_attention": {"bn+sh": 1}}, r"per_attention.bn\+sh` must be a mapping.*got 1"),
        ({"search_space": [1]}, r"`search_space` must be text or a mapping or null, got \[1\]"),
        ("- seeds\n", r"run\.yaml must hold a mapping"),
        ({"hiden_size": 3}, r"run\.yaml has hiden_size \(the nearest known is hidden_size\)"),
        ({"per_attention": {"bn+sh": {"bn_betta": 1}}}, r"of bn\+sh has bn_betta \(the nearest known is bn_beta\)"),
        ({"per_attention": {"bn-sh": {}}}, r"`per_attention` has bn-sh \(the nearest known is bn\+sh\)"),
    ],
)
def test_row_26_a_setting_of_another_type_is_named(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        parsed(tmp_path, settings)


def test_row_26_an_unknown_flag_names_the_nearest(tmp_path):
    with pytest.raises(ValueError, match=r"the command line has hiden_size \(the nearest known is hidden_size\)"):
        parsed(tmp_path, {}, "--hiden_size", "3")
    with pytest.raises(ValueError, match=r"`per_attention` must be a mapping, as a flag in JSON, got '{bn'"):
        parsed(tmp_path, {}, "--per_attention", "{bn")
    space = json.dumps({"bn_beta": ["x"]})
    assert parsed(tmp_path, {}, "--search_space", space)[2].search_space == {"bn_beta": ["x"]}
