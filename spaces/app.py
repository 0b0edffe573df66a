"""A Space: softmax attention and Attention-BN+SH side by side, on a series, an image or a text."""

import functools

import gradio as gr
import pandas as pd
import torch
from inputs import as_curve, as_digit, as_series, as_text, load_digits, load_series, load_texts, read_csv
from side_by_side import ATTENTIONS, Pair

# Models this small are fastest on one thread.
torch.set_num_threads(1)

SERIES, IMAGES, TEXTS = (Pair(kind) for kind in ("series", "images", "texts"))
EXAMPLES = load_series()
RANGES = pd.concat(EXAMPLES.values()).agg(["min", "max"])

INTRODUCTION = """
# Two attentions, side by side

*Attention-BN+SH* of [A Primal-Dual Framework for Transformers](https://arxiv.org/abs/2406.13781) (ICLR 2023)
normalizes queries and keys, and lets some heads see averages of several keys. Here it stands next to softmax
attention, in models of the same size that were trained alike: what both predict, where each head looks, which keys are
support vectors of the regression that a head solves, and what a prediction costs, at the input's length and at ten
times it.
"""


def told(function):
    """The function, whose `ValueError` the page shows as a sentence."""

    @functools.wraps(function)
    def call(*args):
        try:
            return function(*args)
        except ValueError as error:
            raise gr.Error(str(error), duration=None, print_exception=False) from error

    return call


# What somebody gave, as the models take it: the inputs, a title, and what is drawn.


def series_example(table):
    values = as_series(table, SERIES.config.num_channels, SERIES.config.max_position_embeddings)
    return SERIES.processor(values, return_tensors="pt"), f"{len(values)} steps", {"series": torch.tensor(values)}


def with_curve(table, channel, drawing):
    """The table with a channel as it was drawn, between the least and the largest value of the test series."""
    if channel not in table:
        raise ValueError(f"The series has no channel {channel}: choose a test series first.")
    return table.assign(**{channel: as_curve(drawing["composite"], len(table), *RANGES[channel]).round(3)})


def image_example(path):
    inputs = IMAGES.processor(as_digit(path), return_tensors="pt")
    return inputs, "the image", {"pixels": inputs["pixel_values"][0]}


def text_example(text):
    limit = TEXTS.config.max_position_embeddings
    inputs = TEXTS.processor(as_text(text), truncation=True, max_length=limit, return_tensors="pt")
    tokens = TEXTS.processor.convert_ids_to_tokens(inputs["input_ids"][0].tolist())
    return inputs, f"{len(tokens)} bytes", {"tokens": tokens}


def predict(pair, example, given):
    """The values of `results`, in their order."""
    inputs, title, drawn = example(given)
    shown = pair.show(inputs, title, **drawn)
    return [part for each in shown for part in (each.scores, each.attention, each.duals, each.support)]


def measure(pair, example, given):
    """A table of what both cost."""
    rows = [
        f"| {row['tokens']} | `{row['attention']}` | {row['flops'] / 1e6:,.1f} M | {row['milliseconds']:.2f} ms "
        f"| {row['ratio']:.2f} |"
        for row in pair.costs(example(given)[0])
    ]
    return "\n".join(
        [
            "| tokens | attention | FLOPs | time | time / softmax's |",
            "|---:|---|---:|---:|---:|",
            *rows,
            "",
            "One prediction on one thread of this machine, medians of seven, timed in turn. Models for ten times the "
            "length have random weights: the cost does not depend on them.",
        ]
    )


def results(kind):
    """The places of what is shown of both models, and that of the costs."""
    places = []
    with gr.Row():
        for name, place in ATTENTIONS.items():
            with gr.Column(min_width=480):
                gr.Markdown(f"### `{name}`")
                here = f"{kind}-{place}"
                places.append(gr.Label(label="prediction", num_top_classes=3, elem_id=f"{here}-scores"))
                # A plot's own label would cover its title.
                gr.Markdown("**Where each head looks**")
                places.append(gr.Plot(show_label=False, format="png", elem_id=f"{here}-attention"))
                gr.Markdown("**Which keys are support vectors**")
                places.append(gr.Plot(show_label=False, format="png", elem_id=f"{here}-duals"))
                places.append(gr.Markdown(elem_id=f"{here}-support"))
    gr.Markdown("### What a prediction costs")
    return places, gr.Markdown("Measured after a prediction.", elem_id=f"{kind}-costs")


