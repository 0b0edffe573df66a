"""Data and settings as users bring them: rows 20 to 23 and 26 of the faults, and what is looked at before training."""

import io
import shutil

import numpy as np
import pandas as pd
import pytest
import run_time_series_classification as series_script
import torch
import yaml
from datasets import ClassLabel, Dataset, DatasetDict
from PIL import Image as Pillow
from sklearn.datasets import load_digits
from transformers import pipeline
from transformers.image_utils import load_image

from hf_primaldual.data import decode_image
from hf_primaldual.training.comparison import run_comparison
from hf_primaldual.training.images import (
    ImageDataArguments,
    ImageModelArguments,
    ImageTrainingArguments,
    image_task,
)
from hf_primaldual.training.settings import parse_arguments
from hf_primaldual.training.texts import TextDataArguments, TextModelArguments, text_task
from hf_primaldual.training.time_series import (
    SeriesDataArguments,
    SeriesModelArguments,
    SeriesTrainingArguments,
    prepare_series,
    series_task,
)

SERIES = (SeriesDataArguments, SeriesModelArguments, SeriesTrainingArguments)


def refused(message: str):
    return pytest.raises(ValueError, match=message)


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
    _, model, args = parsed(tmp_path, text, "--search_space", '{"bn_beta": ["x"]}')
    assert (args.seeds, args.learning_rate, args.num_train_epochs) == ([3], 1e-3, 3.0)
    assert (args.efficiency_tokens, args.threads, args.search_space) == ([], None, {"bn_beta": ["x"]})
    assert (model.attention, model.bn_scaling) == (["bn"], False)
    assert model.per_attention == {"bn": {"bn_beta": 0.5, "num_train_epochs": 2.0}}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_train_epochs": [3]}, r"run\.yaml: `num_train_epochs` must be a number, got \[3\]"),
        ({"dataset": True}, "`dataset` must be text or null, got True"),
        ({"seeds": [[1]]}, r"`seeds` must be a list, each a whole number, got \[\[1\]\]"),
        ({"bn_scaling": 2}, "`bn_scaling` must be true or false, got 2"),
        ({"optim": "adamm"}, "`optim` must be one of adamw_torch.*, got 'adamm'"),
        ({"per_attention": {"bn+sh": {"bn_beta": "x"}}}, r"`per_attention` of bn\+sh: `bn_beta` must be a number"),
        ({"per_attention": {"bn+sh": 1}}, r"per_attention.bn\+sh` must be a mapping.*got 1"),
        ({"search_space": [1]}, r"`search_space` must be text or a mapping or null, got \[1\]"),
        ("- seeds\n", r"run\.yaml must hold a mapping"),
        ({"per_attention": {"bn+sh": {"bn_betta": 1}}}, r"of bn\+sh has bn_betta \(the nearest known is bn_beta\)"),
        ("per_attention: {bn+sh: {bn_beta: 1, bn_beta: 2}}", "cannot be read as YAML: 'bn_beta' is set twice"),
        ("seeds: [1\n", r"run\.yaml cannot be read as YAML"),
        ("seed: 3", r"run\.yaml has seed \(the nearest known is seeds\)"),
        ("seeds: [0, -1]", r"`seeds` must be from 0 to 2\*\*32 - 1, got \[0, -1\]"),
        ("max_steps_per_series: 0", "`max_steps_per_series` must be at least 1, got 0"),
        ("efficiency_tokens: [8, 0]", r"`efficiency_tokens` must be numbers of at least 1, got \[8, 0\]"),
        ("learning_rate: .nan", "`learning_rate` must be a number of at least 0, got nan"),
        (["--overwrit"], r"the command line has \w+ .the nearest known is"),
        (["--hiden_size", "3"], r"the command line has hiden_size \(the nearest known is hidden_size\)"),
        (["--per_attention", "{bn"], r"`per_attention` must be a mapping, as a flag in JSON, got '{bn'"),
        (["--missing_values", "zero"], "`missing_values` must be error or mean, got 'zero'"),
    ],
)
def test_row_26_a_setting_that_cannot_be_is_named(tmp_path, settings, message):
    with refused(message):
        parsed(tmp_path, {}, *settings) if isinstance(settings, list) else parsed(tmp_path, settings)


