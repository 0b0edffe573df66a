"""What pictures show: colours that tell attentions apart, bars that end where values do, and what is missing said."""

import numpy as np
import pytest
from PIL import Image
from transformers import ByT5Tokenizer

from hf_primaldual import (
    PRESETS,
    PrimalDualTextConfig,
    PrimalDualTextForDocumentMatching,
    PrimalDualTimeSeriesConfig,
    PrimalDualTimeSeriesFeatureExtractor,
    PrimalDualTimeSeriesForSequenceClassification,
)
from hf_primaldual.hub.curves import plot_learning_curves
from hf_primaldual.measure.figures import plot_figure
from hf_primaldual.measure.plots import plot_pareto
from hf_primaldual.modeling.extensions_primal_dual import EXTENSIONS
from hf_primaldual.pictures import styles_of
from hf_primaldual.theory import PrimalLayer
from tests.hub.tables import table, without
from tests.scripts import load_script
from tests.theory.whitening import Whitening


def texts_of(figure) -> list[str]:
    return [text.get_text() for panel in figure.axes for text in panel.texts]


def test_no_two_attentions_have_one_colour_and_a_preset_keeps_its_own():
    names = [*reversed(PRESETS), *(f"my_file.Transform{index}" for index in range(20))]
    styles = styles_of(names)
    assert len({style["color"] for style in styles.values()}) == len(names)
    for name, style in styles_of(["sh", "other", "softmax"]).items():
        assert name == "other" or style == styles[name]


def test_bars_of_accuracies_end_at_100_percent_and_the_legend_says_what_they_are():
    results = table()
    results["summary"]["bn+sh"] |= {"test_accuracy_mean": 0.99, "test_accuracy_std": 0.05}
    figure = plot_pareto(results)
    ends = [segment[:, 1] for bar in figure.axes[0].collections for segment in bar.get_segments()]
    assert max(end.max() for end in ends) == pytest.approx(100)
    assert min(end.min() for end in ends) == pytest.approx(94)
    assert "± deviation over seeds" in [text.get_text() for text in figure.legends[0].get_texts()]
    for axis in (panel.xaxis for panel in figure.axes):
        figure.canvas.draw()
        assert not any("$" in label.get_text() for label in axis.get_ticklabels(which="both"))
    with pytest.raises(ValueError, match="`efficiency` is empty"):
        plot_pareto({**results, "efficiency": []})


def test_what_was_not_measured_is_said_in_the_picture(tmp_path):
    rows = [
        {
            "attention": "bn+sh",
            "attn_implementation": "sdpa",
            "width": width,
            "tokens": tokens,
            "ratio": {"flops": 0.5},
        }
        for width, tokens in ((64, 512), (128, 512), (64, 1024), (128, 1024))
    ]
    for row, time in zip(rows, (0.9, None, None, None), strict=True):
        row["ratio"] |= {"memory": 0.6} | ({} if time is None else {"time": time})
    results = {"rows": rows, "hardware": {"processor": "one", "threads": 1}, "versions": {"torch": "2"}}
    assert texts_of(plot_figure(1, results)) == ["not measured:\nwidth 128", "not measured"]
    # One epoch, one seed, no accuracies: a point each, and a panel without.
    runs = [{"attention": "sh", "seed": 0, "history": [{"epoch": 1.0, "step": 5, "loss": 1.0, "eval_loss": 2.0}]}]
    plot_learning_curves(runs, ("sh",), tmp_path / "curves.svg", "data")
    drawn = (tmp_path / "curves.svg").read_text()
    for words in ("not measured", "data, 1 seed", "accuracy, %", "validation loss"):
        assert words in drawn
    assert "1 seeds" not in drawn


def saved(folder, **fields):
    config = PrimalDualTimeSeriesConfig(num_channels=2, num_labels=3, max_position_embeddings=30, **fields)
    PrimalDualTimeSeriesForSequenceClassification(config).save_pretrained(folder)
    PrimalDualTimeSeriesFeatureExtractor(feature_size=2).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize("script", ["show_attention", "show_dual_variables"])
def test_any_checkpoint_is_shown_on_any_input(script, tmp_path, monkeypatch, capsys):
    show, plot = load_script(script).main, tmp_path / "picture.png"
    own = PrimalLayer(transforms=(Whitening,), training_set="downsampled").fields()
    monkeypatch.delitem(EXTENSIONS, "whitening.Whitening")
    EXTENSIONS["whitening.Whitening"] = Whitening
    series, matching = saved(tmp_path / "series", **own), tmp_path / "matching"
    del EXTENSIONS["whitening.Whitening"]
    PrimalDualTextForDocumentMatching(PrimalDualTextConfig(max_position_embeddings=16)).save_pretrained(matching)
    ByT5Tokenizer().save_pretrained(matching)
    values = np.random.default_rng(0).normal(size=(20, 2))
    np.save(tmp_path / "one.npy", values)
    lines = [f"a,{step},{x},{y}" for step, (x, y) in enumerate(values)]
    (tmp_path / "long.csv").write_text("\n".join(["id,step,left,right", *lines]))
    (tmp_path / "story.txt").write_text("It cost $5, or $6.\n" * 5)

    to = ["--plot", str(plot), "--checkpoint"]
    with pytest.raises(
        ValueError, match=r"brings whitening\.Whitening in a file of its own.* --trust_remote_code true"
    ):
        show([*to, series, "--dataset", str(tmp_path / "one.npy")])
    trusted = [*to, series, "--trust_remote_code", "true", "--dataset"]
    for flags in (
        [*trusted, str(tmp_path / "one.npy"), "--rows_are", "steps"],
        [*trusted, str(tmp_path / "long.csv"), "--id_column", "id", "--time_column", "step"],
        [*to, str(matching), "--text", str(tmp_path / "story.txt")],
    ):
        plot.unlink(missing_ok=True)
        show(flags)
        assert Image.open(plot).size[0] > 300
    with pytest.raises(ValueError, match=r"`text` must be given for PrimalDualTextModel, got `dataset`"):
        show([*to, str(matching), "--dataset", "BasicMotions"])
    with pytest.raises(ValueError, match=r"`index` must be 0 to 0, one\.npy"):
        show([*trusted, str(tmp_path / "one.npy"), "--rows_are", "steps", "--index", "1"])


def test_a_table_without_a_deviation_has_bars_of_no_length():
    results = without(table(), ("plots",))
    for summary in results["summary"].values():
        summary |= {"test_accuracy_std": None, "seeds": 1}
    assert "1 seed;" in plot_pareto(results)._suptitle.get_text()
