"""The output folder, and what is made of several runs."""

import os
import statistics

import pytest

from hf_primaldual.training.runs import claim_output_folder, command_line, compare, release, summarize


def run(attention, seed, validation, test, loss=0.1):
    return {
        "attention": attention,
        "seed": seed,
        "validation_accuracy": validation,
        "validation_loss": loss,
        "test_accuracy": test,
        "released": False,
    }


RUNS = [
    run("softmax", 1, 0.90, 0.80),
    run("softmax", 0, 0.91, 0.70),
    run("bn", 0, 0.95, 0.90),
    run("bn", 1, 0.95, 0.75, loss=0.05),
]


def test_the_released_run_is_the_best_on_validation_never_on_test():
    released = release(RUNS, "bn")
    assert (released["seed"], released["test_accuracy"]) == (1, 0.75)
    assert [entry["released"] for entry in RUNS] == [False, False, False, True]


def test_runs_are_paired_by_seed_whatever_their_order():
    differences = [0.90 - 0.70, 0.75 - 0.80]
    comparison = compare(RUNS, "bn", "softmax")
    assert comparison["difference_mean"] == pytest.approx(statistics.fmean(differences))
    assert comparison["difference_std"] == pytest.approx(statistics.stdev(differences))
    assert comparison["pairs"] == 2


def test_one_seed_has_no_deviation():
    assert summarize(RUNS[:1], "softmax")["test_accuracy_std"] is None


def test_an_output_folder_of_another_run_is_refused_and_left_alone(tmp_path):
    (tmp_path / "results.json").write_text("kept")
    with pytest.raises(FileExistsError, match="--overwrite"):
        claim_output_folder(tmp_path, overwrite=False)
    assert (tmp_path / "results.json").read_text() == "kept"


def test_overwriting_keeps_a_finished_checkpoint_until_there_is_a_new_one(tmp_path):
    (tmp_path / "runs" / "bn-0").mkdir(parents=True)
    (tmp_path / "model").mkdir()
    claim_output_folder(tmp_path, overwrite=True)
    assert sorted(os.listdir(tmp_path)) == ["model"]


def test_a_file_in_the_place_of_the_folder_is_refused(tmp_path):
    file = tmp_path / "out"
    file.write_text("a file")
    with pytest.raises(NotADirectoryError, match="is a file"):
        claim_output_folder(file, overwrite=True)


def test_a_folder_without_write_permission_is_refused(tmp_path, monkeypatch):
    # The tests may run as root, whom permissions do not stop.
    def refuse(*args, **kwargs):
        raise PermissionError("denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(PermissionError, match="cannot be written to"):
        claim_output_folder(tmp_path / "new", overwrite=False)


def test_the_command_is_quoted_as_a_shell_takes_it(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/scripts/run.py", "--dataset", "two words"])
    assert command_line() == "python scripts/run.py --dataset 'two words'"
