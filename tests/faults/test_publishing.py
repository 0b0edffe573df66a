"""Loading, publishing and what is written over: rows 27 to 31, and the publishing half of row 5."""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image as Pillow
from PIL.PngImagePlugin import PngInfo
from safetensors.torch import load_file, save_file

import hf_primaldual
from hf_primaldual.hub.card import check_card, render_card, write_card
from hf_primaldual.hub.checkpoint import save_checkpoint, write_record
from hf_primaldual.hub.checks import check, check_arrived, check_file, check_loading
from hf_primaldual.hub.publish import _addressed
from hf_primaldual.hub.results import TASKS, load_results, save_results
from hf_primaldual.modeling.annealing_primal_dual import ARRIVED, Annealing
from hf_primaldual.training.arguments import (
    SeriesDataArguments,
    SeriesModelArguments,
    SeriesTrainingArguments,
    parse_arguments,
)
from hf_primaldual.training.comparison import run_comparison
from hf_primaldual.training.runs import claim_output_folder
from hf_primaldual.training.texts import TextDataArguments, TextModelArguments, TextTrainingArguments, text_task
from hf_primaldual.training.time_series import series_task
from tests.hub.checkpoints import ready_checkpoint
from tests.hub.loopback.client import Client
from tests.hub.loopback.server import LoopbackHub
from tests.hub.tables import table, without
from tests.hub.test_card_usage import checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return ready_checkpoint(tmp_path_factory.mktemp("whole") / "model")


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of a checkpoint that is fit to be published, the test's own to change."""
    return Path(shutil.copytree(whole, tmp_path / "model"))


WITHOUT_TRUST = """
import builtins
import sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
import numpy as np
from PIL import Image
import hf_primaldual
import transformers

questions = []
builtins.input = lambda text: questions.append(text) or "n"

root = Path(sys.argv[2])
image = Image.fromarray(np.zeros((28, 35, 3), np.uint8))
AUTOS = {
    "time-series-classification": ("AutoModelForSequenceClassification", "AutoFeatureExtractor", np.ones((9, 12))),
    "text-classification": ("AutoModelForSequenceClassification", "AutoTokenizer", "a text"),
    "document-matching": ("AutoModelForSequenceClassification", "AutoTokenizer", None),
    "image-classification": ("AutoModelForImageClassification", "AutoImageProcessor", image),
}
for task, (head, processor, example) in AUTOS.items():
    folder = str(root / task)
    for auto in ("AutoConfig", "AutoModel", head, processor, "AutoProcessor"):
        getattr(transformers, auto).from_pretrained(folder)
        assert not questions, (task, auto)
    if example is not None:
        assert transformers.pipeline(task, model=folder)(example)[0]["label"].startswith("LABEL_"), task
series = str(root / "time-series-classification")
inferred = transformers.pipeline(model=series)
assert type(inferred) is hf_primaldual.TimeSeriesClassificationPipeline
trusted = transformers.pipeline("time-series-classification", model=series, trust_remote_code=True)
inferred.save_pretrained(root / "again")
again = transformers.pipeline("time-series-classification", model=str(root / "again"))
assert type(inferred) is type(trusted) is type(again)
extractor = transformers.AutoFeatureExtractor.from_pretrained(root / "extractor")
assert type(extractor) is hf_primaldual.PrimalDualTimeSeriesFeatureExtractor
assert not questions
print([name for name in sys.modules if name.startswith("transformers_modules")])
"""


def test_row_28_with_the_package_nothing_asks_for_trust(tmp_path):
    for task in TASKS:
        for part in checkpoint(task):
            part.save_pretrained(tmp_path / task)
    checkpoint("time-series-classification")[1].save_pretrained(tmp_path / "extractor")
    source = Path(hf_primaldual.__file__).parents[1]
    process = subprocess.run(
        [sys.executable, "-c", WITHOUT_TRUST, source, tmp_path], capture_output=True, text=True, check=False
    )
    assert process.stdout.endswith("[]\n"), process.stderr[-3000:]


