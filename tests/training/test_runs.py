"""What is made of several runs; the output folder is in tests/faults/test_publishing.py, row 29, too."""

import re
import statistics

import pytest

from hf_primaldual.training.runs import claim_output_folder, command_line, compare, format_table, release, summarize
from tests.hub.tables import table


def run(attention, seed, validation, test, loss=0.1):
    scores = {"validation_accuracy": validation, "validation_loss": loss, "test_accuracy": test}
    return {"attention": attention, "seed": seed, "released": False, **scores}


def over_seeds(**accuracies):
    """A run for each test accuracy of each attention, seeds from 0; the last first."""
    runs = [run(name, seed, 0.9, test) for name, own in accuracies.items() for seed, test in enumerate(own)]
    return runs[::-1]


@pytest.fixture
def runs():
    return [
        run("softmax", 1, 0.99, 0.80),
        run("softmax", 0, 0.99, 0.70),
        run("bn", 0, 0.95, 0.90),
        run("bn", 1, 0.95, 0.75, loss=0.05),
        run("sh", 0, 0.97, 0.99),
        run("sh", 1, 0.92, 0.99, loss=0.01),
    ]


def test_the_released_run_is_the_best_on_validation_never_on_test(runs):
    released = release(runs, ["sh", "bn"])
    # One seed of `sh` is the best of all; over its seeds `bn` is.
    assert (released["attention"], released["seed"], released["test_accuracy"]) == ("bn", 1, 0.75)
    assert [entry for entry in runs if entry["released"]] == [released]
    assert release(runs, ["sh"]) is runs[4]
    assert [entry["released"] for entry in runs] == [False] * 4 + [True, False]


def test_equal_attentions_are_told_apart_by_the_loss_and_then_by_their_order(runs):
    # The same mean of other fractions.
    runs[4]["validation_accuracy"], runs[5]["validation_accuracy"] = 0.97, 0.93
    assert release(runs, ["bn", "sh"])["attention"] == "sh"
    runs[5]["validation_loss"] = 0.05
    assert release(runs, ["bn", "sh"])["attention"] == "bn"
    assert release(runs, ["sh", "bn"])["attention"] == "sh"


def test_accuracies_are_paired_by_seed_and_p_values_adjusted_for_all_the_attentions_tested():
    # By hand: of three differences, two degrees of freedom, p = 1 - t / sqrt(t^2 + 2). Those of `bn` have mean 0.2
    # and deviation 0.01, so t = 20 sqrt 3; of `sh` 0.02 and 0.01, t = 2 sqrt 3; those of `linear` are equal, no test.
    softmax = (0.70, 0.60, 0.65)
    own = {"bn": (0.89, 0.80, 0.86), "sh": (0.71, 0.62, 0.68), "linear": (0.80, 0.70, 0.75)}
    comparisons = compare(over_seeds(softmax=softmax, **own), list(own), "softmax")
    bn, sh = (1 - t / (t**2 + 2) ** 0.5 for t in (20 * 3**0.5, 2 * 3**0.5))
    expected = {"bn": (bn, 2 * bn, True), "sh": (sh, sh, False), "linear": (None, None, False)}
    for name, (p_value, adjusted, significant) in expected.items():
        found, differences = comparisons[name], [a - b for a, b in zip(own[name], softmax, strict=True)]
        assert found["difference_mean"] == pytest.approx(statistics.fmean(differences))
        assert found["difference_std"] == pytest.approx(statistics.stdev(differences))
        assert (found["pairs"], found["significant"]) == (3, significant)
        assert (found["p_value"], found["p_value_adjusted"]) == pytest.approx((p_value, adjusted))


def test_significance_is_of_the_adjusted_p_value():
    # p = 0.0299 by itself: t = 4 sqrt 2 = 0.04 / (0.01 sqrt 1.5 / sqrt 3).
    step, softmax = 0.01 * 1.5**0.5, (0.50, 0.50, 0.50)
    own = {"bn": (0.54 - step, 0.54, 0.54 + step), "sh": (0.49, 0.50, 0.52)}
    assert compare(over_seeds(softmax=softmax, **own), ["bn"], "softmax")["bn"]["significant"] is True
    found = compare(over_seeds(softmax=softmax, **own), ["bn", "sh"], "softmax")
    assert found["bn"]["significant"] is False
    # The greater p-value is not adjusted to less than the smaller one.
    assert found["sh"]["p_value_adjusted"] == max(found["sh"]["p_value"], found["bn"]["p_value_adjusted"])


def test_one_seed_has_no_deviation_and_no_test():
    runs = over_seeds(softmax=[0.8], bn=[0.9])
    assert summarize(runs, "softmax")["test_accuracy_std"] is None
    comparison = compare(runs, ["bn"], "softmax")["bn"]
    assert (comparison["difference_std"], comparison["p_value"], comparison["significant"]) == (None, None, False)


@pytest.mark.parametrize("seeds", [[0, 2], [0, 1, 1]], ids=str)
def test_other_seeds_are_not_paired(seeds):
    runs = over_seeds(softmax=[0.8, 0.9]) + [run("bn", seed, 0.9, 0.8) for seed in seeds]
    message = f"every seed once for 'bn' and for 'softmax', got {seeds} and [0, 1]"
    with pytest.raises(ValueError, match=re.escape(message)):
        compare(runs, ["bn"], "softmax")


def test_the_terminal_shows_every_attention_of_the_table():
    rows = [re.split(r"\s{2,}", line.strip()) for line in format_table(table()).splitlines()[2:]]
    # Each row of a name is followed by that of another number of tokens.
    assert [row[0] for row in rows[::2]] == ["softmax", "bn", "bn+sh, released", "sh"]
    assert rows[2][1:5] == ["2", "95.20 % 0.14", "-2.55", "0.008"]
    assert "no test" in rows[6]


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
