"""What is made of several runs: the committed results once more, and what none of them has."""

import json
import re
from pathlib import Path

import pytest

from hf_primaldual.hub.summary import compare, release, summarize
from hf_primaldual.training.runs import claim_output_folder, command_line

RESULTS = sorted((Path(__file__).parents[2] / "results" / "training").glob("*.json"))


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_the_released_run_and_the_tests_of_the_committed_results_follow_from_their_runs(path):
    # Among them are ties, and attentions that only the adjusted p-value, or only validation, tells from the best.
    results = json.loads(path.read_text(encoding="utf-8"))
    runs, attentions, baseline = results["runs"][::-1], results["attentions"], results["baseline"]
    for name in (baseline, *attentions):
        assert summarize(runs, name) == pytest.approx(results["summary"][name])
    for name, comparison in compare(runs, attentions, baseline).items():
        assert comparison == pytest.approx(results["comparisons"][name])
    again = [{**run, "released": None} for run in runs]
    assert release(again, attentions, results["task"])["attention"] == results["attention"]
    assert again == runs


def run(attention, seed, validation, test, loss=0.1):
    scores = {"validation_accuracy": validation, "validation_loss": loss, "test_accuracy": test}
    return {"attention": attention, "seed": seed, "released": False, **scores}


def test_equal_attentions_are_told_apart_by_the_loss_and_then_by_their_order():
    # The same mean of other fractions.
    runs = [run("bn", 0, 0.95, 0.9), run("bn", 1, 0.95, 0.8), run("sh", 0, 0.97, 0.7), run("sh", 1, 0.93, 0.6, loss=0)]
    assert release(runs, ["bn", "sh"], "text-classification")["attention"] == "sh"
    runs[3]["validation_loss"] = 0.1
    assert release(runs, ["bn", "sh"], "text-classification")["attention"] == "bn"
    assert release(runs, ["sh", "bn"], "text-classification")["attention"] == "sh"
    # Of a language model the loss alone counts, of attentions and of their runs.
    runs[1]["validation_loss"] = 0
    best = release(runs, ["sh", "bn"], "text-generation")
    assert (best["attention"], best["seed"]) == ("bn", 1)


def test_without_variance_there_is_no_test():
    one = [run("softmax", 0, 0.9, 0.8), run("bn", 0, 0.9, 0.9)]
    assert summarize(one, "softmax")["test_accuracy_std"] is None
    found = compare(one, ["bn"], "softmax")["bn"]
    assert (found["difference_std"], found["p_value"], found["significant"]) == (None, None, False)
    alike = [*one, run("softmax", 1, 0.9, 0.7), run("bn", 1, 0.9, 0.8)]
    assert compare(alike, ["bn"], "softmax")["bn"]["p_value"] is None


@pytest.mark.parametrize("seeds", [[0, 2], [0, 1, 1]], ids=str)
def test_other_seeds_are_not_paired(seeds):
    runs = [run("softmax", seed, 0.9, 0.8) for seed in (0, 1)] + [run("bn", seed, 0.9, 0.8) for seed in seeds]
    message = f"every seed once for 'bn' and for 'softmax', got {seeds} and [0, 1]"
    with pytest.raises(ValueError, match=re.escape(message)):
        compare(runs, ["bn"], "softmax")


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path, monkeypatch):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(NotADirectoryError, match="is a file"):
        claim_output_folder(tmp_path / "out", overwrite=True)

    # The tests may run as root, whom permissions do not stop.
    def refuse(*args, **kwargs):
        raise PermissionError("denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    with pytest.raises(PermissionError, match="cannot be written to"):
        claim_output_folder(tmp_path / "new", overwrite=False)


def test_the_command_is_quoted_as_a_shell_takes_it(monkeypatch):
    monkeypatch.setattr("sys.argv", ["/somewhere/scripts/run.py", "--dataset", "two words", "--hub_token", "hf_x"])
    assert command_line() == "python scripts/run.py --dataset 'two words'"
