"""
Two models of one task, with softmax attention and with Attention-BN+SH, and what the page shows of them: predictions,
where the heads look, support vectors, costs. It knows nothing of the page.
"""

import copy
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from matplotlib.figure import Figure
from transformers import AutoFeatureExtractor, AutoImageProcessor, AutoTokenizer

from hf_primaldual.measure import attention_maps, load_model, measure_together
from hf_primaldual.measure.plots import plot_image_attention, plot_sequence_attention
from hf_primaldual.theory import DualVariables, dual_variables, plot_dual_variables

HERE = Path(__file__).parent
# The folder of each attention's model.
ATTENTIONS = {"softmax": "softmax", "bn+sh": "bn-sh"}
# A support vector has at least this share of its head's largest coefficient.
TOLERANCE = 0.1
_PROCESSORS = {"series": AutoFeatureExtractor, "images": AutoImageProcessor, "texts": AutoTokenizer}
# The main input of each kind of model, and how often it is repeated along each axis to be ten times as long.
_TEN_TIMES = {"past_values": (1, 10, 1), "pixel_values": (1, 1, 2, 5), "input_ids": (1, 10)}


class Shown(NamedTuple):
    """What is shown of one model: the share of each class, two pictures, and a sentence on support vectors."""

    scores: dict[str, float]
    attention: Figure
    duals: Figure
    support: str


class Pair:
    """
    The two models of one kind of input, as `scripts/build_space.py` leaves them.

    Args:
        kind (`str`): `"series"`, `"images"` or `"texts"`.
    """

    def __init__(self, kind: str):
        folder = HERE / "models" / kind
        self.models = {name: load_model(folder / place) for name, place in ATTENTIONS.items()}
        self.processor = _PROCESSORS[kind].from_pretrained(folder)
        self.trained = json.loads((folder / "trained.json").read_text(encoding="utf-8"))
        self.config = self.models["softmax"].config

    @cached_property
    def origin(self) -> str:
        """What the models were trained on, and how often they are right."""
        about, shares = self.trained, self.trained["test_accuracy"]
        right = ", ".join(f"`{name}` {100 * share:.1f} %" for name, share in shares.items())
        return f"Trained on {about['train']} examples, one seed. Right on {about['test']} test examples: {right}."

    def show(self, inputs: Mapping[str, torch.Tensor], title: str, **drawn: Any) -> list[Shown]:
        """
        Runs both models on one example.

        Args:
            inputs (mapping): What the processor makes of it, a batch of one.
            title (`str`): What it is called.
            drawn: `series`, the values `(time, channels)`; `tokens` of a text, by name; or `pixels` of an image
                `(channels, height, width)`.
        """
        return [self._show(name, inputs, f"{title}, {name}", **drawn) for name in self.models]

    def _show(
        self,
        name: str,
        inputs: Mapping[str, torch.Tensor],
        title: str,
        series: torch.Tensor | None = None,
        tokens: list[str] | None = None,
        pixels: torch.Tensor | None = None,
    ) -> Shown:
        model, config = self.models[name], self.models[name].config
        with torch.inference_mode():
            shares = model(**inputs).logits[0].softmax(dim=-1).tolist()
        maps, duals = attention_maps(model, inputs), dual_variables(model, inputs)
        if pixels is None:
            attention = plot_sequence_attention(maps, series, tokens, title=title)
        else:
            attention = plot_image_attention(maps, pixels, config.grid_size, config.num_prefix_tokens, title=title)
        # Half a page wide, where its letters would be too small.
        attention.set_size_inches(0.75 * attention.get_size_inches())
        scores = {config.id2label[place]: share for place, share in enumerate(shares)}
        return Shown(scores, attention, plot_dual_variables(duals, title=title), _support(duals))

    def costs(self, inputs: Mapping[str, torch.Tensor], rounds: int = 7) -> list[dict[str, Any]]:
        """
        What one prediction costs at the input's length, and at ten times it by models of random weights: a row for
        each length and attention with `tokens`, `attention`, `flops`, `milliseconds` and `ratio`, of the time to
        softmax's.
        """
        name = self.models["softmax"].main_input_name
        rows = []
        for times in (1, 10):
            main = inputs[name].repeat(_TEN_TIMES[name]) if times == 10 else inputs[name]
            models = {each: _longer(model, main) if times == 10 else model for each, model in self.models.items()}
            measured = measure_together(models, {name: main}, training=False, rounds=rounds)
            baseline = measured["softmax"]["inference_ms"]["median"]
            for attention, row in measured.items():
                median = row["inference_ms"]["median"]
                rows.append(
                    {
                        "tokens": _tokens(models[attention].config, main),
                        "attention": attention,
                        "flops": row["forward_flops"],
                        "milliseconds": median,
                        "ratio": median / baseline,
                    }
                )
        return rows


def _longer(model: torch.nn.Module, main: torch.Tensor) -> torch.nn.Module:
    """A model of the same configuration that takes an input of this length; its weights are random."""
    config = copy.deepcopy(model.config)
    if main.ndim == 4:
        config.image_size = list(main.shape[2:])
    else:
        config.max_position_embeddings = main.shape[1]
    return type(model)(config).eval()


def _tokens(config: Any, main: torch.Tensor) -> int:
    """How many tokens attend to each other; of an image its patches."""
    return config.grid_size[0] * config.grid_size[1] if main.ndim == 4 else main.shape[1]


def _support(layers: list[DualVariables]) -> str:
    """How many of the keys that the heads see are support vectors."""
    counts = [(int(layer.support_vectors(TOLERANCE).sum()), int(layer.mask.sum())) for layer in layers]
    told = "; ".join(f"layer {layer}: {some} of {all_of}" for layer, (some, all_of) in enumerate(counts))
    return (
        f"Support vectors, keys with at least {100 * TOLERANCE:.0f} % of their head's largest coefficient, over all "
        f"heads: {told}."
    )
