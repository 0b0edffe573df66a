"""Loading, publishing and what is written over: rows 27 to 29 and 31, and the publishing half of row 5."""

import ast
import builtins
import io
import json
import runpy
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from huggingface_hub import ModelCard
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import load_file, save, save_file

import hf_primaldual
from hf_primaldual.hub.card import check_card, render_card, write_card
from hf_primaldual.hub.checkpoint import save_checkpoint, write_record
from hf_primaldual.hub.checks import check, check_file, check_loading, check_text
from hf_primaldual.hub.publish import stage
from hf_primaldual.hub.results import TASKS, load_results, save_results
from hf_primaldual.training.comparison import run_comparison
from hf_primaldual.training.runs import claim_output_folder
from hf_primaldual.training.settings import parse_arguments
from hf_primaldual.training.texts import TextDataArguments, TextModelArguments, TextTrainingArguments, text_task
from hf_primaldual.training.time_series import (
    SeriesDataArguments,
    SeriesModelArguments,
    SeriesTrainingArguments,
    series_task,
)
from tests.hub.checkpoints import assert_kept, checkpoint, edited, ready_checkpoint
from tests.hub.tables import table, without

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return ready_checkpoint(tmp_path_factory.mktemp("whole") / "model")


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of a checkpoint that is fit to be published, the test's own to change."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


