"""Images as a task, and the script from flags to a checkpoint that classifies: on scikit-learn's digits."""

import json

import numpy as np
import pytest
import run_image_classification as script
import torch
from PIL import Image as Pillow
from sklearn.datasets import load_digits
from transformers import AutoImageProcessor, AutoModelForImageClassification

from hf_primaldual.training.images import ImageDataArguments, ImageModelArguments, ImageTrainingArguments, image_task
from hf_primaldual.training.settings import parse_arguments
from hf_primaldual.training.trainer import build_trainer

TYPES = (ImageDataArguments, ImageModelArguments, ImageTrainingArguments)
SMALL = {"dataset": "digits", "image_size": 8, "patch_size": 2, "threads": 1, "seeds": 0, "disable_tqdm": "true"}
SMALL |= {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
RECIPE = {"rand_augment": "2 9", "random_erasing": 0.25, "horizontal_flip": 0.5, "mixup": 0.8, "cutmix": 1.0}
RECIPE |= {"label_smoothing_factor": 0.1, "repeated_augmentation": 3}
ONCE = {"load_best_model_at_end": "false", "eval_strategy": "no"}


def flags(output, **settings) -> list[str]:
    settings = {**SMALL, "learning_rate": 0.003, "output_dir": output, **settings}
    return [word for name, value in settings.items() for word in (f"--{name}", *str(value).split())]


def prepared(output, **settings):
    """The task and the arguments of a run."""
    arguments = parse_arguments(*TYPES, argv=flags(output, **settings))
    return image_task(*arguments), arguments[-1]


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
    return {"dataset": tmp_path / "pictures", "image_size": 16, "patch_size": 8}


def test_a_resumed_run_augments_as_the_whole_one_did(tmp_path):
    # One epoch has three steps; the run is stopped in the middle of the first and at the end of it.
    once = {"train_examples": 240, "per_device_train_batch_size": 72, "max_steps": 4, "save_strategy": "steps"}
    # Workers have random states of their own.
    once |= {"save_steps": 1, "save_total_limit": 9, "dataloader_num_workers": 1}
    task, args = prepared(tmp_path, **RECIPE, **ONCE, **once)

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
    task, _ = prepared(tmp_path, **RECIPE, train_examples=400)
    assert task.source["subset"] == "400 of 1437 images, drawn by class with seed 0"
    # Small images are normalized by the training set.
    pixels = task.collate(list(task.splits["train"]))["pixel_values"]
    assert pixels.mean().item() == pytest.approx(0, abs=1e-4)
    assert pixels.std().item() == pytest.approx(1, abs=1e-3)
    examples = [task.splits["train"][index] for index in range(12)]
    train, plain = task.collate_train(examples), task.collate(examples)
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
    steps = {"eval_strategy": "steps", "eval_steps": 3, "save_strategy": "steps", "save_steps": 3, "max_steps": 6}
    steps |= {"validation_share": 0.3, "per_device_train_batch_size": 4, "crop_scale": "0.3 1", "streaming": "true"}
    folder = script.main(flags(tmp_path / "out", **colour_folder, **steps))
    results = json.loads((folder / "results.json").read_text())
    assert (results["dataset"]["train"], results["dataset"]["name"]) == (None, "pictures")
    assert "were not counted" in (folder / "README.md").read_text()
    # The test images as a user has them.
    images = [Pillow.open(path) for path in sorted((tmp_path / "pictures" / "test").glob("*/*.png"))]
    model = AutoModelForImageClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        logits = model(**AutoImageProcessor.from_pretrained(folder)(images, return_tensors="pt")).logits
    (released,) = (run for run in results["runs"] if run["released"])
    accuracy = (logits.argmax(-1).numpy() == np.repeat([0, 1, 2], 4)).mean()
    assert accuracy == pytest.approx(released["test_accuracy"], abs=1e-6)


def test_measured_images_have_the_asked_patches(tmp_path):
    task, _ = prepared(tmp_path)
    config = task.measured(task.config("bn+sh"), 64)
    assert config.grid_size == [8, 8]
    assert task.model_class(config)(**task.measuring_batch(3, 64)).logits.shape == (3, 10)
    with pytest.raises(ValueError, match="square numbers of patches, got 60"):
        task.measured(config, 60)
