"""What pooling a head's keys does to a model's embeddings, and the factors that are chosen by it."""

import itertools

import pytest
import torch
from transformers import AttentionInterface, CLIPConfig, CLIPModel, ModernBertConfig, ModernBertModel

from hf_primaldual import apply, calibrate
from hf_primaldual.integration.calibration import choose, measure
from hf_primaldual.integration.embeddings import EMBEDDINGS, token_mask
from hf_primaldual.measure import count_flops
from tests.integration.families import FAMILIES, HEADS

FAMILY = {family.name: family for family in FAMILIES}
FACTORS = [1, 2, 4]


def built(name: str):
    return FAMILY[name].build().double()


def batch_of(name: str, padded: bool = False) -> dict:
    inputs = FAMILY[name].inputs(padded)
    return {key: value.double() if value.is_floating_point() else value for key, value in inputs.items()}


@pytest.mark.parametrize("embedding", EMBEDDINGS)
@pytest.mark.parametrize(("name", "padded"), [("BERT", True), ("ViT", False)])
def test_effects_are_the_derivatives_of_the_embeddings(name, padded, embedding):
    model, batch, embed = built(name), batch_of(name, padded), EMBEDDINGS[embedding]
    original = embed(model(**batch), batch).detach()
    apply(model, "sh")
    scales = torch.tensor([[1, 1, 1, 1], [1, 2, 1, 1]])
    effects, moved = measure(model, "primal_dual_sh", [batch], [original], embed, scales, FACTORS, 3, seed=0)
    assert effects.shape == (2, HEADS, len(FACTORS), 3 * len(original))
    drawn = torch.randn(3, *original.shape, generator=torch.Generator().manual_seed(0)).to(original)
    drawn = drawn / original.norm(dim=-1, keepdim=True)
    apply(model, "sh", head_scales=scales.tolist())
    now = embed(model(**batch), batch).detach()
    torch.testing.assert_close(moved, (drawn * (now - original)).sum(-1).flatten())

    own = AttentionInterface()["primal_dual_sh"]
    step = 1e-5
    for layer, head, factor in ((0, 1, 1), (0, 3, 2), (1, 1, 0), (1, 2, 2)):

        def moving(module, query, key, value, mask, at=(layer, head, factor), **kwargs):
            output, maps = own(module, query, key, value, mask, **kwargs)
            if module.primal_dual_layer == at[0]:
                settings = module.config.primal_dual
                module.config.primal_dual = {"head_scales": [FACTORS[at[2]]] * HEADS}
                change = own(module, query, key, value, mask, **kwargs)[0] - output
                module.config.primal_dual = settings
                output = output + step * change * (torch.arange(HEADS) == at[1]).unsqueeze(-1)
            return output, maps

        AttentionInterface.register("primal_dual_sh", moving)
        try:
            then = embed(model(**batch), batch).detach()
        finally:
            AttentionInterface.register("primal_dual_sh", own)
        expected = (drawn * (then - now)).sum(-1).flatten() / step
        torch.testing.assert_close(effects[layer, head, factor], expected, rtol=1e-3, atol=1e-7)


def test_a_head_that_sees_all_keys_alike_is_pooled_first():
    model, batch = built("BERT"), batch_of("BERT")
    batch = {name: ids[:, :8] for name, ids in batch.items()}
    head = slice(8, 16)
    with torch.no_grad():
        # The average of averages is the average, where windows fill the sequence.
        model.encoder.layer[1].attention.self.query.weight[head] = 0
        model.encoder.layer[1].attention.self.query.bias[head] = 0
    before = model(**batch).last_hidden_state
    found = calibrate(model, [batch], budget=1 - 0.75 / 8, factors=FACTORS, num_prefix_tokens=0)
    assert found.head_scales == [[1, 1, 1, 1], [1, 4, 1, 1]]
    assert found.cost == pytest.approx(1 - 0.75 / 8)
    assert found.change < 1e-12
    assert max(map(max, found.changes)) < 1e-12
    # Neither its attention nor its weights are other ones.
    assert torch.equal(model(**batch).last_hidden_state, before)
    pooled = apply(model, "sh", head_scales=found.head_scales)(**batch).last_hidden_state
    torch.testing.assert_close(pooled, before)