def change(path: Path, **fields) -> None:
    """Other fields in a file of JSON."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.fixture
def questions(monkeypatch):
    """What is asked on the terminal, and answered with no."""
    asked = []
    monkeypatch.setattr(builtins, "input", lambda text="": asked.append(text) or "n")
    return asked


SEQUENCES = "AutoModelForSequenceClassification"
AUTOS = {
    "time-series-classification": (SEQUENCES, "AutoFeatureExtractor", np.ones((9, 12))),
    "text-classification": (SEQUENCES, "AutoTokenizer", "a text"),
    "document-matching": (SEQUENCES, "AutoTokenizer", None),
    "text-generation": ("AutoModelForCausalLM", "AutoTokenizer", None),
    "image-classification": ("AutoModelForImageClassification", "AutoImageProcessor", Image.new("RGB", (35, 28))),
}


@pytest.mark.processes
@pytest.mark.parametrize("task", TASKS)
def test_row_28_with_the_package_nothing_asks_for_trust(task, tmp_path, questions):
    before = set(sys.modules)
    for part in checkpoint(task):
        part.save_pretrained(tmp_path)
    head, processor, example = AUTOS[task]
    for auto in ("AutoConfig", "AutoModel", head, processor, "AutoProcessor"):
        getattr(transformers, auto).from_pretrained(tmp_path)
        assert not questions, auto
    if example is not None:
        assert transformers.pipeline(task, model=str(tmp_path))(example)[0]["label"].startswith("LABEL_")
    if task == "time-series-classification":
        classify = transformers.pipeline(model=str(tmp_path))
        classify.save_pretrained(tmp_path / "again")
        again = transformers.pipeline(task, model=str(tmp_path / "again"), trust_remote_code=True)
        assert {type(each) for each in (classify, again)} == {hf_primaldual.TimeSeriesClassificationPipeline}
        part.save_pretrained(tmp_path / "alone")
        alone = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "alone")
        assert type(alone) is hf_primaldual.PrimalDualTimeSeriesFeatureExtractor
    assert not questions
    assert not [name for name in set(sys.modules) - before if name.startswith("transformers_modules.")]


def test_row_28_no_script_and_no_module_passes_trust_by_itself():
    # But for the check itself, which runs only what is the package's own code, or what somebody has trusted.
    isolated = ROOT / "src" / "hf_primaldual" / "hub" / "load_check.py"
    for path in {*(ROOT / "scripts").rglob("*.py"), *(ROOT / "src").rglob("*.py")} - {isolated}:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            trusts = isinstance(node, ast.keyword) and node.arg == "trust_remote_code"
            assert not trusts or not isinstance(node.value, ast.Constant) or not node.value.value, path


SHORT = """
--attention bn --seeds 0 --max_steps 1 --hidden_size 8 --intermediate_size 8 --num_hidden_layers 1 --report_to none
--use_cpu true --disable_tqdm true --efficiency_tokens 8
"""


def train(out: Path, *flags: str) -> Path:
    """A training as short as can be, by the code of the script."""
    argv = [*SHORT.split(), "--output_dir", str(out), *flags]
    arguments = parse_arguments(SeriesDataArguments, SeriesModelArguments, SeriesTrainingArguments, argv=argv)
    return run_comparison(series_task(*arguments[:2]), *arguments[1:], argv)


TEXTS = ["write to jane.doe@example.org, please", "my token is hf_" + "a1B2" * 8]


def recorded(folder: Path) -> dict[str, torch.Tensor]:
    tensors = load_file(folder / "check.safetensors")
    return {name: tensor for name, tensor in tensors.items() if name != "logits"}


@pytest.mark.parametrize("task", TASKS)
def test_row_27_a_checkpoint_is_checked_with_inputs_that_are_drawn_from_its_configuration(task, tmp_path):
    model, processor = checkpoint(task)
    results = without(table(task), ("plots",))
    inputs = recorded(save_checkpoint(tmp_path / "one", model, processor, results))
    again = recorded(save_checkpoint(tmp_path / "two", type(model)(model.config), processor, results))
    assert inputs.keys() == again.keys()
    assert all(torch.equal(inputs[name], again[name]) for name in inputs)
    for name, tensor in inputs.items():
        if name.endswith("input_ids"):
            assert tensor.min() >= 0
            assert tensor.max() < model.config.vocab_size
        if name.endswith("mask"):
            assert len(set(tensor.sum(1).tolist())) == 2
    assert "input.pixel_values" in inputs or "input.attention_mask" in inputs
    assert ("input.pair_input_ids" in inputs) == (task == "document-matching")


def test_row_27_a_training_publishes_no_example_of_its_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = [f"{text} {number},{number % 2}" for number in range(12) for text in ("good", "bad")]
    secret = [f'"{text} {number}",{number % 2}' for number in range(6) for text in TEXTS]
    for name, lines in (("train", rows), ("validation", secret), ("test", rows)):
        (tmp_path / f"{name}.csv").write_text("\n".join(["text,label", *lines]))
    files = [f"--{name}_file={tmp_path / f'{name}.csv'}" for name in ("train", "validation", "test")]
    argv = [*files, *SHORT.split(), "--output_dir", "out", "--hub_token", "hf_abc", "--max_tokens", "64"]
    argv += ["--model_license", "mit"]
    data_args, model_args, args = parse_arguments(
        TextDataArguments, TextModelArguments, TextTrainingArguments, argv=argv
    )
    task = text_task(data_args, model_args, args)
    folder = run_comparison(task, model_args, args, argv)
    examples = [row["input_ids"].tolist() for split in task.splits.values() for row in split]
    for row in recorded(folder)["input.input_ids"].tolist():
        assert not any(row[:8] == example[:8] for example in examples)
    for path in folder.iterdir():
        content = path.read_bytes()
        assert not any(bad in content for bad in (b"jane.doe", b"hf_abc", str(tmp_path).encode())), path
        check_file(path)
    assert "train.csv" in json.loads((folder / "results.json").read_text())["command"]


def test_row_27_a_record_of_examples_as_an_older_version_wrote_it_is_refused_and_written_anew(folder):
    path = folder / "check.safetensors"
    before, tensors = recorded(folder), load_file(path)
    tensors["input.past_values"] += 1
    save_file(tensors, path)
    with pytest.raises(ValueError, match=r"holds other inputs than those that are drawn.*write_record\(folder\)"):
        check(folder)
    write_record(folder)
    assert all(torch.equal(tensor, before[name]) for name, tensor in recorded(folder).items())


# Made here, so that no file of this repository holds one.
TOKEN, EMAIL = "hf_" + "a1B2" * 8, "someone" + "@" + "example.org"
PLACES = r"""
/gpfs/jane/x ~jane/x /mnt2/jane/x /disk1/jane /afs/example.org/user/j /nas/jane /home2/jane /share/jane/x /local/x
file:///home/me/x a:/home/me C:/Users/me C:\Users (/workspace/x) "/kaggle/input" =/dev/shm/x
"""
SECRETS = [TOKEN, EMAIL, "https://jane:secret@example.org/x", "s3://AAAA:secret@bucket"]


@pytest.mark.parametrize("text", [*PLACES.split(), *SECRETS], ids=lambda text: text.replace("/", "_"))
def test_row_27_what_is_private_is_found_in_whatever_form_and_a_token_is_not_shown(text):
    with pytest.raises(ValueError, match=r"in line 2.*it would be public") as caught:
        check_text("text", f"first\nthen {text} follows")
    assert TOKEN not in str(caught.value)


def test_row_27_a_formula_or_an_address_is_no_private_matter():
    check_text("text", "https://arxiv.org/abs/2406.13781, a/b/c, 1/home, @strict, D:4, q/var(x), [a](b/c.png), x @ y")
    check_text("text", "https://data/home, http://host/home/page, git+https://host/srv/x, ratio a:b/c, and/or")


SECRET_KEYS = ["hub_token", "wandb_api_key", "apikey", "client_secret", "huggingface_token", "authorization"]


def drawn() -> bytes:
    """A picture that names its author, as programs write it."""
    about, file = PngInfo(), io.BytesIO()
    about.add_text("Author", EMAIL)
    Image.new("RGB", (9, 9)).save(file, "png", pnginfo=about)
    return file.getvalue()


HOLDING = {
    "config.json": (b'{"name_or_path": "/nas/jane"}', "an absolute path"),
    "README.md": (EMAIL.encode(), "an e-mail address"),
    "a.py": (EMAIL.encode(), "an e-mail address"),
    "learning_curves.png": (drawn(), "an e-mail address"),
    "spiece.model": (b"\x0a\x17\x00/home/jane/corpus.txt\x12", "an absolute path"),
    "model.safetensors": (save({"a": torch.ones(1)}, {"from": "/home/jane/x"}), "an absolute path"),
    **{
        f"{key}.json": (f'{{"pad_token": "", "in": [{{"{key}": "x"}}]}}'.encode(), "a token as") for key in SECRET_KEYS
    },
}


@pytest.mark.parametrize("name", HOLDING)
def test_row_27_no_file_that_goes_up_holds_what_is_private(name, tmp_path):
    content, message = HOLDING[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=f"{name} holds {message}"):
        check_file(tmp_path / name)


def results_with(folder: Path, **fields) -> None:
    change(folder / "results.json", **fields)
    write_card(folder)


SPOILED = {
    "pickle": (lambda f: (f / "optimizer.pt").write_bytes(b""), r"optimizer\.pt is no file of a checkpoint"),
    "other file": (lambda f: (f / "notes.txt").write_text(""), r"notes\.txt is no file of a checkpoint"),
    "code": (lambda f: (f / "helper.py").write_text(""), r"helper\.py is no file of a checkpoint"),
    "folder": (lambda f: (f / "runs").mkdir(), "runs is no plain file"),
    "link": (lambda f: (f / "LICENSE").symlink_to(f / "README.md"), "LICENSE is no plain file"),
    "record": (lambda f: (f / "check.safetensors").unlink(), r"lacks check\.safetensors"),
    "import": (lambda f: (f / "kernels_primal_dual.py").unlink(), r"kernels_primal_dual\.py"),
    "plot": (lambda f: (f / "learning_curves.png").unlink(), r"lacks learning_curves\.png"),
    "weights": (lambda f: (f / "model.safetensors").unlink(), "holds no weights"),
    "path": (lambda f: results_with(f, command="run --data /home/me/data"), "an absolute path in line .*/home/m"),
    "mail": (lambda f: change(f / "config.json", author=EMAIL), "an e-mail address in line"),
    "license": (lambda f: results_with(f, license=" "), "'license' is empty"),
    "base model": (lambda f: change(f / "config.json", converted_from="bert"), "'base_model' is missing"),
    "auto_map": (lambda f: change(f / "config.json", auto_map={}), "names no code"),
}


@pytest.mark.parametrize("name", SPOILED)
def test_row_27_what_is_unfit_to_be_published_is_named(name, folder):
    spoil, message = SPOILED[name]
    spoil(folder)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        check(folder)


def test_row_28_a_script_asks_nobody_whether_to_run_foreign_code(folder, questions):
    change(folder / "config.json", model_type="strange")
    code = folder / "modeling_primal_dual.py"
    code.write_text(code.read_text() + f"\nopen({str(folder / 'ran')!r}, 'w')\n")
    script = runpy.run_path(str(ROOT / "scripts" / "show_dual_variables.py"))
    with pytest.raises(ValueError, match="Please pass the argument `trust_remote_code=True`"):
        script["main"](["--checkpoint", str(folder)])
    assert not questions
    assert not (folder / "ran").exists()


WITHOUT_THE_PACKAGE = """
import os

