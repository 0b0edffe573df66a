"""Images as a task, and the script from flags to a checkpoint that classifies: on scikit-learn's digits."""

import json
from pathlib import Path

import numpy as np
import pytest
import run_image_classification as script
import torch
from PIL import Image as Pillow
from sklearn.datasets import load_digits
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

from hf_primaldual.training.images import ImageDataArguments, ImageModelArguments, ImageTrainingArguments, image_task
from hf_primaldual.training.settings import parse_arguments
from hf_primaldual.training.trainer import build_trainer

TYPES = (ImageDataArguments, ImageModelArguments, ImageTrainingArguments)
TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
DIGITS = {"dataset": "digits", "image_size": 8, "patch_size": 2}
QUIET = {"threads": 1, "seeds": 0, "disable_tqdm": "true", "learning_rate": 0.003}
RECIPE = {
    "rand_augment": "2 9",
    "random_erasing": 0.25,
    "horizontal_flip": 0.5,
    "mixup": 0.8,
    "cutmix": 1.0,
    "label_smoothing_factor": 0.1,
    "repeated_augmentation": 3,
}


def flags(output, **settings) -> list[str]:
    settings = {**DIGITS, **TINY, **QUIET, "output_dir": output, **settings}
    return [word for name, value in settings.items() for word in (f"--{name}", *str(value).split())]


def arguments(output, **settings):
    return parse_arguments(*TYPES, argv=flags(output, **settings))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "out"
    return script.main(flags(output, train_examples=300, num_train_epochs=1, drop_path_rate=0.1))


@pytest.fixture
def colour_folder(tmp_path):
    """Three digits in colour and of another size than the model's, in ImageNet's layout."""
    digits = load_digits()
    for split, count in (("train", 12), ("test", 4)):
        for label in range(3):
            folder = tmp_path / "pictures" / split / f"digit {label}"
            folder.mkdir(parents=True)
            for index, image in enumerate(digits.images[digits.target == label][:count]):
                colours = np.stack([image, image[::-1], image.T], -1) * 15
                Pillow.fromarray(colours.astype(np.uint8)).resize((30, 20)).save(folder / f"{index}.png")
    return tmp_path / "pictures"


def test_the_checkpoint_classifies_images_as_the_results_say(finished):
    results = json.loads((finished / "results.json").read_text())
    assert results["task"] == "image-classification"
    dataset = results["dataset"]
    assert (dataset["train"], dataset["validation"], dataset["test"]) == (270, 30, 360)
    assert (dataset["channels"], dataset["image_size"], dataset["classes"]) == (3, [8, 8], 10)

    # The images as a user has them: the last fifth of the digits, in grey.
    digits = load_digits()
    images = [Pillow.fromarray((image * 255 / 16).astype(np.uint8)).convert("RGB") for image in digits.images[-360:]]
    released = next(run for run in results["runs"] if run["released"])
    processor = AutoImageProcessor.from_pretrained(finished)
    model = AutoModelForImageClassification.from_pretrained(finished).eval()
    with torch.inference_mode():
        logits = model(**processor(images, return_tensors="pt")).logits
    accuracy = (logits.argmax(-1).numpy() == digits.target[-360:]).mean()
    assert accuracy == pytest.approx(released["test_accuracy"], abs=1e-6)
    classify = pipeline("image-classification", model=str(finished))
    # The pipeline takes them in grey too.
    predicted = [best["label"] for best, *_ in classify([image.convert("L") for image in images[:20]])]
    assert predicted == [model.config.id2label[index] for index in logits[:20].argmax(-1).tolist()]


def test_a_resumed_run_augments_as_the_whole_one_did(tmp_path):
    # One epoch has three steps; the run is stopped in the middle of the first and at the end of it.
    once = {"train_examples": 240, "per_device_train_batch_size": 72, "max_steps": 4, "save_strategy": "steps"}
    once |= {"save_steps": 1, "save_total_limit": 9, "load_best_model_at_end": "false", "eval_strategy": "no"}
    # Workers have random states of their own.
    data_args, model_args, args = arguments(tmp_path, **RECIPE, **once, dataloader_num_workers=1)
    task = image_task(data_args, model_args, args)

    def train(folder, checkpoint=None):
        torch.manual_seed(0)
        trainer = build_trainer(task, task.config("bn+sh"), args, 0, folder)
        assert len(set(trainer._get_train_sampler())) == 72
        trainer.train(resume_from_checkpoint=checkpoint)
        return trainer.model.state_dict()

    whole = train(tmp_path / "whole")
    for stop in (2, 3):
        resumed = train(tmp_path / f"from {stop}", str(tmp_path / "whole" / f"checkpoint-{stop}"))
        assert [name for name in whole if not torch.equal(whole[name], resumed[name])] == []