def test_row_26_the_settings_of_every_attention_are_looked_at_before_the_first_is_trained(tmp_path):
    for own, message in (({"dropout": 2}, "dropout probability"), ({"learning_rate": -1}, "`learning_rate` must be")):
        _, model, args = parsed(tmp_path, {"per_attention": {"bn+sh": own}, "report_to": "none", "use_cpu": True})
        task = prepare_series(DatasetDict(train=series(), test=series()), {"name": "toy"}, model)
        with pytest.raises(ValueError, match=message):
            run_comparison(task, model, args, [])
        assert not (tmp_path / "settings.json").exists()
    with pytest.raises(
        ValueError, match=r"10 of 10 series are longer than the 3 positions .*`--max_steps_per_series`"
    ):
        prepare_series(DatasetDict(train=series(), test=series()), {}, SeriesModelArguments(), 3)


TEXTS = {"text": ["one", "two", "three", "four"] * 3, "label": ["no", "yes"] * 6}
CHOSEN = {"classes": ["no", "yes"]}
FORMATS = ["csv", "json", "parquet"]


def write(folder, split: str, rows: dict, ending: str) -> str:
    path, frame = folder / f"{split}.{ending}", pd.DataFrame(rows)
    if ending == "csv":
        frame.to_csv(path, index=False)
    elif ending == "parquet":
        frame.to_parquet(path)
    else:
        frame.to_json(path, orient="records", lines=ending == "jsonl")
    return str(path)


def of_texts(share: float = 0.25, **settings):
    return text_task(TextDataArguments(validation_share=share, **settings), TextModelArguments(hidden_size=16))


def of_files(folder, train: dict, test: dict = TEXTS, ending: str = "csv", **settings):
    files = {f"{name}_file": write(folder, name, rows, ending) for name, rows in (("train", train), ("test", test))}
    return of_texts(**files, **settings)


def changed(rows: dict, column: str, cells: dict) -> dict:
    return {**rows, column: [cells.get(row, cell) for row, cell in enumerate(rows[column])]}


@pytest.mark.parametrize("ending", FORMATS)
def test_row_20_a_missing_label_is_no_class(tmp_path, ending):
    for cell in (None, "", " "):
        with refused(r"train\.\w+: 2 of 12 labels are missing \(rows 3, 7, counted from 0\)"):
            of_files(tmp_path, changed(TEXTS, "label", {3: cell, 7: cell}), ending=ending)
    numbers = {**TEXTS, "label": [0, 10, 9] * 4}
    task = of_files(tmp_path, numbers, numbers, ending)
    assert task.class_names == ["0", "9", "10"]
    assert task.splits["test"]["labels"][:3].tolist() == [0, 2, 1]
    with refused(r"test\.\w+: 1 of 12 labels are missing \(row 4, counted from 0\)\.$"):
        of_files(tmp_path, numbers, changed(numbers, "label", {4: None}), ending)
    with refused(r"test\.\w+: 1 of 12 examples are of classes that train lacks: '3' \(1\) \(row 4"):
        of_files(tmp_path, numbers, changed(numbers, "label", {4: 3}), ending)
    words = {**TEXTS, "label": ["None", "NA", " nan"] * 4}
    assert of_files(tmp_path, words, words, ending).class_names == ["NA", "None", "nan"]


@pytest.mark.parametrize("labels", [["a", "b"], [1.0, 0.0], [True, False]], ids=["words", "fractions", "flags"])
def test_row_20_a_missing_label_in_a_folder_is_no_class(tmp_path, labels):
    rows = {"text": TEXTS["text"], "label": labels * 6}
    for split in ("train", "test"):
        write(tmp_path, split, rows, "parquet")
    task = of_texts(dataset=str(tmp_path), train_size=6)
    assert (task.sizes, task.settings["validation_share"]) == ({"train": 6, "validation": 3, "test": 12}, 0.25)
    assert task.class_names == sorted(str(int(name)) if isinstance(name, float) else str(name) for name in labels)
    write(tmp_path, "validation", changed(rows, "label", {0: None, 11: None}), "parquet")
    with refused(r"the validation set: 2 of 12 labels are missing \(rows 0, 11"):
        of_texts(dataset=str(tmp_path))