try:
    import hf_primaldual
except ModuleNotFoundError:
    open(os.environ["RAN"], "w")
"""


def test_row_28_code_that_is_not_the_packages_own_is_not_run_unasked(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    code, weights = folder / "layers_primal_dual.py", load_file(folder / "model.safetensors")
    code.write_text(code.read_text() + WITHOUT_THE_PACKAGE)
    save_file({name: tensor + 1 for name, tensor in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    for look in (check, check_loading):
        with pytest.raises(ValueError, match=r"layers_primal_dual\.py .* pass `trust_remote_code=True`"):
            look(folder)
    assert not (tmp_path / "ran").exists()
    # Trusted it is run, where the package is hidden, and its weights are not those recorded.
    with pytest.raises(ValueError, match=r"do not give the logits recorded in check\.safetensors"):
        check(folder, trust_remote_code=True)
    assert (tmp_path / "ran").exists()


def test_row_31_a_persons_own_words_pass_the_check_and_survive_whatever_writes_the_card(folder, tmp_path):
    check_card(load_results(folder / "results.json"), edited(folder))
    stage(sorted(folder.iterdir()), "me/model", tmp_path)
    assert_kept((tmp_path / "README.md").read_text())
    assert 'model="me/model"' in (tmp_path / "README.md").read_text()
    results = load_results(folder / "results.json")
    assert_kept(write_card(folder).read_text())
    check_card(results, (folder / "README.md").read_text())
    results["settings"]["learning_rate"] = 0.5
    save_results(results, folder / "results.json")
    assert_kept(write_card(folder).read_text())
    parts = checkpoint("time-series-classification")
    save_checkpoint(folder, *parts, results, [folder / "learning_curves.png"])
    assert_kept((folder / "README.md").read_text())
    # Metadata that the results no longer give do not stay.
    results["license"] = "mit"
    older = (folder / "README.md").read_text().replace("- attention-bn-sh\n", "- attention-linear\n")
    data = ModelCard(render_card(results, older)).data
    assert data.license == "mit"
    assert "attention-linear" not in data.tags


@pytest.mark.parametrize("change", [("\n", "\r\n"), ("---\n", "\ufeff---\n")], ids=["windows", "mark"])
def test_row_31_what_an_editor_makes_of_a_file_loses_no_words(folder, change):
    (folder / "README.md").write_bytes(edited(folder).replace(*change, -1 if "\r" in change[1] else 1).encode())
    check_card(load_results(folder / "results.json"), (folder / "README.md").read_text())
    assert_kept(write_card(folder).read_text())


TWICE = "<!-- own words: notes -->\nOther words.\n<!-- end of own words -->\n<!-- own words: notes -->\n"


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("98.70 ±", "99.99 ±", "in 'Results'"),
        ("## Limits", "## My limits", "in 'Training'|in 'Data'"),
        ("license: apache-2.0", "license: mit", "'license' in its metadata"),
        ("value: 0.987", "value: 0.999", "'model-index' in its metadata"),
        ("- attention-bn-sh", "- attention-sh", "'tags' in its metadata"),
        ("# primal-dual-some-data", "# another", "in the beginning"),
        ("<!-- own words: notes -->\n", "", "has lost a marker of the section 'notes'"),
        ("<!-- own words: notes -->\n", TWICE, "has the section 'notes' more than once"),
        ("thumbnail: a.png", "thumbnail: [", "are no YAML"),
    ],
)
def test_row_31_a_measured_part_that_is_edited_is_refused_by_its_name_and_no_words_are_lost(old, new, part, folder):
    card = edited(folder)
    assert old in card
    (folder / "README.md").write_text(card.replace(old, new, 1))
    with pytest.raises(ValueError, match=part):
        check_card(load_results(folder / "results.json"), (folder / "README.md").read_text())
    if "own words" in old:
        with pytest.raises(ValueError, match=part):
            write_card(folder)
        assert (folder / "README.md").read_text() == card.replace(old, new, 1)


def write(folder: Path, *names: str) -> None:
    """Files of that name, each with its name as text."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def test_row_29_overwriting_removes_nobody_elses_runs(tmp_path):
    theirs = ("Nov26_host/events.out.tfevents.1", "exp/checkpoint-5/model.safetensors", "a")
    write(tmp_path / "runs", *theirs, "softmax-0/begun.json", "bn-0/run.json")
    write(tmp_path / "elsewhere", "run.json", "bn-0/run.json")
    (tmp_path / "runs" / "linked").symlink_to(tmp_path / "elsewhere")
    claim_output_folder(tmp_path, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["Nov26_host", "a", "exp", "linked"]
    assert all((tmp_path / "runs" / name).read_text() == name for name in theirs)
    # Runs behind a link are nobody known.
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "runs").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError, match="is a link"):
        claim_output_folder(tmp_path / "out", overwrite=True)
    assert all((tmp_path / "elsewhere" / name).exists() for name in ("run.json", "bn-0/run.json"))


