"""
The families of transformers that the attentions are tested in, and the document that lists them.

    python -m tests.integration.families
"""

import importlib
from pathlib import Path
from typing import NamedTuple

import torch
import transformers

from hf_primaldual.hub.markdown import markdown_table, replace_between
from hf_primaldual.integration.layouts import LAYOUTS
from hf_primaldual.modeling.configuration_primal_dual_models import pair

DOCUMENT = Path(__file__).parents[2] / "docs" / "families.md"

TOKENS = 11
LENGTHS = (11, 7)
GRID = (5, 5)
PATCH = 4
FRAMES = 3
TUBELET = 2
HEADS = 4
# Unsorted, with heads of one factor apart, and with windows that are ragged at the end of 11 tokens or a 5 x 5 grid.
SCALES = [3, 1, 2, 1]


def model_class(name: str) -> type[transformers.PreTrainedModel]:
    """A class of transformers, or of one of its folders that exports others: `bart.BartEncoder`."""
    folder, _, name = name.rpartition(".")
    if not folder:
        return getattr(transformers, name)
    return getattr(importlib.import_module(f"transformers.models.{folder}.modeling_{folder}"), name)


class Family(NamedTuple):
    """A family, its tiny model, and how its tokens lie."""

    name: str
    model: str
    kind: str
    options: dict = {}
    # Tokens in front of the patches that are not downsampled.
    prefix: int = 0
    note: str = ""
    # The part that runs the attention, where it is not the whole.
    part: str = ""
    # The most that it takes.
    most: str = "primal_dual_bn_sh"

    @property
    def grid(self) -> tuple[int, ...] | None:
        return {"video": (FRAMES, *GRID)}.get(self.kind, GRID if self.kind in _ON_GRID else None)

    def patch(self, values: torch.Tensor, place: tuple[int, ...]) -> torch.Tensor:
        """The part of an input that becomes the token at a place of the grid."""
        if self.kind == "spectrogram":
            # It is given as time by frequency, and its rows are frequencies.
            values = values.transpose(1, 2)
        if self.kind == "video":
            values = values.narrow(1, place[0] % FRAMES * TUBELET, TUBELET)
        for axis, index in zip((-2, -1), place[-2:], strict=True):
            values = values.narrow(axis, index * PATCH, PATCH)
        return values

    def config(self):
        return model_class(self.model).config_class(**self.fields)

    @property
    def fields(self) -> dict:
        """Of its configuration."""
        return _KINDS[self.kind] | self.options

    def build(self, attn_implementation: str | None = None, **settings):
        """The model in evaluation mode with the same random weights each time."""
        torch.manual_seed(0)
        config = self.config()
        if settings:
            config.primal_dual = settings
        model = model_class(self.model)._from_config(config, attn_implementation=self.named(attn_implementation))
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                # The usual small weights would make attention nearly uniform, and many mistakes invisible.
                torch.nn.init.normal_(module.weight, std=0.3)
        return model.eval()

    def named(self, attention: str | None) -> str | dict | None:
        """What `attn_implementation` must be."""
        return {self.part: attention} if self.part and attention else attention

    def inputs(self, padded: bool = False) -> dict[str, torch.Tensor]:
        generator = torch.Generator(torch.get_default_device()).manual_seed(1)
        if self.kind in ("image", "photo"):
            size = [side * PATCH for side in GRID] if self.kind == "image" else [64, 64]
            return {"pixel_values": torch.randn(2, 3, *size, generator=generator)}
        if self.kind == "video":
            size = [FRAMES * TUBELET, 3, *[side * PATCH for side in GRID]]
            return {"pixel_values": torch.randn(2, *size, generator=generator)}
        if self.kind == "spectrogram":
            return {"input_values": torch.randn(2, *[side * PATCH for side in reversed(GRID)], generator=generator)}
        if self.kind == "sound":
            return {"input_values": torch.randn(2, 20 * TOKENS + 5, generator=generator)}
        if self.kind == "log-mel":
            # A convolution halves the times.
            return {"input_features": torch.randn(2, 8, 2 * TOKENS, generator=generator)}
        if self.kind == "padded sound":
            # Two convolutions leave as many tokens, of them those of the second row's first half.
            features, valid = torch.randn(2, 4 * TOKENS + 9, 8, generator=generator), torch.ones(2, 4 * TOKENS + 9)
            valid[1, 30:] = 0
            return {"input_features": features, "attention_mask": valid.long()}
        if self.kind == "series":
            return {"past_values": torch.randn(2, 2 * TOKENS, 2, generator=generator)}
        if self.kind == "patches":
            # Of an image that fills the grid, and of one that does not.
            valid = (torch.arange(GRID[0] * GRID[1]) < torch.tensor([25, 12]).unsqueeze(-1)).long()
            patches = torch.randn(2, GRID[0] * GRID[1], 3 * PATCH**2, generator=generator)
            shapes = torch.tensor([GRID, (3, 4)])
            return {"pixel_values": patches, "pixel_attention_mask": valid, "spatial_shapes": shapes}
        inputs = {"input_ids": torch.randint(5, 50, (2, TOKENS), generator=generator)}
        if self.kind == "image and text":
            size = [side * PATCH for side in GRID]
            inputs["pixel_values"] = torch.randn(2, 3, *size, generator=generator)
            if self.options is _LLAVA:
                images = torch.full((2, GRID[0] * GRID[1]), _LLAVA["image_token_id"])
                inputs["input_ids"] = torch.cat((images, inputs["input_ids"]), dim=1)
        if padded:
            inputs["attention_mask"] = (torch.arange(TOKENS) < torch.tensor(LENGTHS).unsqueeze(-1)).long()
        return inputs

    @property
    def takes_padding(self) -> bool:
        return self.kind == "text"