def test_row_20_splits_that_number_their_classes_otherwise_agree_by_name(tmp_path):
    files = {f"{name}_file": str(tmp_path / f"{name}.parquet") for name in ("train", "test")}
    for split, names in (("train", ["no", "yes"]), ("test", ["yes", "no"])):
        rows = Dataset.from_dict(TEXTS).cast_column("label", ClassLabel(names=names))
        rows.to_parquet(files[f"{split}_file"])
    task = of_texts(**files)
    assert task.class_names == ["no", "yes"]
    assert task.splits["test"]["labels"][:2].tolist() == [0, 1]
    rows = Dataset.from_dict(changed(TEXTS, "label", {3: "so"})).cast_column("label", ClassLabel(names=[*names, "so"]))
    rows.map(lambda row: {"label": -1 if row["label"] == 2 else row["label"]}).to_parquet(files["test_file"])
    with refused(r"test\.parquet: 1 of 12 labels are missing \(row 3"):
        of_texts(**files)


@pytest.mark.parametrize("cell", [None, "", " \u00a0 "])
def test_row_21_an_empty_text_is_named(tmp_path, cell):
    with refused(r"test\.json: 1 of 12 texts are empty in 'text' \(row 5, counted from 0\)"):
        of_files(tmp_path, TEXTS, changed(TEXTS, "text", {5: cell}), "json")


def test_row_21_all_that_is_wrong_is_told_at_once(tmp_path):
    pairs = {**TEXTS, "other": ["x"] * 12}
    train = changed(changed(pairs, "other", {2: " ", 3: None}), "label", {0: "", 6: " "})
    test = changed(pairs, "label", {1: "perhaps", 5: "perhaps", 7: "never"})
    message = r"train.csv: 2 of 12 texts are empty in 'other' \(rows 2, 3.*train.csv: 2 of 12 labels .* \(rows 0, 6.*"
    with refused(message + r"test.csv: 3 of 12 .* lacks: 'never' \(1\), 'perhaps' \(2\) \(rows 1, 5, 7"):
        of_files(tmp_path, train, test, text_pair_column="other")
    # Digits and words for nothing are texts.
    for first in (["007", "1e3"], ["None", "NA"]):
        rows = {**TEXTS, "text": first * 6}
        task = of_files(tmp_path, rows, rows)
        assert task.processor.decode(task.splits["test"][0]["input_ids"], skip_special_tokens=True) == first[0]


@pytest.mark.parametrize(
    ("train", "test", "ending", "settings", "message"),
    [
        ({"text": [1] * 12}, {}, "json", {}, r"train\.json: the column 'text' is of the type int64, not of texts"),
        ({"label": ["no", "yes", "so"] + ["no"] * 9}, {}, "csv", {}, "2 of its 3 classes have one .*: 'so', 'yes'"),
        ({"label": ["yes"] * 12}, {"label": ["yes"] * 12}, "csv", {}, r"train\.csv has one class alone, 'yes'"),
        ({}, {}, "csv", {"text_pair_column": "text"}, "`label_column` must differ, got text"),
        ({}, {}, "csv", {"max_tokens": 0}, "`max_tokens` must be at least 1, got 0"),
        ({}, {}, "csv", {"train_size": 0}, "`train_size` must be at least 1, got 0"),
        ({}, {}, "csv", {"label_column": "stars"}, r"train\.csv has no column 'stars'; it has text, label"),
        ({}, {"text": [], "label": []}, "parquet", {}, r"test\.parquet cannot be read"),
        ({"label": ["no", "yes", "so"] * 4}, {"label": ["so"] * 12}, "csv", CHOSEN, "got none in test"),
        ({"label": [None] * 12}, {}, "parquet", {}, r"12 of 12 labels are missing \(rows 0, 1, 2, 3, 4, \.\.\., cou"),
        ({}, {"label": [["no"], ["yes"]] * 6}, "parquet", {}, "'label' is of the type .*list.*, not one class for"),
        ({"label": [["no"], ["yes"]] * 6}, {}, "parquet", {}, "'label' is of the type .*string, not of lists of"),
        ({"label": ["x", 1] * 6}, {}, "jsonl", {}, r"train\.jsonl: the column 'label' is of the type .*, not one cla"),
    ],
)
def test_row_21_what_cannot_be_trained_on_is_named(tmp_path, train, test, ending, settings, message):
    with refused(message):
        of_files(tmp_path, {**TEXTS, **train}, {**TEXTS, **test}, ending, **settings)


