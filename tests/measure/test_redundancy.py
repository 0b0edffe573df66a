"""Redundancy of heads against naive loops, on padded rows with heads that see different keys; and maps as pictures."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import ViTImageProcessor

from hf_primaldual import (
    PrimalDualAttention,
    PrimalDualConfig,
    PrimalDualTimeSeriesConfig,
    PrimalDualTimeSeriesFeatureExtractor,
    PrimalDualTimeSeriesForSequenceClassification,
)
from hf_primaldual.measure import head_redundancy, maps_over_tokens, mean_redundancy
from hf_primaldual.measure.attention_maps import attention_maps, seen_from
from tests.modeling import texts
from tests.modeling.images import image_batch, small_model
from tests.scripts import load_script

TOKENS = 11


def padded_batches():
    for length in (TOKENS, 7):
        mask = torch.ones(2, TOKENS, dtype=torch.long)
        mask[1, length - 3 :] = 0
        yield {"input_ids": torch.randint(texts.TOKENS, (2, TOKENS)), "attention_mask": mask, "labels": torch.zeros(2)}


def window_of(token, scale, real):
    """The valid tokens that are pooled with this one."""
    start = token // scale * scale
    return [other for other in range(start, min(start + scale, TOKENS)) if real[other]]


def naive(model, batches, scales):
    """Every measure of the first layer in loops over tokens and pairs, from its inputs alone."""
    layer, outputs, maps = model.layers[0].self_attn, [[] for _ in scales], [[] for _ in scales]
    for batch in batches:
        for ids, real in zip(batch["input_ids"], batch["attention_mask"].bool(), strict=True):
            seen = {}
            hook = layer.o_proj.register_forward_pre_hook(lambda module, args, seen=seen: seen.update(states=args[0]))
            with torch.no_grad():
                attentions = model(ids[None], real[None].long(), output_attentions=True).attentions[0]
            hook.remove()
            for head, scale in enumerate(scales):
                for token in real.nonzero().flatten().tolist():
                    outputs[head].append(seen["states"][0, token, 4 * head : 4 * head + 4].double())
                    row = torch.zeros(TOKENS, dtype=torch.float64)
                    for key in real.nonzero().flatten().tolist():
                        weights = attentions[head][0] if isinstance(attentions, tuple) else attentions[0, head]
                        row[key] = weights[token, key // scale] / len(window_of(key, scale, real))
                    maps[head].append(row)
    distance, map_distance, cosine, cka = torch.zeros(4, 4, 4, dtype=torch.float64)
    for i in range(4):
        for j in range(4):
            pairs = list(zip(outputs[i], outputs[j], strict=True))
            distance[i, j] = sum((a - b).norm() for a, b in pairs) / len(pairs)
            cosine[i, j] = sum(a @ b / a.norm() / b.norm() for a, b in pairs) / len(pairs)
            map_distance[i, j] = sum((a - b).norm() for a, b in zip(maps[i], maps[j], strict=True)) / len(pairs)
            x, y = (torch.stack(outputs[head]) - torch.stack(outputs[head]).mean(0) for head in (i, j))
            cka[i, j] = (y.T @ x).norm() ** 2 / (x.T @ x).norm() / (y.T @ y).norm()
    return distance, map_distance, cosine, cka


@pytest.mark.parametrize(
    ("fields", "scales"),
    [({"attention": "softmax"}, [1] * 4), ({"attention": "bn+sh", "head_scales": [3, 1, 20, 2]}, [3, 1, 20, 2])],
    ids=["softmax", "bn+sh"],
)
def test_every_measure_is_that_of_naive_loops(fields, scales):
    model, batches = texts.small_model(initializer_range=0.5, **fields).model.train(), list(padded_batches())
    layers = head_redundancy(model, batches)
    assert model.training
    assert len(layers) == 2
    for found, expected in zip(layers[0], naive(model.eval(), batches, scales), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    means = [layer.output_distance[*torch.triu_indices(4, 4, offset=1)].mean() for layer in layers]
    assert mean_redundancy(layers)["output_distance"] == pytest.approx(sum(means).item() / 2)


@pytest.mark.parametrize(
    "fields",
    [
        {"attention": "sh", "head_points": [2, 3, 5, 30]},
        {"attention": "sh", "sampling": "stride"},
        {"attention": "sparse-sh", "sparse_window": 4, "sparse_stride": 3},
        {"attention": "sh", "grid_size": [2, 5], "num_prefix_tokens": 1},
    ],
    ids=["points", "stride", "sparse", "grid"],
)
def test_maps_over_tokens_sum_to_one_and_keep_the_weight_of_every_window(fields):
    layer = PrimalDualAttention(PrimalDualConfig(hidden_size=16, num_attention_heads=4, **fields))
    maps = layer(torch.randn(2, TOKENS, 16), output_attentions=True)[1]
    spread = maps_over_tokens(layer, maps)
    assert spread.shape == (2, 4, TOKENS, TOKENS)
    torch.testing.assert_close(spread.sum(dim=-1), torch.ones(2, 4, TOKENS))
    plain = [head for head in range(4) if maps[head].shape[-1] == TOKENS]
    assert plain
    for head in plain:
        torch.testing.assert_close(spread[:, head], maps[head])


@pytest.mark.slow
def test_the_script_trains_measures_and_draws(tmp_path):
    flags = ["--dataset", "BasicMotions", "--seeds", "0", "1", "--num_train_epochs", "1", "--hidden_size", "16"]
    flags += ["--intermediate_size", "16", "--num_hidden_layers", "1", "--disable_tqdm", "true", "--threads", "1"]
    flags += ["--output_dir", str(tmp_path / "out"), "--results_dir", str(tmp_path / "results")]
    results = json.loads(load_script("measure_redundancy").main(flags).read_text())
    rows = [(row["attention"], row["seed"]) for row in results["rows"]]
    assert rows == [("softmax", 0), ("softmax", 1), ("bn+sh", 0), ("bn+sh", 1)]
    distances = [row["output_distance"] for row in results["rows"][2:]]
    summary = results["summary"]["bn+sh"]
    assert summary["output_distance_mean"] == pytest.approx(sum(distances) / 2)
    assert summary["output_distance_std"] == pytest.approx(abs(distances[0] - distances[1]) / 2**0.5)
    for ending in ("png", "svg"):
        assert (tmp_path / "results" / f"redundancy-basicmotions.{ending}").stat().st_size > 1000


def test_windows_of_patches_have_one_weight_each():
    first, _ = attention_maps(small_model(head_scales=[1, 2, 1, 2]), {"pixel_values": image_batch(1)["pixel_values"]})
    assert first.keys == (26, 10, 26, 10)
    patches = seen_from(first, 0)[:, 1:].unflatten(1, (5, 5))
    torch.testing.assert_close(seen_from(first, None).sum(dim=1), torch.ones(4))
    windows = patches[1, :4, :4].unfold(0, 2, 2).unfold(1, 2, 2).flatten(2)
    torch.testing.assert_close(windows, windows[..., :1].expand_as(windows))
    assert not torch.allclose(patches[0, 0, 0], patches[0, 0, 1])


def test_maps_of_an_image_and_of_a_real_series_are_drawn(tmp_path):
    script, image, series = load_script("show_attention"), tmp_path / "image", tmp_path / "series"
    small_model().save_pretrained(image)
    ViTImageProcessor(size={"height": 40, "width": 40}).save_pretrained(image)
    photo, plot = tmp_path / "photo.png", tmp_path / "attention.png"
    Image.fromarray(np.arange(24 * 24 * 3, dtype=np.uint8).reshape(24, 24, 3)).save(photo)
    script.main(["--checkpoint", str(image), "--image", str(photo), "--plot", str(plot)])
    assert Image.open(plot).size[0] > 300

    config = PrimalDualTimeSeriesConfig(num_channels=12, num_labels=9, max_position_embeddings=29, attention="sh")
    PrimalDualTimeSeriesForSequenceClassification(config).save_pretrained(series)
    PrimalDualTimeSeriesFeatureExtractor(feature_size=12).save_pretrained(series)
    plot = tmp_path / "attention.svg"
    flags = ["--dataset", "JapaneseVowels", "--index", "3", "--query", "2", "--plot", str(plot)]
    script.main(["--checkpoint", str(series), *flags])
    assert "series 3 of JapaneseVowels, sh" in plot.read_text()
