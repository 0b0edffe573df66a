"""The classifier of pairs of documents."""

import re

import pytest
import torch
from torch import nn
from transformers import AutoModel, AutoModelForSequenceClassification

from hf_primaldual import (
    PrimalDualTextForDocumentMatching,
    PrimalDualTextForSequenceClassification,
    PrimalDualTextModel,
)
from tests.modeling.cases import PRESET_CASES
from tests.modeling.test_time_series_model import assert_same_gradients, gradients
from tests.modeling.texts import (
    LONGEST,
    TOKENS,
    WIDTH,
    document_batch,
    small_config,
    small_matcher,
    small_model,
    with_more_padding,
)

ENCODERS = {
    "mean": {},
    "cls": {"prepend_cls": True, "pooling": "cls"},
    "batch-norm": {"norm_type": "batch", "embedding_norm": True},
}


def test_the_head_sees_both_documents_their_product_and_their_difference():
    model, batch = small_matcher(attention="softmax"), document_batch()
    first, second = (
        model.pooler(model.model(ids, mask).last_hidden_state, mask)
        for ids, mask in (
            (batch["input_ids"], batch["attention_mask"]),
            (batch["pair_input_ids"], batch["pair_attention_mask"]),
        )
    )
    compared = torch.cat((first, second, first * second, first - second), dim=1)
    expected = model.classifier.out_proj(model.classifier.dense(compared).relu())
    outputs = model(**batch)
    assert outputs.logits.shape == (4, 2)
    torch.testing.assert_close(outputs.logits, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(outputs.loss, nn.functional.cross_entropy(outputs.logits, batch["labels"]))
    # The order of a pair matters, through the difference.
    swapped = {name.removeprefix("pair_") if "pair" in name else f"pair_{name}": batch[name] for name in batch}
    labels = swapped.pop("pair_labels")
    assert not torch.allclose(model(**swapped, labels=labels).logits, outputs.logits, atol=1e-3)


@pytest.mark.parametrize("prepend_cls", [False, True], ids=["plain", "cls"])
@pytest.mark.parametrize("preset", PRESET_CASES)
def test_a_padded_batch_of_pairs_equals_its_pairs_alone(preset, prepend_cls):
    model, batch = small_matcher(attention=preset, bn_eps=0.1, prepend_cls=prepend_cls), document_batch()
    together = model(**batch).logits
    for row in range(4):
        first, second = (
            batch[f"{prefix}input_ids"][row : row + 1, : batch[f"{prefix}attention_mask"][row].sum()]
            for prefix in ("", "pair_")
        )
        alone = model(first, pair_input_ids=second).logits
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prefix", ["", "pair_"])
@pytest.mark.parametrize("encoder", ENCODERS.values(), ids=ENCODERS)
def test_more_padding_of_one_document_changes_neither_loss_nor_gradients(encoder, prefix):
    model, batch = small_matcher(bn_eps=0.1, **encoder).train(), document_batch()
    expected = gradients(model, batch)
    assert_same_gradients(gradients(model, with_more_padding(batch, 9, prefix)), expected)


@pytest.mark.parametrize("prefix", ["", "pair_"])
def test_a_mask_may_be_left_out_for_one_of_the_documents(prefix):
    model, batch = small_matcher(), document_batch((20,) * 4, (20,) * 4, 20, 20)
    expected = model(**batch).logits
    del batch[f"{prefix}attention_mask"]
    assert torch.equal(model(**batch).logits, expected)


def test_types_of_tokens_of_one_of_the_documents():
    model, batch = small_matcher(type_vocab_size=2), document_batch()
    expected = model(**batch).logits
    for prefix in ("", "pair_"):
        types = {f"{prefix}token_type_ids": torch.zeros_like(batch[f"{prefix}input_ids"])}
        assert torch.equal(model(**batch, **types).logits, expected)
        types = {f"{prefix}token_type_ids": torch.ones_like(batch[f"{prefix}input_ids"])}
        assert not torch.allclose(model(**batch, **types).logits, expected, atol=1e-3)


def test_documents_of_equal_lengths_are_one_call_of_the_encoder():
    calls = []
    for tokens in (16, 20):
        model, batch = small_matcher(), document_batch(tokens=20, pair_tokens=tokens)
        model.model.layers[0].register_forward_pre_hook(lambda module, args: calls.append(args[0].shape))
        model(**batch)
    assert calls == [(8, 20, WIDTH)] * 2


def test_hidden_states_and_maps_of_the_first_documents_come_first():
    model, batch = small_matcher(attention="bn"), document_batch()
    outputs = model(**batch, output_hidden_states=True, output_attentions=True)
    expected = model.model(batch["input_ids"], batch["attention_mask"], output_hidden_states=True).hidden_states
    real = batch["attention_mask"].bool()
    for actual, states in zip(outputs.hidden_states, expected, strict=True):
        assert actual.shape == (8, 20, WIDTH)
        torch.testing.assert_close(actual[:4][real], states[real], rtol=1e-4, atol=1e-5)
    assert outputs.attentions[0].shape == (8, 4, 20, 20)


@pytest.mark.parametrize("preset", ["softmax", "bn+sh", "linear-bn", "sparse", "conv2d+bn"])
def test_a_saved_matcher_is_loaded_by_its_name(tmp_path, preset):
    model, batch = small_matcher(attention=preset, bn_beta_learnable=True, prepend_cls=True), document_batch()
    model.save_pretrained(tmp_path)
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    assert type(loaded) is PrimalDualTextForDocumentMatching
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)
    assert type(AutoModel.from_pretrained(tmp_path)) is PrimalDualTextModel
    assert loaded.resize_token_embeddings(TOKENS + 3).weight.shape == (TOKENS + 3, WIDTH)