@pytest.mark.parametrize(
    ("ending", "content", "message"),
    [
        ("csv", b"text,label,label\na,no,x\n", r"test\.csv has several columns 'label'"),
        ("csv", b"text,label\na,b,no\nc,d,yes\n", r"test\.csv has more cells in its rows than names in its header"),
        ("csv", b"", r"test\.csv cannot be read: "),
        ("csv", b'text,label\na,b\na,b,c,"d', r"test\.csv cannot be read: "),
        ("csv", b"text,label\n\xff\xfe\xfa,b\n", r"test\.csv cannot be read: "),
        ("jsonl", b'{"text": "a"}\nno json\n', r"test\.jsonl cannot be read: "),
        ("parquet", b"PAR1 no parquet", r"test\.parquet cannot be read: "),
    ],
)
def test_row_21_a_file_that_cannot_be_read_is_named(tmp_path, ending, content, message):
    train, test = write(tmp_path, "train", TEXTS, ending), tmp_path / f"test.{ending}"
    test.write_bytes(content)
    with refused(message):
        of_texts(train_file=train, test_file=str(test))


def series(values=None, labels=None) -> Dataset:
    values = [[[float(step), 1.0] for step in range(4)] for _ in range(10)] if values is None else values
    data = Dataset.from_dict({"past_values": values, "labels": [0, 1] * 5 if labels is None else labels})
    return data.cast_column("labels", ClassLabel(names=["a", "b"]))


def with_cell(row: int, value) -> list:
    values = series()["past_values"][:]
    values[row][2][0] = value
    return values


@pytest.mark.parametrize(("split", "value"), [("train", None), ("validation", float("nan")), ("test", float("nan"))])
def test_row_22_missing_values_of_any_split_stop_before_training(split, value):
    splits = DatasetDict({name: series() for name in ("train", "validation", "test")})
    splits[split] = series(with_cell(3, value))
    with refused(f"the {split} set: 1 of 10 series have missing values, which `--missing_values mean` .*row 3, count"):
        prepare_series(splits, {}, SeriesModelArguments())
    task = prepare_series(splits, {}, SeriesModelArguments(), missing_values="mean")
    batch = task.collate(list(task.splits[split]))
    assert batch["past_values"].isfinite().all()
    assert batch["past_values"][3, 2, 0] == 0
    assert task.processor.missing_values == "mean"


def test_row_22_the_script_has_the_option_that_the_error_names(tmp_path):
    head = "@univariate true\n@classLabel true a b\n@data\n"
    rows = "".join(f"{n},2,3:a\n4,{n},6:b\n" for n in range(5))
    (tmp_path / "Toy_TRAIN.ts").write_text(head + rows)
    (tmp_path / "Toy_TEST.ts").write_text(head + rows.replace("2,2,3", "2,?,3"))
    argv = ["--dataset", "Toy", "--data_folder", str(tmp_path), "--output_dir", str(tmp_path / "out")]
    with refused(r"Toy_TEST\.ts: 1 of 10 series .*`--missing_values mean`.*row 4"):
        series_script.main(argv)
    assert not (tmp_path / "out").exists()
    data_args = parse_arguments(SeriesDataArguments, argv=[*argv[:4], "--missing_values", "mean"])[0]
    assert series_task(data_args, SeriesModelArguments()).settings["missing_values"] == "mean"