def test_it_meets_the_budget_is_drawn_and_is_the_same_again(tmp_path):
    model, batches = built("ViT"), [batch_of("ViT")]
    model.requires_grad_(False)
    found = calibrate(model, batches, budget=0.4, embedding="first")
    assert found == calibrate(model, batches, budget=0.4, embedding="first")
    scales = torch.tensor(found.head_scales)
    # On a grid both sides are pooled.
    assert (1 / scales**2).mean() == pytest.approx(found.cost)
    assert 0.3 < found.cost <= 0.4
    assert len(str(found).splitlines()) == 1 + len(scales)
    found.plot(tmp_path / "factors.png")
    assert (tmp_path / "factors.png").stat().st_size > 1000


def test_heads_that_share_a_key_share_a_factor():
    model, batch = built("Llama"), batch_of("Llama", padded=True)
    assert model.config.num_key_value_heads == 2
    scales = torch.tensor(calibrate(model, [batch], budget=0.6, factors=FACTORS).head_scales)
    assert torch.equal(scales[:, ::2], scales[:, 1::2])


def chosen_of(effects, moved, budget, factors=(1, 2)):
    """What one layer's heads are given, and the predicted change."""
    chosen = torch.zeros(1, effects.shape[1], dtype=torch.long)
    change = choose(effects, moved, chosen, 1 / torch.tensor(factors).double(), budget, per_key=1)
    return torch.tensor(factors)[chosen].tolist(), change


def test_heads_are_taken_together():
    # Each of two heads moves the embedding by 1, and the third by 0.6; what was done before counts.
    effects = torch.zeros(1, 3, 2, 2)
    effects[0, 0, 1, 0], effects[0, 1, 1, 0], effects[0, 2, 1, 1] = 1.0, -1.0, 0.6
    assert chosen_of(effects, torch.zeros(2), 2.5 / 3) == ([[1, 1, 2]], pytest.approx(0.6 / 2**0.5))
    assert chosen_of(effects, torch.tensor([-1.0, 0]), 2.5 / 3) == ([[2, 1, 1]], 0)
    # Two that cancel each other are better than one of them and the third.
    effects[0, 2, 1, 1] = 1.2
    assert chosen_of(effects, torch.zeros(2), 2 / 3) == ([[2, 2, 1]], 0)


def test_the_choice_is_the_best_of_all_where_heads_do_not_meet():
    effects = torch.zeros(1, 5, 3, 5)
    effects[0, :, 1], effects[0, :, 2] = (
        torch.diag(torch.tensor([1.0, 2, 3, 4, 5])),
        torch.diag(torch.tensor([4.5, 4.6, 4.7, 4.2, 5.5])),
    )
    factors, budget = (1, 2, 8), 0.55
    found, change = chosen_of(effects, torch.zeros(5), budget, factors)
    every = [
        (sum(float(effects[0, head, place].sum()) ** 2 for head, place in enumerate(places)), places)
        for places in itertools.product(range(3), repeat=5)
        if sum(1 / factors[place] for place in places) / 5 <= budget + 1e-9
    ]
    least, places = min(every)
    assert found == [[factors[place] for place in places]]
    assert change == pytest.approx((least / 5) ** 0.5)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"inputs": []}, "`inputs` must hold some batches"),
        ({"budget": 0.01}, "`budget` must be from 0.125"),
        ({"budget": 1.2}, "`budget` must be from"),
        ({"factors": [1, 64]}, "`inputs` must have as many tokens as the largest of `factors`, 64, got 11"),
        ({"embedding": "last"}, "`embedding` must be one of mean, first, all"),
        ({"factors": [1, 2.0]}, "`factors` must be whole numbers"),
        ({"rounds": 0}, "`rounds` must be whole numbers"),
        ({"inputs": {"input_ids": torch.ones(2, 11, dtype=torch.long)}}, "got one text or batch: put it in a list"),
        ({"inputs": ["a text"]}, "dictionaries of tensors, got a str"),
    ],
)
def test_what_it_cannot_be_asked(changes, error):
    arguments = {
        "inputs": [batch_of("BERT")],
        "budget": 0.7,
        "factors": [1, 2, 8] if "budget" in changes else FACTORS,
    }
    with pytest.raises(ValueError, match=error):
        calibrate(built("BERT"), **{**arguments, **changes})


def test_a_model_of_several_parts_is_calibrated_by_parts():
    family = FAMILY["CLIP, vision tower"]
    parts = {"vision_config": family.fields, "text_config": FAMILY["BERT"].fields}
    model = CLIPModel(CLIPConfig(**parts, projection_dim=8)).eval()
    batch = {**family.inputs(), **FAMILY["BERT"].inputs()}
    with pytest.raises(ValueError, match="has several parts that attend"):
        calibrate(model, [batch], embedding=lambda output, batch: output.image_embeds, factors=FACTORS)


