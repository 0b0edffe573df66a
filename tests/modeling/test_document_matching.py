"""The classifier of pairs of documents."""

import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification

from hf_primaldual import (
    PrimalDualTextForDocumentMatching,
    PrimalDualTextForSequenceClassification,
    PrimalDualTextModel,
)
from tests.modeling.test_every_model import assert_same_gradients, gradients
from tests.modeling.texts import WIDTH, document_batch, small_config, small_matcher, small_model, with_more_padding


def test_the_head_sees_both_documents_their_product_and_their_difference():
    model, batch = small_matcher(attention="bn"), document_batch()
    calls = []
    model.model.layers[0].register_forward_pre_hook(lambda module, args: calls.append(args[0].shape))
    outputs = model(**batch, output_hidden_states=True, output_attentions=True)
    # One call of the encoder for both.
    assert calls == [(8, 20, WIDTH)]
    assert outputs.attentions[0].shape == (8, 4, 20, 20)
    first, second = (
        model.model(batch[f"{prefix}input_ids"], batch[f"{prefix}attention_mask"], output_hidden_states=True)
        for prefix in ("", "pair_")
    )
    # Of hidden states and maps, those of the first documents come first.
    real = batch["attention_mask"].bool()
    for actual, alone in zip(outputs.hidden_states, first.hidden_states, strict=True):
        torch.testing.assert_close(actual[:4][real], alone[real], rtol=1e-4, atol=1e-5)
    first = model.pooler(first.last_hidden_state, batch["attention_mask"])
    second = model.pooler(second.last_hidden_state, batch["pair_attention_mask"])
    compared = torch.cat((first, second, first * second, first - second), dim=1)
    expected = model.classifier.out_proj(model.classifier.dense(compared).relu())
    torch.testing.assert_close(outputs.logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(outputs.loss, nn.functional.cross_entropy(outputs.logits, batch["labels"]))


def test_padding_of_either_document_changes_neither_answers_nor_gradients():
    model, batch = small_matcher(attention="linear-bn+sh", bn_eps=0.1, prepend_cls=True).train(), document_batch()
    expected = gradients(model, batch)
    longer = with_more_padding(with_more_padding(batch, 9), 4, "pair_")
    assert_same_gradients(gradients(model, longer), expected)
    for row in range(4):
        first, second = (
            batch[f"{prefix}input_ids"][row : row + 1, : batch[f"{prefix}attention_mask"][row].sum()]
            for prefix in ("", "pair_")
        )
        alone = model(first, pair_input_ids=second).logits
        torch.testing.assert_close(model(**longer).logits[row : row + 1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prefix", ["", "pair_"])
def test_a_mask_may_be_left_out_and_types_given_for_one_of_the_documents(prefix):
    model, batch = small_matcher(type_vocab_size=2), document_batch((20,) * 4, (20,) * 4, 20, 20)
    expected = model(**batch).logits
    del batch[f"{prefix}attention_mask"]
    assert torch.equal(model(**batch).logits, expected)
    types = torch.zeros_like(batch[f"{prefix}input_ids"])
    assert torch.equal(model(**batch, **{f"{prefix}token_type_ids": types}).logits, expected)
    assert not torch.allclose(model(**batch, **{f"{prefix}token_type_ids": types + 1}).logits, expected, atol=1e-3)


def test_a_saved_matcher_is_loaded_by_its_name_and_shares_its_encoder(tmp_path):
    model, batch = small_matcher(bn_beta_learnable=True, prepend_cls=True), document_batch()
    model.save_pretrained(tmp_path / "matcher")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "matcher")
    assert type(loaded) is PrimalDualTextForDocumentMatching
    assert loaded.config.auto_map["AutoModelForSequenceClassification"].endswith(".PrimalDualTextForDocumentMatching")
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    assert type(AutoModel.from_pretrained(tmp_path / "matcher")) is PrimalDualTextModel
    config = small_config(architectures=["PrimalDualTextForDocumentMatching"])
    assert type(AutoModelForSequenceClassification.from_config(config)) is PrimalDualTextForDocumentMatching

    classifier = small_model()
    classifier.save_pretrained(tmp_path / "classifier")
    matcher = PrimalDualTextForDocumentMatching.from_pretrained(tmp_path / "classifier")
    assert torch.equal(matcher.get_input_embeddings().weight, classifier.get_input_embeddings().weight)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "classifier")
    assert type(loaded) is PrimalDualTextForSequenceClassification