@pytest.mark.parametrize(
    ("test", "message"),
    [
        (lambda: series(with_cell(7, float("-inf"))), r"1 of 10 series have infinite values \(row 7"),
        (lambda: series([[], None, *series()["past_values"][2:]]), r"2 of 10 series have no step \(rows 0, 1"),
        (lambda: series([[[1.0]], *series()["past_values"][1:]]), r"1 of 10 series are not of 2 channels.*\(row 0"),
        (lambda: series(labels=[0, None, -1] + [1] * 7), r"2 of 10 labels are missing \(rows 1, 2"),
        (lambda: series().select([]), "the test set is empty"),
    ],
    ids=["infinite", "no-step", "channels", "labels", "empty"],
)
def test_row_22_series_of_the_test_set_are_looked_at_first(test, message):
    with refused(message):
        prepare_series(DatasetDict(train=series(), test=test()), {}, SeriesModelArguments())


TINY = ["--hidden_size", "16", "--num_hidden_layers", "1", "--num_attention_heads", "2", "--patch_size", "4"]


@pytest.fixture
def pictures(tmp_path):
    """Digits of three classes as files, each first given to `change`."""

    def write(change=lambda image: image, ending: str = "png", **options):
        digits, folder = load_digits(), tmp_path / "pictures"
        for label, name in enumerate(("zero", "one", "two")):
            images = iter(digits.images[digits.target == label])
            for split, count in (("train", 10), ("test", 4)):
                (folder / split / name).mkdir(parents=True)
                for index in range(count):
                    image = Pillow.fromarray((next(images) * 255 / 16).astype(np.uint8))
                    change(image).save(folder / split / name / f"{index}.{ending}", **options)
        return folder

    return write


def of_pictures(folder, size: int = 16, *flags):
    argv = ["--dataset", str(folder), "--output_dir", str(folder), "--validation_share", "0.3", *TINY]
    types = (ImageDataArguments, ImageModelArguments, ImageTrainingArguments)
    return image_task(*parse_arguments(*types, argv=[*argv, "--image_size", str(size), *flags]))


@pytest.mark.parametrize(("mode", "size"), [("L", 80), ("P", 16), ("RGBA", 16), ("CMYK", 16), ("I;16", 16)])
def test_row_23_the_pipeline_sees_what_training_evaluates(pictures, tmp_path, mode, size):
    def change(image):
        return Pillow.fromarray(np.asarray(image) * np.uint16(257)) if mode == "I;16" else image.convert(mode)

    task = of_pictures(pictures(change, "tiff" if mode == "CMYK" else "png"), size)
    files = sorted(map(str, tmp_path.glob("pictures/test/*/*.*")))
    model = task.model_class(task.config("bn+sh")).eval()
    with torch.no_grad():
        logits = model(**task.collate(list(task.splits["test"]))).logits
    # Saved as the processor and the model are with the checkpoint.
    model.save_pretrained(tmp_path / "model")
    task.processor.save_pretrained(tmp_path / "model")
    # Pipelines clip 16 bits at 255, as the warning says.
    images = list(map(decode_image, files)) if mode == "I;16" else files
    answers = pipeline("image-classification", model=str(tmp_path / "model"))(images)
    for answer, row in zip(answers, logits.softmax(-1).tolist(), strict=True):
        found = {entry["label"]: entry["score"] for entry in answer}
        assert found == pytest.approx(dict(zip(task.class_names, row, strict=True)), abs=1e-5)
    with refused(r"`num_channels` must be 3, got 1: .* grey ones are trained on"):
        ImageModelArguments(num_channels=1)