def connect(kind, wish, given, pair, example):
    """A button, after which both models run and then are timed; one at a time on the whole page."""
    button = gr.Button(wish, variant="primary")
    places, costs = results(kind)
    alone = {"concurrency_id": "models", "concurrency_limit": 1}
    # Where progress is shown, a refusal would hide what was predicted before.
    predicted = button.click(
        told(functools.partial(predict, pair, example)), given, places, show_progress="hidden", **alone
    )
    predicted.success(told(functools.partial(measure, pair, example)), given, costs, **alone)


def sketchpad(size, width, place):
    return gr.Sketchpad(
        type="pil",
        show_label=False,
        canvas_size=size,
        layers=False,
        brush=gr.Brush(default_size=width, colors=["#000000"]),
        elem_id=place,
    )


def series_tab():
    gr.Markdown(
        "JapaneseVowels: nine speakers say a vowel; 12 channels are its spectrum over time. Choose a test series, "
        f"draw a channel of it, change its cells, or bring a CSV file of your own. {SERIES.origin}"
    )
    first = next(iter(EXAMPLES))
    with gr.Row():
        choice = gr.Dropdown(list(EXAMPLES), value=first, label="test series")
        file = gr.UploadButton("or a CSV file: the names of 12 channels, then a line a step", file_types=[".csv"])
    table = gr.Dataframe(
        EXAMPLES[first], label="the series, a row a step", interactive=True, max_height=260, elem_id="series-table"
    )
    with gr.Accordion("Draw a channel: choose it, then click on the brush", open=False):
        channel = gr.Dropdown(list(RANGES), label="channel, drawn from the first step on the left to the last")
        drawing = sketchpad((560, 160), 6, "series-drawn")
        gr.Button("Take the curve").click(told(with_curve), [table, channel, drawing], table)
    choice.change(EXAMPLES.get, choice, table)
    file.upload(told(read_csv), file, table)
    connect("series", "Predict the speaker", table, SERIES, series_example)


def image_tab():
    gr.Markdown(
        "scikit-learn's handwritten digits. Choose a test image, draw a digit, or drop a picture of one: it is cut "
        f"out and made as coarse as the training images, 8 x 8 pixels. {IMAGES.origin}"
    )
    with gr.Row():
        image = gr.Image(
            label="a digit", type="filepath", sources=["upload", "clipboard"], height=240, elem_id="images-given"
        )
        gr.Examples(load_digits(), image, label="test images", examples_per_page=20)
    with gr.Accordion("Draw a digit: click on the brush first", open=False):
        drawing = sketchpad((280, 280), 24, "images-drawn")
        gr.Button("Take the drawing").click(lambda drawn: drawn["composite"], drawing, image)
    connect("images", "Predict the digit", image, IMAGES, image_example)


def text_tab():
    gr.Markdown(
        "Posts of two groups of 20 Newsgroups, on hockey and on medicine, read as bytes. Write a few sentences; they "
        f"are cut after {TEXTS.config.max_position_embeddings} bytes. {TEXTS.origin}"
    )
    text = gr.Textbox(lines=4, label="a text", elem_id="texts-given")
    gr.Examples(load_texts(), text, label="texts")
    connect("texts", "Predict the group", text, TEXTS, text_example)


def page() -> gr.Blocks:
    """The page, a tab for each kind of input."""
    with gr.Blocks(title="Primal-dual attention", analytics_enabled=False) as blocks:
        gr.Markdown(INTRODUCTION)
        for name, fill in (("A series", series_tab), ("An image", image_tab), ("A text", text_tab)):
            with gr.Tab(name):
                fill()
    return blocks


if __name__ == "__main__":
    # Fonts of the system: others would be downloaded.
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    page().launch(theme=theme, ssr_mode=False)
