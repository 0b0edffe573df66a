"""Small text models and batches for the tests."""

import torch

from hf_primaldual import (
    PrimalDualTextConfig,
    PrimalDualTextForDocumentMatching,
    PrimalDualTextForSequenceClassification,
)
from tests.modeling.series import stirred

TOKENS, LABELS, LONGEST, WIDTH = 40, 3, 64, 16


def small_config(**fields) -> PrimalDualTextConfig:
    fields = {
        "vocab_size": TOKENS,
        "max_position_embeddings": LONGEST,
        "hidden_size": WIDTH,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "intermediate_size": 32,
        "hidden_dropout_prob": 0.0,
        "num_labels": LABELS,
        **fields,
    }
    return PrimalDualTextConfig(**fields)


def small_model(
    implementation: str = "sdpa", model_class: type = PrimalDualTextForSequenceClassification, **fields
) -> PrimalDualTextForSequenceClassification:
    """A classifier with weights large enough for its parts to matter."""
    config = small_config(**{"initializer_range": 0.2, **fields})
    config._attn_implementation = implementation
    return stirred(model_class(config))


def small_matcher(**fields) -> PrimalDualTextForDocumentMatching:
    """The same of pairs of documents."""
    return small_model(model_class=PrimalDualTextForDocumentMatching, **{"num_labels": 2, **fields})


def text_batch(lengths=(20, 13, 1, 7), tokens: int = 20) -> dict[str, torch.Tensor]:
    """Texts of these lengths, padded to `tokens` with tokens that would be seen if they leaked."""
    mask = torch.arange(tokens) < torch.tensor(lengths).unsqueeze(1)
    return {
        "input_ids": torch.randint(TOKENS, mask.shape),
        "attention_mask": mask.long(),
        "labels": torch.arange(len(lengths)) % LABELS,
    }


def with_more_padding(batch: dict[str, torch.Tensor], tokens: int, prefix: str = "") -> dict[str, torch.Tensor]:
    """The same texts with more padding, of other tokens."""
    ids = batch[f"{prefix}input_ids"]
    padding = torch.randint(TOKENS, (len(ids), tokens))
    return {
        **batch,
        f"{prefix}input_ids": torch.cat((ids, padding), dim=1),
        f"{prefix}attention_mask": torch.nn.functional.pad(batch[f"{prefix}attention_mask"], (0, tokens)),
    }


def document_batch(
    lengths=(20, 13, 1, 7), pair_lengths=(5, 16, 9, 1), tokens: int = 20, pair_tokens: int = 16
) -> dict[str, torch.Tensor]:
    """Pairs of documents."""
    first, second = text_batch(lengths, tokens), text_batch(pair_lengths, pair_tokens)
    return {
        "input_ids": first["input_ids"],
        "attention_mask": first["attention_mask"],
        "pair_input_ids": second["input_ids"],
        "pair_attention_mask": second["attention_mask"],
        "labels": torch.arange(len(lengths)) % 2,
    }
