"""A tiny model of any `model_type` of transformers, and inputs for it: by rules, and by a few fields of some types."""

import functools
import importlib
import inspect
import itertools
import math
import pkgutil
import re
from collections.abc import Callable, Iterator

import torch
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from hf_primaldual.integration.settings import with_parts
from hf_primaldual.modeling.configuration_primal_dual_models import pair
from tests.integration.families import HEADS, TOKENS

# What fields of a configuration become, by what they are called. Numbers that are smaller already stay.
SMALL = {
    r"(hidden|embed|embedding|output|out_hidden|projection|true_hidden)_(size|dim)|d_model|n_embd|width|model_dim": 32,
    r"(encoder|decoder|vision)_hidden_size|hidden_sizes|dim": 32,
    r"(num_|n_|num_hidden_|num_encoder_|num_decoder_|encoder_|decoder_|encoder_num_hidden_)layers?|depth|n_block": 2,
    r"decoder_num_hidden_layers|num_blocks": 2,
    r"(num_|n_|num_attention_|encoder_attention_|decoder_attention_|num_key_value_|attention_)heads?|n_head": HEADS,
    r"(encoder|decoder)_num_(attention|key_value)_heads": HEADS,
    r"(moe_)?intermediate_size|(encoder_|decoder_)?ffn_dim|mlp_dim|n_inner|d_ff|(intra_)?bottleneck_size": 32,
    r"head_dim|d_kv|attention_head_size|kv_channels|qk_(rope|nope)_head_dim|v_head_dim": 8,
    r"(kv|q)_lora_rank": 16,
    r"(.*_)?vocab_size(_per_layer_input)?": 60,
    r"num_queries": TOKENS,
    r"upsample_groups": 32,
    r"(expert_)?ffn_hidden_size": 32,
    r"image_size": 20,
    r"patch_size|num_frames": 4,
    r"max_position_embeddings": 64,
    r"max_source_positions": TOKENS,
    r"num_mel_bins": 16,
    r"num_experts|num_local_experts|n_routed_experts|zero_expert_num": 2,
    r"num_experts_per_tok|moe_top_k": 1,
}
TOKEN_NUMBERS = {
    r"pad_token_id": 1,
    r"(bos|cls)_token_id": 2,
    r"(eos|sep|mask)_token_id": 3,
    r"decoder_start_token_id|image_token_i(d|ndex)": 4,
}
# What a type needs besides. A dictionary is added to the one that is there.
_HEADS = {"num_key_value_heads": HEADS, "head_dim": 8}
_AXES = {"rope_parameters": {"mrope_section": [2, 1, 1]}}
_SERIES = {"prediction_length": 4, "context_length": 16}
FIELDS = {
    "axk1": {"n_group": 1, "topk_group": 1},
    "blt": {"encoder_hash_byte_group_vocab": 60},
    "bridgetower_text_model": {"hidden_size": 64},
    "bridgetower_vision_model": {"hidden_size": 64},
    "chameleon": {"vocabulary_map": {"<image>": 4}},
    "codegen": {"rotary_dim": 8},
    "cohere_compass_text": {"rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 1e4}}},
    "deepseek_ocr2_text": {"mlp_layer_types": ["dense"] * 2},
    "deepseek_v2": {"num_experts_per_tok": 1},
    "diffusion_gemma_text": {"num_experts": 2, "moe_intermediate_size": 32, "top_k_experts": 1},
    "dots1": {"n_routed_experts": 2, "n_shared_experts": 1, "num_experts_per_tok": 1},
    "emu3": {"vocabulary_map": {"<image>": 4, "<|extra_200|>": 5}},
    "ernie4_5_vl_moe_text": {"rope_parameters": {"mrope_section": [1, 1, 2]}, "moe_intermediate_size": [32, 32]},
    "gemma3n_text": {"num_kv_shared_layers": 0, "layer_types": ["sliding_attention", "full_attention"]},
    "gemma4_vision": {"pooling_kernel_size": 5},
    "glm4v_moe_text": {"rope_parameters": {"mrope_section": [1, 1, 0]}},
    "glm4v_text": _AXES,
    "glm_image_text": _AXES,
    "glm_ocr_text": _AXES,
    "gptj": {"rotary_dim": 8},
    "hrm_text": {"H_cycles": 1, "L_cycles": 1, "num_layers_per_stack": 1},
    "hunyuan_v1_dense": _HEADS,
    "hunyuan_v1_moe": _HEADS,
    "hunyuan_vl_text": _HEADS | _AXES,
    "informer": _SERIES,
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "llama4_vision_model": {
        "image_size": 16,
        "intermediate_size": 128,
        "projector_input_dim": 32,
        "projector_output_dim": 32,
    },
    "longcat_flash": {"qk_head_dim": 16, "moe_topk": 2},
    "ministral": _HEADS,
    "molmo2_vision": {"num_position_embeddings": 25},
    "moonshine_streaming": {"num_key_value_heads": HEADS},
    "nemotron": _HEADS,
    "pix2struct_text_model": {"initializer_range": 0.02},
    "pop2piano": {"use_cache": False, "is_decoder": False},
    "qwen2_5_omni_text": _AXES,
    "qwen2_5_vl_text": _AXES,
    "qwen2_vl_text": _AXES,
    "sapiens2": {"num_key_value_heads_per_layer": [HEADS] * 2},
    "qwen3_omni_moe_talker_text": {"shared_expert_intermediate_size": 32},
    "step3p5": {"sliding_window": 4},
    "swin": {"embed_dim": 16, "depths": [1, 1], "num_heads": [HEADS] * 2, "window_size": 5},
    "t5gemma2_text": {"dropout_rate": 0.0},
    "time_series_transformer": _SERIES,
    "vit": {"pooler_output_size": 32},
    "xmod": {"default_language": "en_XX"},
}
# Weights of a model that is not tiny in spite of them.
MOST = 4e7
# Combinations of inputs that are tried.
MOST_INPUTS = 60
# Images in patches, of which a model sees all in a row: times, rows and columns of each.
GRIDS = [[1, 4, 6], [1, 2, 8]]
PATCHES = 40


def shrink(config: PreTrainedConfig, but: str = "") -> PreTrainedConfig:
    """A tiny configuration, `but` for the fields that are called so."""
    for part in with_parts(config):
        for name, value in list(vars(part).items()):
            if re.fullmatch(but, name):
                continue
            small = next((size for names, size in SMALL.items() if re.fullmatch(names, name)), None)
            number = next((number for names, number in TOKEN_NUMBERS.items() if re.fullmatch(names, name)), None)
            unset = value is None and name in ("vocab_size", "pad_token_id")
            if number is not None and (unset or type(value) is int):
                setattr(part, name, number)
            elif small is not None and (unset or (type(value) is int and value > small)):
                setattr(part, name, small)
            elif isinstance(value, dict) and "mrope_section" in value:
                setattr(part, name, value | {"mrope_section": [2, 1, 1]})
            elif name in ("image_size", "patch_size") and isinstance(value, list | tuple):
                setattr(part, name, type(value)(min(side, small) for side in value))
            elif name == "layer_types" and value:
                part.layer_types = list(value)[-2:]
        for name, value in FIELDS.get(part.model_type, {}).items():
            setattr(part, name, {**(getattr(part, name, None) or {}), **value} if isinstance(value, dict) else value)
    return config


def class_of(model_type: str) -> type[PreTrainedModel] | None:
    """The base model of a type, or the first of its models where no Auto class has one."""
    config_class, wanted, found = CONFIG_MAPPING[model_type], MODEL_MAPPING_NAMES.get(model_type), None
    wanted = (wanted,) if isinstance(wanted, str | None) else wanted
    package = importlib.import_module(config_class.__module__.rpartition(".")[0])
    for file in pkgutil.iter_modules(package.__path__):
        if not file.name.startswith("modeling_"):
            continue
        try:
            module = importlib.import_module(f"{package.__name__}.{file.name}")
        except ImportError:
            continue
        for name, value in vars(module).items():
            if isinstance(value, type) and issubclass(value, PreTrainedModel) and value.config_class is config_class:
                if name in wanted:
                    return value
                if found is None and "forward" in vars(value) and "For" not in name and "Decoder" not in name:
                    found = value
    return found


def build(model_class: type[PreTrainedModel], but: str = "") -> PreTrainedModel:
    torch.manual_seed(0)
    config = shrink(CONFIG_MAPPING[model_class.config_class.model_type](), but)
    model = model_class._from_config(config).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight, std=0.3)
    for weight in model.parameters():
        # Such as a temperature that starts at zero.
        if not weight.is_meta and not weight.any():
            torch.nn.init.normal_(weight, std=0.3)
    return model