@pytest.mark.parametrize(
    "statement",
    [
        "from hf_primaldual.modeling.pipeline_primal_dual import TimeSeriesClassificationPipeline",
        "from transformers import pipelines; import hf_primaldual",
    ],
)
def test_row_28_the_pipeline_is_registered_in_whatever_order_things_are_imported(statement):
    source = Path(hf_primaldual.__file__).parents[1]
    script = (
        f"import sys; sys.path.insert(0, {str(source)!r}); {statement}\n"
        "from transformers.pipelines import PIPELINE_REGISTRY as known\n"
        "print(known.check_task('time-series-classification')[1]['impl']._load_feature_extractor)"
    )
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert process.stdout == "True\n", process.stderr


def test_row_28_no_script_and_no_module_passes_trust_by_itself():
    # But for the check itself, which runs only what is the package's own code, or what somebody has trusted.
    isolated = ROOT / "src" / "hf_primaldual" / "hub" / "stranger.py"
    for path in {*(ROOT / "scripts").rglob("*.py"), *(ROOT / "src").rglob("*.py")} - {isolated}:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            trusts = isinstance(node, ast.keyword) and node.arg == "trust_remote_code"
            assert not trusts or not isinstance(node.value, ast.Constant) or not node.value.value, path


def train(out: Path, *flags: str) -> Path:
    """A training as short as can be, by the code of the script."""
    argv = ["--attention", "bn", "--seeds", "0", "--max_steps", "1", "--hidden_size", "8", "--intermediate_size", "8"]
    argv += ["--num_hidden_layers", "1", "--report_to", "none", "--use_cpu", "true", "--disable_tqdm", "true"]
    argv += ["--efficiency_tokens", "29", "--output_dir", str(out), *flags]
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
    argv = [*files, "--attention", "bn", "--seeds", "0", "--num_train_epochs", "1", "--output_dir", "out"]
    argv += ["--hidden_size", "8", "--intermediate_size", "8", "--num_hidden_layers", "1", "--hub_token", "hf_abc"]
    argv += ["--max_tokens", "64", "--efficiency_tokens", "8", "--report_to", "none", "--use_cpu", "true"]
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
    assert "train.csv" in json.loads((folder / "results.json").read_text())["command"]
    check(folder)


def test_row_27_a_record_of_examples_as_an_older_version_wrote_it_is_refused_and_written_anew(folder):
    path = folder / "check.safetensors"
    tensors = load_file(path)
    tensors["input.past_values"] += 1
    save_file(tensors, path)
    with pytest.raises(ValueError, match=r"holds other inputs than those that are drawn.*write_record\(folder\)"):
        check(folder)
    write_record(folder)
    check(folder)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "results.json", "README.md", "a.py"])
@pytest.mark.parametrize("private", ["path", "mail", "token", "home"])
def test_row_27_no_text_that_goes_up_holds_what_is_private(name, private, folder):
    text = {"path": "/gpfs/jane/x", "mail": TEXTS[0], "token": TEXTS[1], "home": "~jane/x"}[private]
    path = folder / name
    if name.endswith(".json"):
        path.write_text(json.dumps({**json.loads(path.read_text()), "name_or_path": text}))
    else:
        path.write_text((path.read_text() if path.exists() else "") + text)
    with pytest.raises(ValueError, match="it would be public"):
        check_file(path)


def test_row_27_a_short_token_is_known_by_its_name(folder):
    for name in ("config.json", "preprocessor_config.json"):
        config = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps({**config, "inner": [{"hub_token": "abc"}]}))
        with pytest.raises(ValueError, match=f"{name} holds a token as 'hub_token'"):
            check_file(folder / name)