_ON_GRID = ("image", "spectrogram", "image and text")
_WIDTHS = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": HEADS, "intermediate_size": 48}
_KINDS = {
    "text": _WIDTHS
    | {"vocab_size": 50, "max_position_embeddings": 32, "pad_token_id": 1, "bos_token_id": 2, "eos_token_id": 3},
    "image": _WIDTHS | {"image_size": [side * PATCH for side in GRID], "patch_size": PATCH},
    "patches": _WIDTHS | {"num_patches": GRID[0] * GRID[1], "patch_size": PATCH},
    "image and text": {},
    "photo": {},
    "video": _WIDTHS | {"image_size": GRID[0] * PATCH, "num_frames": FRAMES * TUBELET},
    "spectrogram": _WIDTHS
    | {
        "num_mel_bins": GRID[0] * PATCH,
        "max_length": GRID[1] * PATCH,
        "patch_size": PATCH,
        "frequency_stride": PATCH,
        "time_stride": PATCH,
    },
    "sound": _WIDTHS
    | {
        "conv_dim": (16, 16),
        "conv_kernel": (5, 4),
        "conv_stride": (5, 4),
        "num_feat_extract_layers": 2,
        "num_conv_pos_embeddings": 4,
        "num_conv_pos_embedding_groups": 2,
    },
    "log-mel": {
        "d_model": 32,
        "encoder_layers": 2,
        "encoder_attention_heads": HEADS,
        "encoder_ffn_dim": 48,
        "num_mel_bins": 8,
        "max_source_positions": TOKENS,
    },
    "padded sound": _WIDTHS | {"num_key_value_heads": HEADS, "num_mel_bins": 8},
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
_BART = {"d_model": 32, "encoder_layers": 2, "encoder_attention_heads": HEADS, "encoder_ffn_dim": 48}
_SQUARE = {"image_size": GRID[0] * PATCH}
_SCALED = "queries that were scaled before are scaled back"
_FRAMES = "each frame is pooled alone"
_TOWER = ('`attn_implementation={"vision_config": name}`', "vision_config")
_TWO = {
    "text_config": _KINDS["text"] | {"projection_size": 32},
    "vision_config": _KINDS["image"] | _SQUARE,
    "projection_dim": 32,
}
_LLAVA = {
    "text_config": {"model_type": "llama"} | _KINDS["text"],
    "vision_config": {"model_type": "clip_vision_model"} | _KINDS["image"] | _SQUARE,
    "image_token_id": 4,
}
_RT_DETR = {
    "backbone_config": {"model_type": "rt_detr_resnet", "embedding_size": 8, "hidden_sizes": [8, 8, 16, 16]}
    | {"depths": [1, 1, 1, 1], "layer_type": "basic", "out_features": ["stage2", "stage3", "stage4"]},
    "encoder_in_channels": [8, 16, 16],
    "decoder_in_channels": [32, 32, 32],
    "encoder_hidden_dim": 32,
    "encoder_ffn_dim": 48,
    "encoder_attention_heads": HEADS,
    "d_model": 32,
    "decoder_ffn_dim": 48,
    "decoder_attention_heads": HEADS,
    "decoder_layers": 2,
    "num_queries": TOKENS,
}
_GROUPED = {"num_key_value_heads": 2, "head_dim": 8}
_GEMMA = _GROUPED | {
    "sliding_window": 5,
    "layer_types": ["sliding_attention", "full_attention"],
    "query_pre_attn_scalar": 8,
}
_MODERN = {
    "cls_token_id": 2,
    "sep_token_id": 3,
    "local_attention": 4,
    "layer_types": ["full_attention", "sliding_attention"],
}
_LOCAL = "layers with a window take bn alone"
_ROTATED = "keys are pooled and normalized after their rotation"
_DECODER = f"causal; {_ROTATED}"

FAMILIES = (
    Family("ViT", "ViTModel", "image", prefix=1),
    Family("DeiT", "DeiTModel", "image", prefix=2),
    Family("DINOv2", "Dinov2Model", "image", _SQUARE, prefix=1),
    Family("DINOv2 with registers", "Dinov2WithRegistersModel", "image", _SQUARE | {"num_register_tokens": 3}, 4),
    Family("DINOv3", "DINOv3ViTModel", "image", _SQUARE | {"num_register_tokens": 3}, prefix=4, note=_ROTATED),
    Family("ViT-MSN", "ViTMSNModel", "image", _SQUARE, prefix=1),
    Family("I-JEPA", "IJepaModel", "image", _SQUARE),
    Family("CLIP, vision tower", "CLIPVisionModel", "image", _SQUARE, prefix=1),
    Family("AltCLIP, vision tower", "AltCLIPVisionModel", "image", _SQUARE, prefix=1),
    Family("Chinese-CLIP, vision tower", "ChineseCLIPVisionModel", "image", _SQUARE, prefix=1),
    Family("MetaCLIP 2, vision tower", "MetaClip2VisionModel", "image", _SQUARE, prefix=1),
    Family("BLIP-2, vision tower", "Blip2VisionModel", "image", _SQUARE, prefix=1),
    Family("SigLIP, vision tower", "SiglipVisionModel", "image", _SQUARE),
    Family("AIMv2, vision tower", "Aimv2VisionModel", "image", _SQUARE),
    Family("CLIPSeg, vision tower", "CLIPSegVisionModel", "image", _SQUARE, prefix=1),
    Family("InstructBLIP, vision tower", "InstructBlipVisionModel", "image", _SQUARE, prefix=1),
    Family("Janus, vision tower", "JanusVisionModel", "image", _SQUARE),
    Family("OWL-ViT, vision tower", "OwlViTVisionModel", "image", _SQUARE, prefix=1),
    Family("OWLv2, vision tower", "Owlv2VisionModel", "image", _SQUARE, prefix=1),
    Family("AST", "ASTModel", "spectrogram", prefix=2, note="the grid is of frequencies and times"),
    Family("BEiT", "BeitModel", "image", prefix=1),
    Family("VideoMAE", "VideoMAEModel", "video", {"patch_size": PATCH, "tubelet_size": TUBELET}, note=_FRAMES),
    Family("ViViT", "VivitModel", "video", {"tubelet_size": [TUBELET, PATCH, PATCH]}, prefix=1, note=_FRAMES),
    Family("InternVL, vision tower", "InternVLVisionModel", "image", {"patch_size": [PATCH] * 2}, prefix=1),
    Family("Pixio", "PixioModel", "image", _SQUARE | {"n_cls_tokens": 3}, prefix=3),
    Family("DPT", "DPTModel", "image", _SQUARE | {"backbone_out_indices": [0, 1, 1, 1]}, prefix=1),
    Family("GIT, vision tower", "GitVisionModel", "image", _SQUARE, prefix=1),
    Family("Idefics2, vision tower", "idefics2.Idefics2VisionTransformer", "image", _SQUARE),
    Family("Idefics3, vision tower", "Idefics3VisionTransformer", "image", _SQUARE),
    Family("SmolVLM, vision tower", "SmolVLMVisionTransformer", "image", _SQUARE),
    Family("InstructBLIP for videos, vision tower", "InstructBlipVideoVisionModel", "image", _SQUARE, prefix=1),
    Family("Kosmos-2, vision tower", "kosmos2.Kosmos2VisionModel", "image", _SQUARE, prefix=1),
    Family("MLCD", "MLCDVisionModel", "image", _SQUARE, prefix=1),
    Family("Ovis2, vision tower", "ovis2.Ovis2VisionModel", "image", _SQUARE),
    Family("Qianfan-OCR, vision tower", "QianfanOCRVisionModel", "image", _SQUARE, prefix=1),
    Family("TIPSv2, vision tower", "Tipsv2VisionModel", "image", _SQUARE, prefix=2),
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
        "EuroBERT", "EuroBertModel", "text", {"num_key_value_heads": 2}, note=f"grouped keys and values; {_ROTATED}"
    ),
    Family("NomicBERT", "NomicBertModel", "text", {"cls_token_id": 2, "sep_token_id": 3}, note=_ROTATED),
    Family("GTE", "GteModel", "text", note=_ROTATED),
    Family("RoBERTa-PreLayerNorm", "RobertaPreLayerNormModel", "text"),
    Family("XLM-RoBERTa-XL", "XLMRobertaXLModel", "text"),
    Family("Jina embeddings 3", "JinaEmbeddingsV3Model", "text", note=_ROTATED),
    Family("LayoutLM", "LayoutLMModel", "text"),
    Family("MarkupLM", "MarkupLMModel", "text"),
    Family("Splinter", "SplinterModel", "text"),
    Family(
        "MobileBERT",
        "MobileBertModel",
        "text",
        {"embedding_size": 16, "intra_bottleneck_size": 32, "true_hidden_size": 32, "num_feedforward_networks": 1},
    ),
    Family("DPR", "dpr.DPREncoder", "text"),
    Family("X-MOD", "XmodModel", "text", {"default_language": "en_XX"}),
    Family("ESM", "EsmModel", "text", {"mask_token_id": 4, "position_embedding_type": "rotary"}, note=_SCALED),
    Family("ESM C", "EsmcModel", "text", note=_ROTATED),
    Family("CLAP, text tower", "ClapTextModel", "text"),
    Family("ALIGN, text tower", "AlignTextModel", "text"),
    Family("BridgeTower, text tower", "bridgetower.BridgeTowerTextModel", "text"),
    Family("TIPSv2, text tower", "Tipsv2TextModel", "text"),
    Family("SigLIP, text tower", "SiglipTextModel", "text"),
    Family("SigLIP 2, text tower", "Siglip2TextModel", "text"),
    Family("AltCLIP, text tower", "AltCLIPTextModel", "text"),
    Family("Chinese-CLIP, text tower", "ChineseCLIPTextModel", "text"),
    Family("BART, encoder", "bart.BartEncoder", "text", _BART),
    Family("mBART, encoder", "mbart.MBartEncoder", "text", _BART),
    Family("Pegasus, encoder", "pegasus.PegasusEncoder", "text", _BART),
    Family("Marian, encoder", "marian.MarianEncoder", "text", _BART),
    Family("M2M100, encoder", "m2m_100.M2M100Encoder", "text", _BART),
    Family(
        "SigLIP 2, vision tower", "Siglip2VisionModel", "patches", note="each image has its own", most="primal_dual_bn"
    ),
    Family(
        "RT-DETR", "RTDetrModel", "photo", _RT_DETR, note="backbone and cross attention stay", most="primal_dual_bn"
    ),
    Family("CLIP", "CLIPModel", "image and text", _TWO, 1, *_TOWER),
    Family("SigLIP", "SiglipModel", "image and text", _TWO, 0, *_TOWER),
    Family("LLaVA", "LlavaModel", "image and text", _LLAVA, 1, *_TOWER),
    Family("LASR, encoder", "LasrEncoder", "padded sound", note=_ROTATED),
    Family("Whisper, encoder", "whisper.WhisperEncoder", "log-mel", note=_SCALED),
    Family("Qwen2-Audio, encoder", "Qwen2AudioEncoder", "log-mel", note=_SCALED),
    Family("Voxtral, encoder", "VoxtralEncoder", "log-mel", _WIDTHS | {"max_source_positions": TOKENS}, note=_SCALED),
    Family("ModernBERT", "ModernBertModel", "text", _MODERN, note=f"local layers take bn alone; {_ROTATED}"),
    Family("BERT with `is_decoder`", "BertModel", "text", {"is_decoder": True}, note="causal"),
    Family("CLIP, text tower", "CLIPTextModel", "text", note="causal"),
    Family("GPT-2", "GPT2Model", "text", {"n_embd": 32, "n_layer": 2, "n_head": HEADS}, note="causal"),
    Family("Llama", "LlamaModel", "text", _GROUPED, note=_DECODER),
    Family("Qwen2", "Qwen2Model", "text", _GROUPED, note=_DECODER),
    Family("Qwen3", "Qwen3Model", "text", _GROUPED, note=_DECODER),
    Family("Mistral", "MistralModel", "text", _GROUPED | {"sliding_window": 5}, note=f"{_LOCAL}; {_DECODER}"),
    Family("OLMo 2", "Olmo2Model", "text", _GROUPED, note=_DECODER),
    Family(
        "Gemma 2", "Gemma2Model", "text", _GEMMA | {"attn_logit_softcapping": None}, note=f"without a cap; {_LOCAL}"
    ),
    Family("Gemma 3", "Gemma3TextModel", "text", _GEMMA, note=f"{_LOCAL}; {_DECODER}"),
    Family("GPT-NeoX", "GPTNeoXModel", "text", note=f"causal; {_ROTATED}"),
    Family("Phi-3", "Phi3Model", "text", _GROUPED, note=_DECODER),
    Family("Llama with `is_causal=False`", "LlamaModel", "text", _GROUPED | {"is_causal": False}, note=_ROTATED),
    Family("wav2vec 2.0", "Wav2Vec2Model", "sound"),
    Family("HuBERT", "HubertModel", "sound"),
    Family("PatchTST", "PatchTSTModel", "series"),
)