def _field(config: PreTrainedConfig, *names: str, default):
    """The first of some fields that a configuration has."""
    return next((value for name in names if (value := getattr(config, name, None)) is not None), default)


# What a model is given where it takes it; whatever else it must have is given too.
OFFERED = (
    "pixel_values",
    "input_values",
    "input_features",
    "past_values",
    "input_ids",
    "decoder_input_ids",
    "grid_thw",
    "input_features_mask",
    "spatial_shapes",
    "pixel_attention_mask",
    "target_sizes",
    "feature_lens",
)


def _shapes(config: PreTrainedConfig) -> dict[str, list[tuple[int, ...]]]:
    """Shapes that inputs of floats may have, the likelier first."""
    vision, sound = (getattr(config, f"{part}_config", None) or config for part in ("vision", "audio"))
    side = getattr(vision, "image_size", None) or 20
    channels = _field(vision, "num_channels", "in_channels", default=3)
    size = (channels, *(side if isinstance(side, list | tuple) else (side, side))[:2])
    frames = _field(vision, "num_frames", "frames_per_clip", default=2)
    images = [(2, frames, *size), (2, *size), (2 * frames, *size), (2, channels, 64, 64)]
    if getattr(vision, "num_frames", None) is None:
        images[:2] = images[1::-1]
    patch = pair(_field(vision, "patch_size", default=4))[-2:]
    times, area = _field(vision, "temporal_patch_size", default=1), channels * math.prod(patch)
    flat = [(PATCHES, count * area) for count in (times, 1, 2)]
    patches = [*flat, (PATCHES, channels, *patch), (1, PATCHES, channels, *patch), (PATCHES, 2, *patch, channels)]
    bins = _field(sound, "num_mel_bins", "feature_projection_input_dim", default=16)
    length = 2 * getattr(sound, "max_source_positions", TOKENS)
    spectrum = [(2, getattr(config, "max_length", 64), bins)] if hasattr(sound, "num_mel_bins") else []
    stacked = bins * _field(sound, "num_stacked_frames", default=1)
    series = getattr(config, "context_length", 32)
    embedded = (2, TOKENS, _field(config, "hidden_size", "d_model", default=32))
    return {
        "pixel_values": [*images, (2, 25, area), *patches, (1, channels, patch[0], PATCHES * patch[1])],
        "pixel_values_videos": images,
        "input_values": [*spectrum, (2, 3200), (2, 1, 3200)],
        "input_features": [
            (2, bins, length),
            (2, length, bins),
            (2, 24, bins),
            (2, length, stacked),
            (bins, 2 * length),
        ],
        "past_values": [(2, series, getattr(config, "num_input_channels", 1)), (2, series)],
        "hidden_states": [*flat, embedded],
        **{name: [embedded] for name in ("inputs_embeds", "context", "query_embeds")},
    }


