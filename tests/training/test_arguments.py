"""Flags and YAML files of the training scripts; what a file may hold is in tests/faults/test_data.py, row 26."""

import pytest

from hf_primaldual.training.settings import parse_arguments
from hf_primaldual.training.time_series import SeriesDataArguments, SeriesModelArguments, SeriesTrainingArguments


def parsed(*flags):
    return parse_arguments(SeriesDataArguments, SeriesModelArguments, SeriesTrainingArguments, argv=list(flags))


def test_flags_after_a_yaml_file_win_over_it_and_it_over_the_defaults(tmp_path):
    (tmp_path / "run.yaml").write_text("dataset: BasicMotions\nhidden_size: 32\nseeds: [3, 4]\nweight_decay: 0.25\n")
    data, model, training = parsed(str(tmp_path / "run.yaml"), "--hidden_size", "16", "--output_dir", str(tmp_path))
    assert (data.dataset, model.hidden_size) == ("BasicMotions", 16)
    assert (training.seeds, training.weight_decay) == ([3, 4], 0.25)
    # The paper's.
    assert (model.num_hidden_layers, model.intermediate_size) == (3, 256)
    assert (training.optimizer, training.learning_rate, training.max_grad_norm) == ("radam", 1e-3, 4.0)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--seeds 1 1", "`seeds` must name at least one seed and each once"),
        ("--optimizer adamm", "radam or trainer, got 'adamm'"),
        ("--overwrite --resume_from_checkpoint", "pass one of them"),
        ("--ema_decay 1", "`ema_decay` must be between 0 and 1"),
        ("--attention bn --baseline bn", "must differ"),
        ("--attention bm", "must be of softmax"),
        ("--attention bn bn", "each once"),
    ],
)
def test_bad_flags_are_named(tmp_path, flags, message):
    with pytest.raises(ValueError, match=message):
        parsed("--output_dir", str(tmp_path), *flags.split())


def test_averaged_weights_are_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="`ema_decay` averages whole weights, which FSDP and DeepSpeed shard"):
        SeriesTrainingArguments(str(tmp_path), ema_decay=0.9)


def test_an_attention_gets_the_fields_that_it_has_a_use_for():
    model = SeriesModelArguments(head_scales=[1, 1, 2, 2, 4, 4, 8, 8], per_attention={"bn+sh": {"bn_beta": 0.5}})
    for name in ("softmax", "linear"):
        assert model.config_fields(name)["head_scales"] is None
    for name, beta in (("bn+sh", 0.5), ("sparse-bn+sh", 1.0)):
        fields = model.config_fields(name)
        assert (fields["head_scales"], fields["bn_beta"]) == ([1, 1, 2, 2, 4, 4, 8, 8], beta)
    assert model.config_fields("bn")["hidden_dropout_prob"] == model.dropout
    assert model.config_fields("bn+sh", bn_beta=0.25)["bn_beta"] == 0.25
