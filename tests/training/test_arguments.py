"""Flags and YAML files of the training scripts."""

import pytest

from hf_primaldual.training.arguments import (
    SeriesDataArguments,
    SeriesModelArguments,
    SeriesTrainingArguments,
    parse_arguments,
)

ALL = (SeriesDataArguments, SeriesModelArguments, SeriesTrainingArguments)


def test_flags_after_a_yaml_file_win_over_it(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("dataset: BasicMotions\nhidden_size: 32\nseeds: [3, 4]\nlearning_rate: 5.0e-4\n")
    data, model, training = parse_arguments(
        *ALL, argv=[str(file), "--hidden_size", "16", "--output_dir", str(tmp_path)]
    )
    assert (data.dataset, model.hidden_size, training.seeds, training.learning_rate) == (
        "BasicMotions",
        16,
        [3, 4],
        5e-4,
    )


def test_defaults_are_the_papers_settings(tmp_path):
    _, model, training = parse_arguments(*ALL, argv=["--output_dir", str(tmp_path)])
    assert (model.num_hidden_layers, model.hidden_size, model.intermediate_size) == (3, 64, 256)
    assert (training.optimizer, training.learning_rate, training.max_grad_norm) == ("radam", 1e-3, 4.0)
    assert len(training.seeds) == 5


def test_trainer_flags_pass_through(tmp_path):
    training = parse_arguments(*ALL, argv=["--output_dir", str(tmp_path), "--weight_decay", "0.25"])[2]
    assert training.weight_decay == 0.25


def test_unknown_setting_in_a_file_is_named(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text("hiden_size: 32\n")
    with pytest.raises(ValueError, match="hiden_size"):
        parse_arguments(*ALL, argv=[str(file)])


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--seeds", "1", "1"], "seeds"), (["--optimizer", "adamm"], "radam or trainer, got 'adamm'")],
)
def test_bad_flags_are_named(tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        parse_arguments(*ALL, argv=["--output_dir", str(tmp_path), *flags])


def test_the_baseline_gets_no_field_of_the_downsampled_presets():
    model = SeriesModelArguments(head_scales=[1, 1, 2, 2, 4, 4, 8, 8])
    assert model.config_fields("softmax")["head_scales"] is None
    assert model.config_fields("bn+sh")["head_scales"] == [1, 1, 2, 2, 4, 4, 8, 8]
    assert model.config_fields("linear")["head_scales"] is None
    assert model.config_fields("sparse-bn+sh")["head_scales"] == [1, 1, 2, 2, 4, 4, 8, 8]
    assert model.config_fields("bn")["hidden_dropout_prob"] == model.dropout