def _numbers(config: PreTrainedConfig) -> dict[str, list[torch.Tensor]]:
    """Inputs of whole numbers by their names."""
    generator, grids = torch.Generator(torch.get_default_device()).manual_seed(1), torch.tensor(GRIDS)
    books = _field(config, "num_codebooks", default=1)
    shapes = dict.fromkeys(((2, TOKENS), (2, TOKENS, books + 1), (2, TOKENS, books), (2 * books, TOKENS)))
    codes = [torch.randint(5, 50, shape, generator=generator) for shape in shapes]
    texts = [torch.randint(5, 50, (2, TOKENS), generator=generator)]
    frames = [torch.ones(2, length).long() for length in (2 * TOKENS, 24, TOKENS)]
    places = torch.cartesian_prod(torch.arange(5), torch.arange(5)).expand(2, -1, -1)
    return {
        "input_ids": codes,
        "decoder_input_ids": texts,
        "qformer_input_ids": texts,
        "grid_thw": [grids],
        "image_grid_thw": [grids],
        "merge_sizes": [torch.tensor([2, 2])],
        "target_sizes": [grids[:, 1:]],
        "spatial_shapes": [torch.tensor([[5, 5], [3, 4]])],
        "pixel_attention_mask": [(torch.arange(25) < torch.tensor([[25], [12]])).long()],
        "pixel_position_ids": [places],
        "attention_mask": frames[2:],
        "mask": frames[:1],
        "input_features_mask": frames[:2],
        "feature_lens": [torch.tensor([2 * TOKENS, 2 * TOKENS])],
        "past_values_padding": [torch.zeros(2, getattr(config, "context_length", 32)).long()],
        "freq": [torch.zeros(2, 1).long()],
    }


