"""The console script: what it lists, how it refuses, and that a wheel has it."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from hf_primaldual.commands import COMMANDS, main, run
from hf_primaldual.hub.card import render_card
from hf_primaldual.hub.results import save_results
from tests.hub.tables import table
from tests.scripts import load_script

ROOT = Path(__file__).parents[2]


def ended(call, *args) -> int:
    with pytest.raises(SystemExit) as end:
        call(*args)
    return end.value.code


def test_the_commands_are_listed_with_what_they_do(capsys):
    main([])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ")] == list(COMMANDS)
    assert ended(main, ["trian-text"]) == 2
    assert "the nearest is train-text" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_our_flags_before_trainers(command, capsys):
    assert ended(main, [command, "--help"]) == 0
    told = capsys.readouterr().out
    assert told.startswith(f"usage: hf-primaldual {command} ")
    if command.startswith("train-"):
        groups = re.split(r"\n\n(?=\S.*:\n)", told)
        # Usage, -h, data, model, training and what is Trainer's alone.
        assert groups[-1].startswith("Trainer's own flags")
        ours, trainers = "".join(groups[:-1]), groups[-1]
        assert {"--attention ", "--seeds ", "--learning_rate "} <= set(re.findall(r"--\w+ ", ours))
        assert {"--adam_beta1 ", "--torch_compile "} <= set(re.findall(r"--\w+ ", trainers))
        assert not set(re.findall(r"^  --\w+", ours, re.M)) & set(re.findall(r"^  --\w+", trainers, re.M))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["train-series", "--train_file", "no.csv", "--test_file", "none.csv"],
            "`train_file` no.csv and none `test_file`",
        ),
        (["train-series", "--seeds", "x"], "argument --seeds: invalid int value: 'x'"),
        (["train-series", "--hiden_size", "3"], r"the nearest known is hidden_size"),
        (["train-series", "--dataset", "BasicMotions", "--head_scales", "1", "2"], "`head_scales`"),
        (["train-text"], "one of `task`, `dataset` and `train_file` must be given"),
        (["measure", "--compare", "x"], "`compare` must name two files"),
        (["publish", "folder"], "the following arguments are required: repo_id"),
        (["card", "folder"], "No such file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_is_wrong_is_one_sentence(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ended(main, argv) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "error" in line]
    assert re.match(rf"hf-primaldual {argv[0]}: error: .*{message}", line)


def test_the_traceback_comes_with_debug_and_from_the_scripts_too(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["scripts/publish.py", "folder", "name"])
    publish = load_script("publish").main
    assert ended(run, publish) == 2
    assert capsys.readouterr().err == "publish.py: error: `repo_id` must be owner/name, got 'name'\n"
    assert ended(run, publish, ["--debug", "folder", "name"]) == 2
    assert "Traceback" in capsys.readouterr().err
    # Trainer has a flag of this name, with a value.
    seen = []
    run(seen.append, ["--debug", "underflow_overflow", "--debug"])
    assert seen == [["--debug", "underflow_overflow"]]


def test_a_fault_of_ours_is_not_made_a_sentence():
    with pytest.raises(KeyError):
        run(lambda argv: {}["x"], [])


def test_a_card_is_written_again_with_the_words_of_a_person(tmp_path):
    results = {name: value for name, value in table().items() if name != "plots"}
    save_results(results, tmp_path / "results.json")
    words = render_card(results).replace("Not stated.", "For watches.", 1)
    (tmp_path / "README.md").write_text(words.replace("## Results", "## Lost"))
    main(["card", str(tmp_path)])
    assert (tmp_path / "README.md").read_text() == words


@pytest.mark.slow
def test_a_wheel_has_the_commands_and_needs_no_file_of_the_repository(tmp_path):
    # Built from a copy: setuptools leaves a folder behind, from which a later wheel would take what is no more.
    source = tmp_path / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path, source], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env")
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([*pip, "--python", python, "install", "-q", "--no-deps", wheel], check=True)
    # What it depends on is installed here. This package, which is editable here, is not seen from there.
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def ran(*words) -> str:
        return subprocess.run(words, cwd=tmp_path, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout

    command = python.with_name("hf-primaldual")
    assert str(site) in ran(python, "-c", "import hf_primaldual; print(hf_primaldual.__file__)")
    assert ran(command, "--help") == ran(python, "-m", "hf_primaldual")
    rows = [f"{series},{step},{series % 2},{series % 2 + step / 9}" for series in range(40) for step in range(8)]
    (tmp_path / "waves.csv").write_text("\n".join(["id,time,label,x", *rows]))
    flags = "--train_file waves.csv --id_column id --time_column time --test_share 0.25 --attention bn --seeds 0 "
    flags += "--num_train_epochs 1 --hidden_size 16 --intermediate_size 16 --num_hidden_layers 1 --output_dir out "
    flags += "--efficiency_tokens 8 --model_license mit"
    ran(command, "train-series", *flags.split())
    folder = tmp_path / "out" / "primal-dual-waves-bn"
    card = (folder / "README.md").read_text()
    assert f"\nhf-primaldual train-series {flags}\n" in card
    ran(command, "card", folder)
    assert (folder / "README.md").read_text() == card
    assert "model.safetensors" in ran(command, "publish", folder, "me/waves", "--dry_run")
    assert "FLOPs" in ran(command, "measure", "--model", folder, "--tokens", "8", "--rounds", "1")