@pytest.mark.parametrize(
    "value",
    [
        "https://jane:secret@example.org/x",
        "s3://AAAA:secret@bucket",
        "/mnt2/jane/x",
        "/disk1/jane",
        "/afs/example.org/user/j",
        "/nas/jane",
        "/share/jane/x",
        "/local/x",
        "/home2/jane",
    ],
)
def test_row_27_other_places_and_passwords_are_private_too(value, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "name_or_path": value}))
    with pytest.raises(ValueError, match="it would be public"):
        check_file(folder / "config.json")


@pytest.mark.parametrize("key", ["wandb_api_key", "apikey", "client_secret", "huggingface_token", "authorization"])
def test_row_27_a_secret_of_another_service_is_known_by_its_name(key, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "pad_token": "<pad>", key: "abc"}))
    with pytest.raises(ValueError, match=f"holds a token as '{key}'"):
        check_file(folder / "config.json")


def test_row_27_texts_in_a_picture_or_a_tokenizers_model_are_read(folder):
    picture, author = folder / "learning_curves.png", PngInfo()
    check_file(picture)
    author.add_text("Author", "jane.doe@example.org")
    Pillow.new("RGB", (9, 9)).save(picture, pnginfo=author)
    with pytest.raises(ValueError, match=r"learning_curves\.png holds an e-mail address"):
        check_file(picture)
    (folder / "spiece.model").write_bytes(b"\x0a\x17\x00/home/jane/corpus.txt\x12")
    with pytest.raises(ValueError, match=r"spiece\.model holds an absolute path"):
        check_file(folder / "spiece.model")


@pytest.mark.parametrize(
    "arguments", [["show_dual_variables.py"], ["show_attention.py", "--dataset=X", "--plot=x.png"]]
)
def test_row_28_a_script_asks_nobody_whether_to_run_foreign_code(arguments, folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "strange"}))
    code = folder / "modeling_primal_dual.py"
    code.write_text(code.read_text() + f"\nopen({str(folder / 'ran')!r}, 'w')\n")
    command = [sys.executable, str(ROOT / "scripts" / arguments[0]), "--checkpoint", str(folder), *arguments[1:]]
    ended = subprocess.run(command, input="y\n" * 9, capture_output=True, text=True, check=False)
    assert "Please pass the argument `trust_remote_code=True`" in ended.stderr
    assert not (folder / "ran").exists()


def test_row_28_code_that_is_not_the_packages_own_is_not_run_unasked(folder, tmp_path):
    code = folder / "layers_primal_dual.py"
    code.write_text(code.read_text() + f"\nopen({str(tmp_path / 'ran')!r}, 'w')\n")
    for look in (check, check_loading):
        with pytest.raises(ValueError, match=r"layers_primal_dual\.py .* pass `trust_remote_code=True`"):
            look(folder)
    assert not (tmp_path / "ran").exists()
    check_loading(folder, trust_remote_code=True)
    assert (tmp_path / "ran").exists()


WORDS = "For teaching.\n\n- Not for diagnosis: 9 people \\1 {{ made }} these data.\n\n### A heading of mine\n"


def edited(folder: Path) -> str:
    """The card after a person has written into it: all three sections, and the metadata."""
    path = folder / "README.md"
    card = path.read_text()
    for default in ("Not stated.\n", "None.\n"):
        card = card.replace(default, WORDS)
    card = card.replace("---\n", "---\nlanguage: [de, en]\nthumbnail: a.png\n", 1)
    card = card.replace("tags:\n", "tags:\n- my-tag\n").replace("datasets:\n", "datasets:\n- my/data\n")
    path.write_text(card)
    return card


def assert_kept(card: str):
    assert card.count(WORDS) == 3
    data = ModelCard(card).data
    assert data.language == ["de", "en"]
    assert data.thumbnail == "a.png"
    assert {"my-tag", "primal-dual-attention"} < set(data.tags)
    assert set(data.datasets) == {"some/data", "my/data"}