def test_row_23_pictures_that_pillow_would_clip_are_scaled_or_refused(pictures):
    folder = pictures()
    file = folder / "test" / "one" / "9.tiff"
    Pillow.fromarray(np.uint16([[0, 300], [0x8000, 0xFFFF]])).save(file)
    assert np.asarray(decode_image(file))[..., 0].tolist() == [[0, 1], [128, 255]]
    with pytest.warns(UserWarning, match=r"1 images have 16 bits, with values up to 65535 of .*decode_image\(path\)"):
        of_pictures(folder)
    Pillow.fromarray(np.full((8, 8), 255, np.uint16)).save(file)
    with refused("1 images have 16 bits and no value above 255 of 65535, which is black"):
        of_pictures(folder)
    Pillow.fromarray(np.full((8, 8), 300, np.float32)).save(file)
    with refused(r"1 of 13 images cannot be read \(row 4: .*9\.tiff: of mode F, 32 bits without a white"):
        of_pictures(folder)


def test_row_23_a_turned_picture_is_turned(pictures):
    exif = Pillow.Exif()
    exif[0x0112] = 6

    def coloured(image):
        # One channel is the same everywhere, and only centred.
        return Pillow.merge("RGB", (image, image, Pillow.new("L", image.size))).resize((16, 12))

    folder = pictures(coloured, "jpg", exif=exif)
    task = of_pictures(folder)
    images = [load_image(str(file)) for file in sorted(folder.glob("test/*/*.jpg"))]
    expected = task.processor(images, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(task.collate(list(task.splits["test"]))["pixel_values"], expected, atol=1e-5, rtol=1e-4)


def test_row_21_images_that_cannot_be_read_are_told_at_once(pictures):
    folder = pictures()
    (folder / "train/one/0.png").write_bytes(b"no image")
    (folder / "test/one/2.png").write_bytes((folder / "test/one/2.png").read_bytes()[:60])
    with refused(r"(?s)1 of 30 images .*train/one/0.png: no readable image.*1 of 12 .*test/one/2.png: no readable"):
        of_pictures(folder, 80)
    # All of them, however many.
    for index in range(10):
        (folder / f"train/two/{index}.png").write_bytes(b"no image")
    with refused(r"11 of 30 images.*row 0: .*row 10: .*row 19: .*; replace them, or leave them out by `skip_unread"):
        of_pictures(folder, 80)
    shutil.rmtree(folder / "train/two"), shutil.rmtree(folder / "test/two")
    with pytest.warns(UserWarning, match=r"left out: .*1 of 20 images .*one/0\.png.*1 of 8 images .*one/2\.png"):
        task = of_pictures(folder, 80, "--skip_unreadable")
    assert (task.sizes, task.settings["skip_unreadable"]) == ({"train": 13, "validation": 6, "test": 7}, True)


def test_row_21_images_of_parquet_files_are_looked_at(tmp_path):
    buffer = io.BytesIO()
    Pillow.fromarray(np.zeros((8, 8), np.uint8)).save(buffer, "png")
    cells = [{"bytes": buffer.getvalue(), "path": None}] * 10
    Dataset.from_dict({"image": cells, "label": ["a", "b"] * 5}).to_parquet(tmp_path / "train.parquet")
    wrong = [None, {"bytes": b"x", "path": None}, *cells[2:]]
    labels = ["a", None, "", "c", *["a", "b"] * 3]
    Dataset.from_dict({"image": wrong, "label": labels}).to_parquet(tmp_path / "test.parquet")
    message = r"2 of 10 images cannot be read \(row 0: there is no image, row 1: an image of 1 bytes without.*"
    message += r"2 of 10 labels are missing \(rows 1, 2.*1 of 10 .* classes that train lacks: 'c' \(1\) \(row 3"
    with refused(message):
        of_pictures(tmp_path)


def test_row_21_folders_that_are_no_classes_are_named(pictures):
    folder = pictures()
    shutil.copytree(folder / "test" / "one", folder / "test" / "four")
    with refused(r"the test set of .*: 4 of 16 examples are of classes that train lacks: 'four'"):
        of_pictures(folder)
    shutil.rmtree(folder / "test" / "four")
    for file in list((folder / "train" / "two").iterdir())[1:]:
        file.unlink()
    with refused("1 of its 3 classes have one example alone: 'two'"):
        of_pictures(folder)
    shutil.copytree(folder / "train" / "one", folder / "train" / "one" / "more")
    with refused(r"gives labels by `train/CLASS/.*one level deep"):
        of_pictures(folder)