def test_either_class_loads_the_others_encoder(tmp_path):
    classifier = small_model()
    classifier.save_pretrained(tmp_path)
    matcher = PrimalDualTextForDocumentMatching.from_pretrained(tmp_path)
    assert torch.equal(matcher.get_input_embeddings().weight, classifier.get_input_embeddings().weight)
    # It is saved as what it is.
    matcher.save_pretrained(tmp_path / "matcher")
    loaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "matcher")
    assert type(loaded) is PrimalDualTextForDocumentMatching
    assert loaded.config.auto_map["AutoModelForSequenceClassification"].endswith(".PrimalDualTextForDocumentMatching")
    assert (
        type(AutoModelForSequenceClassification.from_pretrained(tmp_path)) is PrimalDualTextForSequenceClassification
    )


def test_auto_class_builds_it_from_a_config_that_names_it():
    config = small_config(architectures=["PrimalDualTextForDocumentMatching"])
    assert type(AutoModelForSequenceClassification.from_config(config)) is PrimalDualTextForDocumentMatching


def refused_batches():
    good = document_batch()
    ids, mask = good["pair_input_ids"], good["pair_attention_mask"]
    empty = mask.clone()
    empty[2] = 0
    beyond = ids.clone()
    beyond[1, 3] = TOKENS
    return {
        "no partner": (
            {**good, "pair_input_ids": None},
            "`pair_input_ids` must be given: documents are matched in pairs, got None",
        ),
        "no first": ({**good, "input_ids": None}, "`input_ids` must be given"),
        "fewer": (
            {**good, "pair_input_ids": ids[:3], "pair_attention_mask": mask[:3]},
            "`input_ids` and `pair_input_ids` must hold as many documents, got 4 and 3",
        ),
        "beyond the vocabulary": ({**good, "pair_input_ids": beyond}, "`pair_input_ids` must lie in 0 to 39"),
        "too long": (
            {**good, "pair_input_ids": torch.ones(4, LONGEST + 1, dtype=torch.long)},
            "`pair_input_ids` must have shape (batch, tokens) with 1 to `max_position_embeddings` = 64",
        ),
        "only padding": (
            {**good, "pair_attention_mask": empty},
            "`pair_attention_mask` must keep at least one token in every row, got only padding in rows [2]",
        ),
        "another mask": (
            {**good, "pair_attention_mask": mask[:, 1:]},
            "`pair_attention_mask` must have shape (batch, tokens) = (4, 16), got (4, 15)",
        ),
        "another label": ({**good, "labels": good["labels"] + 2}, "`labels` must lie in 0 to 1"),
    }


@pytest.mark.parametrize("name", refused_batches())
def test_what_it_refuses(name):
    batch, message = refused_batches()[name]
    with pytest.raises(ValueError, match=re.escape(message)):
        small_matcher()(**batch)