def test_row_29_a_training_over_anothers_files_leaves_them_alone(tmp_path):
    theirs = ("runs/Nov26_host/events.out.tfevents.1", "learning_curves.png", "notes.txt", "model/config.json")
    out = tmp_path / "out"
    write(out, *theirs)
    train(out, "--overwrite")
    assert all((out / name).read_text() == name for name in theirs)
    assert [path.name for path in (out / "runs").iterdir()] == ["Nov26_host"]
    # Ended, though there is a folder `runs`.
    assert train(out, "--resume_from_checkpoint") == next(out.glob("primal-dual-*"))
    write(tmp_path / "kept", "japanesevowels.json")
    with pytest.raises(FileExistsError, match="`results_dir`"):
        train(tmp_path / "new", "--results_dir", str(tmp_path / "kept"))
    assert not (tmp_path / "new").exists()


def test_row_29_a_checkpoint_takes_the_place_of_a_checkpoint_and_of_nothing_else(folder, tmp_path):
    parts, results = checkpoint("time-series-classification"), load_results(folder / "results.json")
    plots = [shutil.copy(folder / "learning_curves.png", tmp_path)]
    (folder / "thesis.tex").write_text("years")
    with pytest.raises(FileExistsError, match=r"holds thesis\.tex, which is no file of a checkpoint"):
        save_checkpoint(folder, *parts, results, plots)
    assert (folder / "thesis.tex").read_text() == "years"
    (folder / "thesis.tex").unlink()
    (tmp_path / "link").symlink_to(folder)
    save_checkpoint(tmp_path / "link", *parts, results, plots)
    assert (tmp_path / "link").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["learning_curves.png", "link", "model"]


def test_row_05_a_model_on_its_way_from_softmax_is_not_published(folder):
    change(folder / "config.json", annealed=True)
    with pytest.raises(ValueError, match=r"does not load .*`annealed: true`: .* Convert the original again"):
        check(folder)