def test_targets_of_training_are_soft_and_those_of_evaluation_are_classes(tmp_path):
    task = image_task(*arguments(tmp_path, **RECIPE))
    # Small images are normalized by the training set.
    pixels = task.collate(list(task.splits["train"]))["pixel_values"]
    assert pixels.mean().item() == pytest.approx(0, abs=1e-4)
    assert pixels.std().item() == pytest.approx(1, abs=1e-3)
    examples = [task.splits["train"][index] for index in range(12)]
    train, plain = task.collate_train(examples), task.collate(examples)
    assert train["labels"].shape == (12, 10)
    torch.testing.assert_close(train["labels"].sum(1), torch.ones(12))
    assert plain["labels"].tolist() == [example["labels"] for example in examples]
    assert train["pixel_values"].shape == plain["pixel_values"].shape == (12, 3, 8, 8)
    assert not torch.equal(train["pixel_values"], plain["pixel_values"])
    # What is drawn for an image is the same again in its epoch, and in no other.
    sampler = task.train_sampler(task.splits["train"])
    first, again = (task.collate_train(examples)["pixel_values"] for _ in range(2))
    sampler.set_epoch(1)
    assert torch.equal(first, again)
    assert not torch.equal(first, task.collate_train(examples)["pixel_values"])


def test_a_stream_is_trained_on_for_a_number_of_steps(tmp_path, colour_folder):
    settings = {"dataset": colour_folder, "image_size": 16, "patch_size": 8, "streaming": "true"}
    with pytest.raises(ValueError, match="`streaming` needs `max_steps`"):
        script.main(flags(tmp_path / "out", **settings))
    steps = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 3, "max_steps": 6}
    settings |= {"validation_share": 0.3, "per_device_train_batch_size": 4, "crop_scale": "0.3 1"}
    folder = script.main(flags(tmp_path / "out", **settings, **steps))
    dataset = json.loads((folder / "results.json").read_text())["dataset"]
    assert (dataset["train"], dataset["name"]) == (None, "pictures")
    assert "were not counted" in (folder / "README.md").read_text()


def test_a_part_of_the_training_set_is_drawn_by_class(tmp_path, colour_folder):
    settings = {"dataset": colour_folder, "image_size": 16, "patch_size": 8, "validation_share": 0.34}
    task = image_task(*arguments(tmp_path, **settings, train_examples=18))
    assert task.source["subset"] == "18 of 24 images, drawn by class with seed 0"
    assert np.bincount(task.splits["train"]["labels"]).tolist() == [6, 6, 6]


def test_measured_images_have_the_asked_patches(tmp_path):
    task = image_task(*arguments(tmp_path))
    batch = task.measuring_batch(3, 64)
    config = task.measured(task.config("bn+sh"), 64)
    assert batch["pixel_values"].shape == (3, 3, 16, 16)
    assert config.grid_size == [8, 8]
    assert task.model_class(config)(**batch).logits.shape == (3, 10)
    with pytest.raises(ValueError, match="square numbers of patches, got 60"):
        task.measured(config, 60)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"streaming": "true", "train_examples": 5}, "`train_examples` draws by class"),
        ({"streaming": "true", "repeated_augmentation": 3}, "`repeated_augmentation` draws from the whole"),
        ({"mixup_switch": 2}, "`mixup_switch` must be a probability"),
    ],
)
def test_an_impossible_setting_is_named(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        arguments(tmp_path, **settings)


def test_the_imagenet_recipe_is_that_of_deit():
    recipe = Path(script.__file__).parent / "configs" / "imagenet_deit_tiny.yaml"
    # bfloat16 needs a GPU.
    data_args, model_args, args = parse_arguments(*TYPES, argv=[str(recipe), "--bf16", "false"])
    assert (data_args.mixup, data_args.cutmix, args.label_smoothing_factor) == (0.8, 1.0, 0.1)
    assert (data_args.random_erasing, data_args.repeated_augmentation) == (0.25, 3)
    assert args.learning_rate == 5e-4 * 1024 / 512
    assert args.get_warmup_steps(300_000) == pytest.approx(5_000, abs=1)
    assert model_args.names == ("softmax", "bn", "sh", "bn+sh")
    assert model_args.drop_path_rate == 0.1