def inputs_of(model: PreTrainedModel) -> Iterator[dict[str, torch.Tensor]]:
    """What a model may take, the fullest first."""
    takes, generator = (
        inspect.signature(type(model).forward).parameters,
        torch.Generator(torch.get_default_device()).manual_seed(1),
    )
    needed = [
        name for name, one in takes.items() if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD
    ]
    names = dict.fromkeys([*(name for name in OFFERED if name in takes), *needed[1:]])
    may_be = _numbers(model.config)
    for name, shapes in _shapes(model.config).items():
        may_be[name] = [torch.randn(*shape, generator=generator) for shape in dict.fromkeys(shapes)]
    if missing := [name for name in names if name not in may_be]:
        raise ValueError(f"has inputs of its own: {', '.join(missing[:3])}")
    for some in itertools.islice(itertools.product(*(may_be[name] for name in names)), MOST_INPUTS):
        yield dict(zip(names, some, strict=True))
    if "input_ids" in names:
        yield {name: may_be[name][0] for name in names if "input_ids" in name}
    if "inputs_embeds" in takes:
        yield {"inputs_embeds": may_be["inputs_embeds"][0]}


def output_of(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    # Some draw which patches they see.
    torch.manual_seed(0)
    found = model(**inputs)
    found = found if isinstance(found, tuple) else (found,) if isinstance(found, torch.Tensor) else found.values()
    return next(value for value in found if isinstance(value, torch.Tensor) and value.is_floating_point())


def _reason(error: Exception) -> str:
    if isinstance(error, ImportError):
        return "needs " + re.search(r"requires the (\w+) library", str(error))[1]
    return str(error) if "inputs of its own" in str(error) else ""


def _on_meta(builds: Callable) -> PreTrainedModel:
    with torch.device("meta"):
        return builds()


def smallest(model_class: type[PreTrainedModel]) -> tuple[Callable | None, dict | None, str]:
    """How a small model of a class is built; inputs that it takes, if any; and if not, why."""
    found, why = None, ""
    for but in ("", ".*head_dim|kv_channels", ".*head_dim|kv_channels|.*heads", "image_size|patch_size"):
        builds = functools.partial(build, model_class, but)
        try:
            if sum(weight.numel() for weight in _on_meta(builds).parameters()) > MOST:
                # Without weights it can still be refused.
                found, why = found or functools.partial(_on_meta, builds), why or "too large"
                continue
            model = builds()
        except Exception as error:
            why = why or _reason(error) or "its sizes are its own"
            continue
        found = found or builds
        try:
            candidates = list(inputs_of(model))
        except ValueError as error:
            return found, None, str(error)
        for inputs in candidates:
            try:
                if not output_of(model, inputs).isnan().any():
                    return builds, inputs, ""
                why = why or "its output is not a number"
            except Exception as error:
                why = why or _reason(error) or "takes other inputs"
    return found, None, why
