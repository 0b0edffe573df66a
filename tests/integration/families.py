"""
The families of transformers that the attentions are tested in, and the document that lists them.

    python -m tests.integration.families > docs/families.md
"""

from typing import NamedTuple

import torch
import transformers

TOKENS = 11
LENGTHS = (11, 7)
GRID = (5, 5)
PATCH = 4
HEADS = 4
# Unsorted, with heads of one factor apart, and with windows that are ragged at the end of 11 tokens or a 5 x 5 grid.
SCALES = [3, 1, 2, 1]


class Family(NamedTuple):
    """A family, its tiny model, and how its tokens lie."""

    name: str
    model: str
    kind: str
    options: dict = {}
    # Tokens in front of the patches that are not downsampled.
    prefix: int = 0
    # The part of a model that the attention is asked for, where it is not all of it.
    part: str | None = None
    note: str = ""

    @property
    def grid(self) -> tuple[int, int] | None:
        return GRID if self.kind == "image" else None

    def config(self):
        config_class = getattr(transformers, self.model).config_class
        return config_class(**_KINDS[self.kind] | self.options)

    def build(self, attn_implementation: str = "sdpa", **settings):
        """The model in evaluation mode with the same random weights each time."""
        torch.manual_seed(0)
        config = self.config()
        if settings:
            config.primal_dual = settings
        return getattr(transformers, self.model)._from_config(config, attn_implementation=attn_implementation).eval()

    def inputs(self, padded: bool = False) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(1)
        if self.kind == "image":
            size = [side * PATCH for side in GRID]
            return {"pixel_values": torch.randn(2, 3, *size, generator=generator)}
        if self.kind == "series":
            return {"past_values": torch.randn(2, 2 * TOKENS, 2, generator=generator)}
        inputs = {"input_ids": torch.randint(5, 50, (2, TOKENS), generator=generator)}
        if padded:
            inputs["attention_mask"] = (torch.arange(TOKENS) < torch.tensor(LENGTHS).unsqueeze(-1)).long()
        return inputs

    @property
    def takes_padding(self) -> bool:
        return self.kind == "text"


_WIDTHS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": HEADS, "intermediate_size": 48}
_KINDS = {
    "text": _WIDTHS | {"vocab_size": 50, "max_position_embeddings": 32, "pad_token_id": 1},
    "image": _WIDTHS | {"image_size": [side * PATCH for side in GRID], "patch_size": PATCH},
    "series": {
        "context_length": 2 * TOKENS,
        "patch_length": 2,
        "patch_stride": 2,
        "num_input_channels": 2,
        "d_model": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": HEADS,
        "ffn_dim": 48,
    },
}
_SQUARE = {"image_size": GRID[0] * PATCH}

FAMILIES = (
    Family("ViT", "ViTModel", "image", prefix=1),
    Family("DeiT", "DeiTModel", "image", prefix=2),
    Family("DINOv2", "Dinov2Model", "image", _SQUARE, prefix=1),
    Family("DINOv2 with registers", "Dinov2WithRegistersModel", "image", _SQUARE | {"num_register_tokens": 3}, 4),
    Family(
        "DINOv3",
        "DINOv3ViTModel",
        "image",
        _SQUARE | {"num_register_tokens": 3},
        prefix=4,
        note="keys are pooled and normalized after their rotation",
    ),
    Family("ViT-MSN", "ViTMSNModel", "image", _SQUARE, prefix=1),
    Family("I-JEPA", "IJepaModel", "image", _SQUARE),
    Family("CLIP, vision tower", "CLIPVisionModel", "image", _SQUARE, prefix=1),
    Family("SigLIP, vision tower", "SiglipVisionModel", "image", _SQUARE),
    Family("BERT", "BertModel", "text"),
    Family("RoBERTa", "RobertaModel", "text"),
    Family("XLM-RoBERTa", "XLMRobertaModel", "text"),
    Family("CamemBERT", "CamembertModel", "text"),
    Family("DistilBERT", "DistilBertModel", "text", {"dim": 32, "n_layers": 2, "n_heads": HEADS, "hidden_dim": 48}),
    Family("ELECTRA", "ElectraModel", "text", {"embedding_size": 32}),
    Family("ALBERT", "AlbertModel", "text", {"embedding_size": 16}),
    Family("ERNIE", "ErnieModel", "text"),
    Family("Data2Vec, text", "Data2VecTextModel", "text"),
    Family(
        "EuroBERT",
        "EuroBertModel",
        "text",
        {"num_key_value_heads": 2},
        note="grouped keys and values; keys are pooled and normalized after their rotation",
    ),
    Family("PatchTST", "PatchTSTModel", "series"),
)


class Refused(NamedTuple):
    """A family that is refused, and when."""

    name: str
    model: str
    options: dict
    # What the error says, and the document too.
    reason: str
    when: str


_NO_DISPATCH = "do not dispatch through transformers' AttentionInterface"
REFUSED = (
    Refused("MPNet", "MPNetModel", _KINDS["text"], _NO_DISPATCH, "built"),
    Refused("DeBERTa-v2", "DebertaV2Model", _KINDS["text"], _NO_DISPATCH, "built"),
    Refused("Funnel", "FunnelModel", {"vocab_size": 50, "d_model": 32, "block_sizes": [1]}, _NO_DISPATCH, "built"),
    Refused("ResNet", "ResNetModel", {"embedding_size": 8, "hidden_sizes": [8], "depths": [1]}, _NO_DISPATCH, "built"),
    Refused("Llama", "LlamaModel", _KINDS["text"], "asked for a mask of its own", "run"),
    Refused(
        "GPT-2", "GPT2Model", {"vocab_size": 50, "n_embd": 32, "n_layer": 1, "n_head": 4}, "a mask of its own", "run"
    ),
    Refused("BERT as a decoder", "BertModel", _KINDS["text"] | {"is_decoder": True}, "a mask of its own", "run"),
    Refused(
        "CLIP, text tower",
        "CLIPTextModel",
        _KINDS["text"] | {"eos_token_id": 2},
        "asked for a mask of its own",
        "run",
    ),
    Refused("ModernBERT", "ModernBertModel", _KINDS["text"] | {"pad_token_id": 1}, "a mask of its own", "run"),
    Refused(
        "BART", "BartModel", {"vocab_size": 50, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1}, "", "run"
    ),
    Refused("Swin", "SwinModel", {"image_size": 16, "embed_dim": 8, "depths": [1], "num_heads": [2]}, "a bias", "run"),
)
