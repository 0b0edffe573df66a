"""The text model and its classifier: what they compute, and what they refuse."""

import pytest
import torch
from torch import nn
from transformers import BertConfig, BertModel

from hf_primaldual import PrimalDualTextConfig, PrimalDualTextForSequenceClassification, PrimalDualTextModel
from hf_primaldual.measure import peak_memory
from tests.modeling.cases import HEADS
from tests.modeling.test_every_model import assert_same_gradients, gradients
from tests.modeling.texts import (
    LABELS,
    LONGEST,
    TOKENS,
    WIDTH,
    small_config,
    small_model,
    text_batch,
    with_more_padding,
)

ENCODERS = {
    "mean": {},
    "mean-behind-cls": {"prepend_cls": True},
    "cls": {"prepend_cls": True, "pooling": "cls"},
    "own-cls": {"pooling": "cls"},
    "bert": {"norm_position": "post", "embedding_norm": True, "type_vocab_size": 2, "pooling": "cls"},
    "batch-norm": {"norm_type": "batch", "embedding_norm": True, "prepend_cls": True},
}


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_more_padding_changes_neither_loss_nor_gradients(encoder):
    model, batch = small_model(bn_eps=0.1, **encoder).train(), text_batch()
    expected = gradients(model, batch)
    assert all(gradient.isfinite().all() for gradient in expected[1].values())
    assert_same_gradients(gradients(model, with_more_padding(batch, 4)), expected)


@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_every_parameter_gets_a_gradient(encoder):
    # Texts of every position, whose tokens, of both types, are all but the one that fills texts up.
    model = small_model(bn_beta_learnable=True, **encoder).train()
    batch = text_batch((LONGEST,) * 3, LONGEST)
    batch["token_type_ids"] = (torch.arange(LONGEST) > 9).long().expand(3, -1)
    _, found = gradients(model, batch)
    assert all(gradient.abs().max() > 0 for gradient in found.values())
    assert found["model.embeddings.word_embeddings.weight"][0].eq(0).all()


def bert(**fields) -> BertModel:
    """A small BERT with random weights."""
    config = BertConfig(
        vocab_size=TOKENS,
        max_position_embeddings=LONGEST,
        hidden_size=WIDTH,
        num_attention_heads=HEADS,
        num_hidden_layers=2,
        intermediate_size=32,
        initializer_range=0.2,
        **fields,
    )
    model = BertModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


RENAMED = {
    "embeddings.LayerNorm": "embeddings.norm",
    "encoder.layer.": "layers.",
    "attention.self.query": "self_attn.q_proj",
    "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj",
    "attention.output.dense": "self_attn.o_proj",
    "attention.output.LayerNorm": "norm1",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "output.LayerNorm": "norm2",
}