@pytest.mark.parametrize(("factors", "budget"), [([1, 3], 1 / 3), ([1, 5], 0.2), ([1, 10], 0.1)])
def test_the_least_budget_is_met(factors, budget):
    model, batch = built("BERT"), batch_of("BERT")
    found = calibrate(model, [batch], budget, factors=factors)
    assert found.head_scales == [[factors[-1]] * HEADS] * 2


def test_windows_of_layers_that_slide_are_neither_pooled_nor_counted():
    torch.manual_seed(0)
    config = ModernBertConfig(
        vocab_size=40, hidden_size=16, num_attention_heads=4, num_hidden_layers=4, intermediate_size=16,
        local_attention=8, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
    )  # fmt: skip
    model, batch = ModernBertModel(config).eval(), {"input_ids": torch.arange(24).unsqueeze(0) + 3}
    before = count_flops(model, **batch)
    found = calibrate(model, [batch], 0.5)
    is_pooled = [max(layer) > 1 for layer in found.head_scales]
    assert is_pooled == [True, False, False, True]
    assert count_flops(apply(model, "sh", **found.settings), **batch) < before


def test_what_was_given_is_part_of_what_was_found():
    model, batch = built("BERT"), batch_of("BERT")
    found = calibrate(model, [batch], 0.6, factors=FACTORS, sampling="stride", num_prefix_tokens=0)
    assert found.settings.keys() == {"head_scales", "sampling", "num_prefix_tokens"}
    assert found.settings["sampling"] == "stride"


def test_callers_without_gradients_and_batches_with_labels_are_served():
    model, batch = built("BERT"), batch_of("BERT")
    expected = calibrate(model, [batch], 0.6, factors=FACTORS)
    with torch.no_grad():
        assert calibrate(model, [{**batch, "labels": torch.zeros(2)}], 0.6, factors=FACTORS) == expected
    with torch.inference_mode():
        assert calibrate(model, [batch], 0.6, factors=FACTORS) == expected


def test_one_short_batch_does_not_decide():
    model, batch = built("BERT"), batch_of("BERT")
    short = {name: ids[:, :1] for name, ids in batch.items()}
    expected = calibrate(model, [batch, batch], 0.6)
    assert max(map(max, expected.head_scales)) > 1
    assert calibrate(model, [batch, short, batch], 0.6) == expected


def test_a_line_may_be_a_grid():
    model, batch = built("ViT"), batch_of("ViT")
    tokens = model(**batch).last_hidden_state.shape[1] - 1
    scales = calibrate(model, [batch], 0.6, factors=FACTORS, grid_size=[1, tokens]).head_scales
    assert 0.4 < (1 / torch.tensor(scales)).mean() <= 0.6


def test_padding_that_is_not_of_tokens_is_refused():
    states, mask = torch.ones(2, 3, 4), torch.ones(2, 9)
    assert token_mask({"attention_mask": mask}, states).shape == (2, 3, 1)
    mask[1, 5:] = 0
    with pytest.raises(ValueError, match=r"`attention_mask` of shape \(2, 9\) has padding"):
        token_mask({"attention_mask": mask}, states)


@pytest.mark.parametrize("attention", ["sh", "bn+sh"])
def test_one_call_applies_what_it_finds(attention):
    batches = [{"input_ids": batch_of("BERT")["input_ids"].repeat(1, 2)}]
    found = calibrate(built("BERT"), batches, 0.5, attention=attention, bn_beta=0.5)
    model = apply(built("BERT"), attention, budget=0.5, calibration=batches, bn_beta=0.5)
    assert found.settings["num_prefix_tokens"] == 1
    assert model.config.primal_dual == found.settings


@pytest.mark.parametrize(
    ("attention", "options", "error"),
    [
        ("sh", {"budget": 0.5}, "go together"),
        ("bn", {"budget": 0.5, "calibration": []}, "`budget` chooses `head_scales` of 'sh' and 'bn.sh', got"),
        ("sh", {"budget": 0.5, "calibration": [], "head_scales": [1] * 4}, "are given"),
        ("sh", {"budget": 0.5, "calibration": ["a text"]}, "holds texts, but no tokenizer lies with"),
        ("sh", {"budget": 0.5, "calibration": []}, "must hold some batches"),
    ],
)
def test_one_call_refuses_what_does_not_go_together(attention, options, error):
    model = built("BERT")
    with pytest.raises(ValueError, match=error):
        apply(model, attention, **options)
    assert model.config.primal_dual is None
    assert model.config._attn_implementation == "sdpa"