def test_row_31_a_persons_own_words_pass_the_check_and_survive_whatever_writes_the_card(folder):
    edited(folder)
    check(folder)
    results = load_results(folder / "results.json")
    assert_kept(write_card(folder).read_text())
    check(folder)
    results["settings"]["learning_rate"] = 0.5
    save_results(results, folder / "results.json")
    assert_kept(write_card(folder).read_text())
    parts = checkpoint("time-series-classification")
    save_checkpoint(folder, *parts, results, [folder / "learning_curves.png"])
    assert_kept((folder / "README.md").read_text())


@pytest.mark.parametrize("change", [("\n", "\r\n"), ("---\n", "\ufeff---\n")], ids=["windows", "mark"])
def test_row_31_what_an_editor_makes_of_a_file_loses_no_words(folder, change):
    (folder / "README.md").write_bytes(edited(folder).replace(*change, -1 if "\r" in change[1] else 1).encode())
    check_card(load_results(folder / "results.json"), (folder / "README.md").read_text())
    assert_kept(write_card(folder).read_text())


def test_row_31_a_section_that_is_there_twice_is_not_lost(folder):
    card, twice = edited(folder), "<!-- own words: notes -->\nOther words.\n<!-- end of own words -->\n"
    (folder / "README.md").write_text(card + twice)
    with pytest.raises(ValueError, match="has the section 'notes' more than once"):
        write_card(folder)
    assert (folder / "README.md").read_text() == card + twice


def test_row_31_what_is_published_has_a_persons_own_words(folder, tmp_path):
    edited(folder)
    (tmp_path / "place").mkdir()
    _addressed(sorted(folder.iterdir()), "me/model", tmp_path / "place")
    assert_kept((tmp_path / "place" / "README.md").read_text())
    assert 'model="me/model"' in (tmp_path / "place" / "README.md").read_text()


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
        ("thumbnail: a.png", "thumbnail: [", "are no YAML"),
    ],
)
def test_row_31_a_measured_part_that_is_edited_is_refused_by_its_name(old, new, part, folder):
    card = edited(folder)
    assert old in card
    (folder / "README.md").write_text(card.replace(old, new, 1))
    with pytest.raises(ValueError, match=part):
        check_card(load_results(folder / "results.json"), (folder / "README.md").read_text())


def test_row_31_metadata_that_the_results_no_longer_give_do_not_stay(folder):
    results = without(load_results(folder / "results.json"), ("co2_eq_emissions",))
    card = render_card({**results, "license": "mit"}, (folder / "README.md").read_text())
    assert ModelCard(card).data.license == "mit"
    assert "co2_eq_emissions" not in ModelCard(card).data.to_dict()


OTHERS = {"notes.md": b"a person's", "data/rows.csv": b"1,2", "own_model.py": b"x = 1", "model.onnx": b"onnx"}
STALE = "model-00001-of-00002.safetensors"


def test_row_30_publishing_keeps_the_other_files_of_a_repository_unless_told(folder, tmp_path):
    with LoopbackHub(tmp_path / "hub") as hub, Client(hub.endpoint, tmp_path / "home", xet=False) as client:
        client("api", method="create_repo", repo_id="tester/one")
        online = Path(shutil.copytree(folder, tmp_path / "online"))
        card = edited(online).encode()
        for name, content in {**OTHERS, STALE: b"weights of another time", "README.md": card}.items():
            (tmp_path / "other").write_bytes(content)
            arguments = {"path_or_fileobj": str(tmp_path / "other"), "path_in_repo": name, "repo_id": "tester/one"}
            client("api", method="upload_file", **arguments)
        commits = hub.count("POST", "/commit/")
        would = client("publish", folder=folder, repo_id="tester/one", dry_run=True)
        assert (sorted(would["kept"]), would["removed"]) == (sorted(OTHERS), [STALE])
        assert all(f"kept  {name}" in would["shown"] for name in OTHERS)
        assert hub.count("POST", "/commit/") == commits

        done = client("publish", folder=folder, repo_id="tester/one")
        assert (done["kept"], done["removed"]) == (would["kept"], would["removed"])
        assert hub.content("tester/one").items() >= OTHERS.items()
        assert STALE not in hub.content("tester/one")
        # What somebody wrote into the card on the Hub has stayed.
        assert_kept(hub.content("tester/one")["README.md"].decode())
        # The half of `publish` that comes after its check.
        gone = client("upload", folder=folder, repo_id="tester/one", delete_others=True)
        assert sorted(gone["removed"]) == sorted(OTHERS)
        assert set(hub.content("tester/one")) == {".gitattributes", *(path.name for path in folder.iterdir())}
        assert hub.unknown == []