class Refused(NamedTuple):
    """A family that is refused: when it is built, or in its first forward."""

    name: str
    model: str
    options: dict
    # Part of the error.
    error: str
    why: str
    when_built: bool = False

    def build(self, attn_implementation: str | None = None):
        of_model = model_class(self.model)
        return of_model._from_config(of_model.config_class(**self.options), attn_implementation=attn_implementation)

    def inputs(self) -> dict[str, torch.Tensor]:
        if "image_size" in self.options:
            height, width = pair(self.options["image_size"])
            return {"pixel_values": torch.randn(1, 3, height, width)}
        if "context_length" in self.options:
            return {"past_values": torch.randn(1, 2 * TOKENS, 2)}
        return {"input_ids": torch.randint(5, 40, (1, 8))}


_TEXT = _KINDS["text"]
_NO_DISPATCH = ("do not dispatch through transformers' AttentionInterface", "does not dispatch its attention by name")
_SEQ2SEQ = {"vocab_size": 50, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1}
_SPARSE = _TEXT | {"q_lora_rank": 16, "kv_lora_rank": 16, "n_routed_experts": 8}
_IN_PART = ("would have no effect on", "its encoder does not dispatch its attention by name")
_TABLE = ("takes its attention from a table of classes", "takes its attention from a table of its own")

