"""The text model and its classifier: what they compute, and what they refuse."""

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError

from hf_primaldual import PrimalDualTextConfig, PrimalDualTextForSequenceClassification, PrimalDualTextModel
from tests.modeling.texts import TOKENS, WIDTH, small_model, text_batch

BERT = {"norm_position": "post", "embedding_norm": True, "type_vocab_size": 2, "pooling": "cls"}


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


def test_embedded_tokens_take_the_place_of_tokens():
    model, batch = small_model(**BERT), text_batch()
    expected = model(**batch, token_type_ids=torch.ones(4, 20, dtype=torch.long))
    embedded = model.get_input_embeddings()(batch.pop("input_ids"))
    actual = model(**batch, inputs_embeds=embedded, token_type_ids=torch.ones(4, 20, dtype=torch.long))
    assert torch.equal(actual.logits, expected.logits)


def test_types_are_not_looked_at_where_the_model_has_none():
    model, batch = small_model(), text_batch()
    types = torch.full_like(batch["input_ids"], 7)
    assert torch.equal(model(**batch, token_type_ids=types).logits, model(**batch).logits)


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


@pytest.mark.parametrize("is_decoder", [False, True], ids=["encoder", "decoder"])
def test_layers_with_factors_of_their_own_are_those_of_a_model_with_one_list(is_decoder, tmp_path):
    scales, batch = [[4, 1, 2, 1], [1, 3, 1, 2]], text_batch()
    model = small_model(attention="bn+sh", head_scales=scales, is_decoder=is_decoder)
    expected = model(**batch).logits
    for place, own in enumerate(scales):
        same = small_model(attention="bn+sh", head_scales=own, is_decoder=is_decoder)
        same.load_state_dict(model.state_dict())
        same.model.layers[1 - place] = model.model.layers[1 - place]
        torch.testing.assert_close(same(**batch).logits, expected)
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    assert loaded.config.head_scales == scales
    assert torch.equal(loaded(**batch).logits, expected)
    for wrong, error in ((scales[:1], "each of the 2 layers"), ([[1, 2], [1, 2]], "head_scales.0.. must hold one")):
        with pytest.raises(StrictDataclassError, match=error):
            small_model(attention="bn+sh", head_scales=wrong)


def test_the_first_token_of_a_text_may_be_kept_apart():
    model, batch = small_model(attention="sh", num_prefix_tokens=1), text_batch()
    attentions = model(**batch, output_attentions=True).attentions[0]
    assert [maps.shape[-1] for maps in attentions] == [20, 20, 11, 11]
    # It is the text's own, wherever its padding is.
    expected = model(**batch).logits
    assert not torch.allclose(small_model(attention="sh")(**batch).logits, expected)
    places = batch["attention_mask"].argsort(dim=1, stable=True)
    left = {name: batch[name].gather(1, places) for name in ("input_ids", "attention_mask")}
    torch.testing.assert_close(model(**left).logits, expected)