def test_with_the_weights_of_bert_it_is_bert():
    theirs = bert()
    fields = {**ENCODERS["bert"], "attention": "softmax", "norm_eps": 1e-12}
    ours = small_model(**fields)
    weights = {}
    for name, tensor in theirs.state_dict().items():
        for old, new in RENAMED.items():
            name = name.replace(old, new)
        weights[name] = tensor
    pooler = {name: weights.pop(f"pooler.{name}") for name in ("dense.weight", "dense.bias")}
    ours.model.load_state_dict(weights)
    ours.pooler.load_state_dict(pooler)

    batch = text_batch()
    del batch["labels"]
    real = batch["attention_mask"].bool()
    for types in (None, torch.randint(2, real.shape)):
        with torch.no_grad():
            expected = theirs(**batch, token_type_ids=types, output_hidden_states=True)
            actual = ours.model(**batch, token_type_ids=types, output_hidden_states=True)
            pooled = ours.pooler(actual.last_hidden_state, batch["attention_mask"])
        for a, b in zip(actual.hidden_states, expected.hidden_states, strict=True):
            torch.testing.assert_close(a[real], b[real], rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(
            actual.last_hidden_state[real], expected.last_hidden_state[real], rtol=1e-5, atol=1e-5
        )
        torch.testing.assert_close(pooled, expected.pooler_output, rtol=1e-5, atol=1e-5)


def test_the_mean_is_that_of_the_texts_tokens():
    model, batch = small_model(prepend_cls=True), text_batch()
    states = model.model(batch["input_ids"], batch["attention_mask"]).last_hidden_state
    assert states.shape == (4, 21, WIDTH)
    pooled = torch.stack([row[1 : 1 + length].mean(0) for row, length in zip(states, (20, 13, 1, 7), strict=True)])
    torch.testing.assert_close(model(**batch).logits, model.classifier(pooled), rtol=1e-5, atol=1e-5)


def test_the_prefix_token_is_the_first():
    model, batch = small_model(prepend_cls=True, pooling="cls"), text_batch()
    first = model.model(**{**batch, "labels": None}).last_hidden_state[:, 0]
    expected = model.classifier(torch.tanh(model.pooler.dense(first)))
    torch.testing.assert_close(model(**batch).logits, expected)
    # It starts as an embedding does.
    weight = PrimalDualTextModel(PrimalDualTextConfig(hidden_size=256, prepend_cls=True)).embeddings.prefix.weight
    assert 0.015 < weight.std() < 0.025


def test_losses():
    batch = text_batch()
    outputs = small_model()(**batch)
    torch.testing.assert_close(outputs.loss, nn.functional.cross_entropy(outputs.logits, batch["labels"]))
    assert small_model()(batch["input_ids"]).loss is None
    outputs = small_model(num_labels=1)(**{**batch, "labels": torch.arange(4.0)})
    torch.testing.assert_close(outputs.loss, nn.functional.mse_loss(outputs.logits.squeeze(), torch.arange(4.0)))
    targets = torch.ones(4, LABELS)
    outputs = small_model(problem_type="multi_label_classification")(**{**batch, "labels": targets})
    torch.testing.assert_close(outputs.loss, nn.functional.binary_cross_entropy_with_logits(outputs.logits, targets))


def test_embedded_tokens_take_the_place_of_tokens():
    model, batch = small_model(**ENCODERS["bert"]), text_batch()
    expected = model(**batch, token_type_ids=torch.ones(4, 20, dtype=torch.long))
    embedded = model.get_input_embeddings()(batch.pop("input_ids"))
    actual = model(**batch, inputs_embeds=embedded, token_type_ids=torch.ones(4, 20, dtype=torch.long))
    assert torch.equal(actual.logits, expected.logits)


def test_types_are_not_looked_at_where_the_model_has_none():
    model, batch = small_model(), text_batch()
    assert torch.equal(model(**batch, token_type_ids=batch["attention_mask"]).logits, model(**batch).logits)


def test_tokens_are_resized():
    model, batch = small_model(), text_batch()
    expected = model(**batch).logits
    new = model.resize_token_embeddings(TOKENS + 5)
    assert new is model.get_input_embeddings() is model.model.get_input_embeddings()
    assert new.weight.shape == (TOKENS + 5, WIDTH)
    assert new.padding_idx == model.config.pad_token_id
    assert model.config.vocab_size == TOKENS + 5
    assert torch.equal(model(**batch).logits, expected)
    assert model(torch.full((1, 2), TOKENS + 4)).logits.isfinite().all()


def test_a_prefix_token_is_added_when_loading(tmp_path):
    small_model(attention="sh").save_pretrained(tmp_path)
    model = PrimalDualTextForSequenceClassification.from_pretrained(tmp_path, prepend_cls=True, pooling="cls")
    assert model.config.num_prefix_tokens == 1
    assert model.model.embeddings.prefix.weight.abs().max() < 2
    attentions = model(**text_batch(), output_attentions=True).attentions[0]
    assert [maps.shape[-1] for maps in attentions] == [21, 21, 11, 11]


@pytest.mark.parametrize(
    "fields",
    [
        {"attention": "linear"},
        {"attention": "bn+sh", "head_points": 64},
        {"attention": "sparse", "sparse_pattern": ["local"], "sparse_window": 64},
    ],
    ids=["linear", "points", "local"],
)
def test_a_text_of_16384_tokens(fields):
    tokens = 16384
    model = small_model(max_position_embeddings=tokens, num_hidden_layers=1, num_attention_heads=1, **fields)
    input_ids = torch.randint(TOKENS, (1, tokens))
    with torch.no_grad():
        peak = peak_memory(lambda: model(input_ids))
    # A single map of all tokens by all tokens would take a GiB.
    assert peak < 2**26
    assert model(input_ids).logits.isfinite().all()


REFUSED = {
    "beyond the vocabulary": (
        {"input_ids": torch.tensor([[1, TOKENS]])},
        r"`input_ids` must lie in 0 to 39 \(`vocab_size` = 40\), got 40",
    ),
    "negative": ({"input_ids": torch.tensor([[1, -100]])}, "`input_ids` must lie in 0 to 39 .*, got -100"),
    "too long": (
        {"input_ids": torch.ones(1, LONGEST + 1, dtype=torch.long)},
        r"1 to `max_position_embeddings` = 64 tokens, got \(1, 65\)",
    ),
    "no token": ({"input_ids": torch.ones(2, 0, dtype=torch.long)}, r"`input_ids` must .* 1 to .*, got \(2, 0\)"),
    "no batch": ({"input_ids": torch.ones(5, dtype=torch.long)}, r"shape \(batch, tokens\) .*, got \(5,\)"),
    "neither": ({}, "one of `input_ids` and `inputs_embeds` must be given, got neither"),
    "both": (
        {"input_ids": torch.ones(1, 2, dtype=torch.long), "inputs_embeds": torch.ones(1, 2, WIDTH)},
        "one of `input_ids` and `inputs_embeds` must be given, got both",
    ),
    "another width": ({"inputs_embeds": torch.ones(1, 2, 5)}, r"\(batch, tokens, 16\) .*, got \(1, 2, 5\)"),
    "too long, embedded": ({"inputs_embeds": torch.ones(1, 65, WIDTH)}, r"= 64 tokens, got \(1, 65, 16\)"),
    "only padding": (
        {"input_ids": torch.ones(2, 3, dtype=torch.long), "attention_mask": torch.tensor([[1, 1, 0], [0, 0, 0]])},
        r"`attention_mask` must keep at least one token in every row, got only padding in rows \[1\]",
    ),
    "another mask": (
        {"input_ids": torch.ones(2, 3, dtype=torch.long), "attention_mask": torch.ones(2, 4)},
        r"`attention_mask` must have shape \(batch, tokens\) = \(2, 3\), got \(2, 4\)",
    ),
    "another type": (
        {"input_ids": torch.ones(1, 2, dtype=torch.long), "token_type_ids": torch.tensor([[0, 2]])},
        r"`token_type_ids` must lie in 0 to 1 \(`type_vocab_size` = 2\), got 2",
    ),
    "types of another shape": (
        {"input_ids": torch.ones(1, 2, dtype=torch.long), "token_type_ids": torch.tensor([[0]])},
        r"`token_type_ids` must have the shape of the tokens, \(1, 2\), got \(1, 1\)",
    ),
    "another label": (
        {"input_ids": torch.ones(1, 2, dtype=torch.long), "labels": torch.tensor([LABELS])},
        "`labels` must lie in 0 to 2 .*, got 3",
    ),
}


@pytest.mark.parametrize(("inputs", "message"), REFUSED.values(), ids=REFUSED)
def test_what_it_refuses(inputs, message):
    model = small_model(type_vocab_size=2, prepend_cls=True)
    with pytest.raises(ValueError, match=message):
        model(**inputs)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"pad_token_id": TOKENS}, "`pad_token_id` must be a token of the vocabulary, 0 to 39 .*, got 40"),
        ({"pad_token_id": -1}, "`pad_token_id` must be a token .*, got -1"),
        ({"type_vocab_size": -1}, "`type_vocab_size` must be at least 0, got -1"),
        ({"vocab_size": 0, "pad_token_id": None}, "`vocab_size` must be at least 1, got 0"),
        ({"pooling": "max"}, "`pooling` must be one of mean, cls, got 'max'"),
    ],
)
def test_what_a_configuration_refuses(fields, message):
    with pytest.raises(Exception, match=message):
        small_config(**fields)