REFUSED = (
    Refused("MPNet", "MPNetModel", _TEXT, *_NO_DISPATCH, when_built=True),
    Refused("Informer", "InformerModel", {"prediction_length": 4}, *_IN_PART, True),
    Refused("PEGASUS-X", "PegasusXModel", _SEQ2SEQ, *_IN_PART, True),
    Refused("BigBird-PEGASUS", "BigBirdPegasusModel", _SEQ2SEQ, *_IN_PART, True),
    Refused("SAM", "SamModel", {"vision_config": _WIDTHS}, *_TABLE, True),
    Refused("SAM-HQ", "SamHQModel", {"vision_config": _WIDTHS}, *_TABLE, True),
    Refused("Data2Vec, vision", "Data2VecVisionModel", _KINDS["image"], *_TABLE, True),
    Refused("GIT", "GitModel", _TEXT | {"vision_config": _WIDTHS}, *_TABLE, True),
    Refused("Falcon", "FalconModel", {"vocab_size": 50, "hidden_size": 32, "num_attention_heads": 4}, *_TABLE, True),
    Refused("Parakeet, encoder", "ParakeetEncoder", _WIDTHS, "computes with its mask", "relative position bias", True),
    Refused(
        "DeepSeek-V3.2",
        "DeepseekV32Model",
        _SPARSE,
        "computes with its mask",
        "a layer chooses keys by its mask",
        True,
    ),
    Refused("DeBERTa-v2", "DebertaV2Model", _TEXT, *_NO_DISPATCH, when_built=True),
    Refused(
        "Funnel", "FunnelModel", {"vocab_size": 50, "d_model": 32, "block_sizes": [1]}, *_NO_DISPATCH, when_built=True
    ),
    Refused(
        "ResNet",
        "ResNetModel",
        {"embedding_size": 8, "hidden_sizes": [8], "depths": [1]},
        _NO_DISPATCH[0],
        "no attention",
        when_built=True,
    ),
    Refused("CLAP, audio tower", "ClapAudioModel", {"depths": [1], "num_attention_heads": [2]}, *_NO_DISPATCH, True),
    Refused(
        "BEiT with relative positions",
        "BeitModel",
        _KINDS["image"] | {"use_relative_position_bias": True},
        "a bias",
        "relative position bias",
    ),
    Refused(
        "BART",
        "BartModel",
        _SEQ2SEQ,
        "self-attentions",
        "a decoder with cross attention",
    ),
    Refused(
        "Swin",
        "SwinModel",
        {"image_size": 16, "embed_dim": 8, "depths": [1], "num_heads": [2], "window_size": 2},
        "is learned, a bias",
        "relative position bias",
    ),
    Refused(
        "ViTMAE",
        "ViTMAEModel",
        _KINDS["image"] | _SQUARE,
        "random choice of patches",
        "sh: patches in random order",
    ),
    Refused(
        "PatchTST with `channel_attention`",
        "PatchTSTModel",
        _KINDS["series"] | {"channel_attention": True},
        "across channels by one layer",
        "sh: one layer attends along time and across channels",
    ),
    Refused(
        "LayoutLMv3",
        "LayoutLMv3Model",
        _TEXT | {"visual_embed": False, "coordinate_size": 6, "shape_size": 4, "hidden_size": 32},
        "`position_bias`",
        "relative position bias",
    ),
)


def _layout(family: Family) -> str:
    if family.most == "primal_dual_bn":
        return "not at all: `bn` alone"
    if family.grid is None:
        return "along the sequence"
    in_front = {0: "", 1: "; 1 token in front is kept apart"}
    layout = LAYOUTS.get(family.config().model_type)
    where = "on the grid" if layout is None or layout.open else "on the grid of the configuration"
    return where + in_front.get(family.prefix, f"; {family.prefix} tokens in front are kept apart")


def document() -> str:
    """The text of docs/families.md with the tables of what is tested here."""
    works = markdown_table(
        ("Family", "Class", "Keys are downsampled", "Remarks"),
        [(row.name, f"`{row.model}`", _layout(row), row.note) for row in FAMILIES],
    )
    refused = markdown_table(("Family", "Class", "Why"), [(row.name, f"`{row.model}`", row.why) for row in REFUSED])
    return replace_between(replace_between(DOCUMENT.read_text(), "families", works), "refused", refused)


if __name__ == "__main__":
    DOCUMENT.write_text(document())