def test_row_29_overwriting_removes_nobody_elses_runs(tmp_path):
    theirs = {"Nov26_host/events.out.tfevents.1": "events", "exp/checkpoint-5/model.safetensors": "theirs", "a": "b"}
    for name, text in theirs.items():
        (tmp_path / "runs" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "runs" / name).write_text(text)
    for name in ("softmax-0/begun.json", "bn-0/run.json"):
        (tmp_path / "runs" / name).parent.mkdir(parents=True)
        (tmp_path / "runs" / name).write_text("{}")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "run.json").write_text("{}")
    (tmp_path / "runs" / "linked").symlink_to(tmp_path / "elsewhere")
    claim_output_folder(tmp_path, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["Nov26_host", "a", "exp", "linked"]
    assert {name: (tmp_path / "runs" / name).read_text() for name in theirs} == theirs
    assert (tmp_path / "elsewhere" / "run.json").exists()


def test_row_29_runs_behind_a_link_are_nobody_known(tmp_path):
    (tmp_path / "other" / "bn-0").mkdir(parents=True)
    (tmp_path / "other" / "bn-0" / "run.json").write_text("{}")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "runs").symlink_to(tmp_path / "other")
    with pytest.raises(FileExistsError, match="is a link"):
        claim_output_folder(tmp_path / "out", overwrite=True)
    assert (tmp_path / "other" / "bn-0" / "run.json").exists()


def test_row_29_a_training_over_anothers_files_leaves_them_alone(tmp_path):
    out = tmp_path / "out"
    theirs = ("runs/Nov26_host/events.out.tfevents.1", "learning_curves.png", "notes.txt")
    for name in theirs:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("theirs")
    train(out, "--overwrite")
    assert all((out / name).read_text() == "theirs" for name in theirs)
    assert [path.name for path in (out / "runs").iterdir()] == ["Nov26_host"]
    # Ended, though there is a folder `runs`.
    assert train(out, "--resume_from_checkpoint") == next(out.glob("primal-dual-*"))
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "japanesevowels.json").write_text("{}")
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


def test_row_05_a_model_on_its_way_from_softmax_is_neither_saved_nor_published(folder):
    config, weights = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps({**config, "annealed": True}))
    for there in (999_999, 0):
        moved = {**weights, "model.layers.0.attention.annealing.millionths": torch.tensor(there)}
        save_file(moved, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(ValueError, match=r"still is softmax to .*annealing\.anneal\(model, 1\.0\)"):
            check_arrived(folder)
    with pytest.raises(ValueError, match="still is softmax to 100 %"):
        check(folder)
    model, extractor = checkpoint("time-series-classification")
    model.config.annealed, model.annealing = True, Annealing()
    model.annealing(5 / ARRIVED)
    results = load_results(folder / "results.json")
    with pytest.raises(ValueError, match=r"still is softmax to 100 % \(annealing\.millionths is 5 of 1000000\)"):
        save_checkpoint(folder.parent / "saved", model, extractor, results, [folder / "learning_curves.png"])
    assert not (folder.parent / "saved").exists()
    moved["model.layers.0.attention.annealing.millionths"] = torch.tensor(1_000_000)
    save_file(moved, folder / "model.safetensors", {"format": "pt"})
    check_arrived(folder)
    (folder / "config.json").write_text(json.dumps({**config, "annealed": False}))
    check_arrived(folder)
