"""Flags, YAML files and what cannot be; what a file may hold is in tests/faults/test_data.py, row 26."""

import pytest
import yaml
from sources import TEXT_SOURCES

from hf_primaldual.data import load_uea
from hf_primaldual.data.splits import cut_validation
from hf_primaldual.training.augmentation import AugmentationArguments
from hf_primaldual.training.images import ImageDataArguments, ImageModelArguments, ImageTrainingArguments, image_task
from hf_primaldual.training.settings import parse_arguments
from hf_primaldual.training.texts import TextDataArguments, TextModelArguments, TextTrainingArguments, text_task
from hf_primaldual.training.time_series import SeriesDataArguments, SeriesModelArguments, SeriesTrainingArguments
from tests.scripts import SCRIPTS

SERIES = (SeriesDataArguments, SeriesModelArguments, SeriesTrainingArguments)
IMAGES = (ImageDataArguments, ImageModelArguments, ImageTrainingArguments)
TEXTS = (TextDataArguments, TextModelArguments, TextTrainingArguments)
RECIPES = sorted((SCRIPTS / "configs").glob("*.yaml"))


def parsed(*flags):
    return parse_arguments(*SERIES, argv=list(flags))


def test_flags_after_a_yaml_file_win_over_it_and_it_over_the_defaults(tmp_path):
    (tmp_path / "run.yaml").write_text("dataset: BasicMotions\nhidden_size: 32\nseeds: [3, 4]\nweight_decay: 0.25\n")
    data, model, training = parsed(str(tmp_path / "run.yaml"), "--hidden_size", "16", "--output_dir", str(tmp_path))
    assert (data.dataset, model.hidden_size) == ("BasicMotions", 16)
    assert (training.seeds, training.weight_decay) == ([3, 4], 0.25)
    # The paper's.
    assert (model.num_hidden_layers, model.intermediate_size) == (3, 256)
    assert (training.optimizer, training.learning_rate, training.max_grad_norm) == ("radam", 1e-3, 4.0)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_settings_of_its_script(path):
    settings = yaml.safe_load(path.read_text())
    types = TEXTS if "task" in settings else IMAGES if "patch_size" in settings else SERIES
    # bfloat16 needs a GPU.
    _, model, _ = parse_arguments(*types, argv=[str(path), "--bf16", "false"])
    assert {"softmax", "bn", "bn+sh"} <= set(model.names)


def test_an_attention_gets_the_fields_that_it_has_a_use_for():
    model = SeriesModelArguments(head_scales=[1, 1, 2, 2, 4, 4, 8, 8], per_attention={"bn+sh": {"bn_beta": 0.5}})
    for name in ("softmax", "linear"):
        assert model.config_fields(name)["head_scales"] is None
    for name, beta in (("bn+sh", 0.5), ("sparse-bn+sh", 1.0)):
        fields = model.config_fields(name)
        assert (fields["head_scales"], fields["bn_beta"]) == ([1, 1, 2, 2, 4, 4, 8, 8], beta)
    assert model.config_fields("bn")["hidden_dropout_prob"] == model.dropout
    assert model.config_fields("bn+sh", bn_beta=0.25)["bn_beta"] == 0.25


def of_text(**settings):
    sizes = {"train_size": 40, "validation_size": 20, "test_size": 20}
    return text_task(TextDataArguments(**settings, **sizes), TextModelArguments(hidden_size=16), None, TEXT_SOURCES)


def of_images(**settings):
    given = {name: str(value).lower() for name, value in {"output_dir": "out", **settings}.items()}
    return image_task(*parse_arguments(*IMAGES, argv=[f"--{name}={value}" for name, value in given.items()]))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: parsed("--seeds", "1", "1"), "`seeds` must name at least one seed and each once"),
        (lambda: parsed("--optimizer", "adamm"), "radam or trainer, got 'adamm'"),
        (lambda: parsed("--overwrite", "--resume_from_checkpoint"), "pass one of them"),
        (lambda: parsed("--ema_decay", "1"), "`ema_decay` must be between 0 and 1"),
        (lambda: parsed("--attention", "bn", "--baseline", "bn"), "must differ"),
        (lambda: parsed("--attention", "bm"), "must be of softmax"),
        (lambda: parsed("--attention", "bn", "bn"), "each once"),
        (lambda: cut_validation(load_uea("BasicMotions"), 0.01), "= 0.01 must leave at least one of the 40 examples"),
        (lambda: cut_validation(load_uea("BasicMotions"), 0.99), "= 0.99 must leave at least one of the 40 examples"),
        (lambda: AugmentationArguments(horizontal_flip=1.5), "`horizontal_flip` must be a probability"),
        (lambda: AugmentationArguments(mixup=-1.0), "`mixup` must be an alpha"),
        (lambda: AugmentationArguments(crop_scale=[0.5, 0.1]), "`crop_scale` must be two shares"),
        (
            lambda: AugmentationArguments(rand_augment=[2, 30]),
            "`rand_augment` must be a number of operations, 1 to 15",
        ),
        (lambda: AugmentationArguments(random_shift=-1), "`random_shift` must be a number of pixels"),
        (lambda: AugmentationArguments(repeated_augmentation=0), "`repeated_augmentation` must be at least 1"),
        (lambda: of_images(streaming=True, train_examples=5), "`train_examples` draws by class"),
        (lambda: of_images(streaming=True, repeated_augmentation=3), "`repeated_augmentation` draws from the whole"),
        (lambda: of_images(streaming=True), "`streaming` needs `max_steps`"),
        (lambda: of_text(), "one of `task`, `dataset` and `train_file` must be given, got none"),
        (lambda: of_text(task="text", dataset="imdb"), "got task and dataset"),
        (lambda: of_text(task="nothing"), "`task` must be one of listops, .*, newsgroups, got 'nothing'"),
        (lambda: of_text(task="retrieval"), "`data_folder` must name Long Range Arena's `tsv_data`"),
        (lambda: of_text(task="listops-lite", tokenizer="x"), "`tokenizer` must be left out for listops-lite"),
        (lambda: of_text(task="listops-lite", max_tokens=20), r"must be at least \d+, as no example may be cut"),
        (lambda: of_text(train_file="x.csv", validation_file="x.txt"), r"must all end in one of .*, got \.csv, \.txt"),
    ],
)
def test_what_cannot_be_is_named(tmp_path, call, message, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        call()


def test_averaged_weights_are_whole(tmp_path, monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(ValueError, match="`ema_decay` averages whole weights, which FSDP and DeepSpeed shard"):
        SeriesTrainingArguments(str(tmp_path), ema_decay=0.9)
