"""
What becomes of each `model_type` of transformers that dispatches its attention, tried on a tiny model of it.

    python -m tests.integration.model_types

writes the table of docs/families.md in some minutes. Of a sample of them test_families.py asks whether it still holds.
"""

import functools
import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable

import torch
import transformers
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel
from transformers.masking_utils import sdpa_mask
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

from hf_primaldual import apply
from hf_primaldual.hub.markdown import markdown_table, replace_between
from hf_primaldual.integration.dispatch import has_dispatch
from hf_primaldual.integration.layouts import INPUTS, LAYOUTS
from hf_primaldual.integration.settings import with_parts
from tests.integration.families import DOCUMENT, HEADS, SCALES, TOKENS
from tests.integration.reference import register_naive

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
    r"(.*_)?vocab_size": 60,
    r"image_size": 20,
    r"patch_size|num_frames": 4,
    r"max_position_embeddings": 64,
    r"max_source_positions": TOKENS,
    r"num_mel_bins": 16,
    r"num_experts|num_local_experts|n_routed_experts": 2,
    r"num_experts_per_tok|moe_top_k": 1,
}
TOKEN_NUMBERS = {
    r"pad_token_id": 1,
    r"(bos|cls)_token_id": 2,
    r"(eos|sep|mask)_token_id": 3,
    r"decoder_start_token_id|image_token_i(d|ndex)": 4,
}
# Weights of a model that is not tiny in spite of them.
MOST = 3e7


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


def inputs_of(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    takes, generator = inspect.signature(type(model).forward).parameters, torch.Generator().manual_seed(1)
    vision, sound = (getattr(model.config, f"{part}_config", None) or model.config for part in ("vision", "audio"))
    side = getattr(vision, "image_size", None) or 20
    size = (getattr(vision, "num_channels", 3), *(side if isinstance(side, list | tuple) else (side, side))[:2])
    bins, times = getattr(sound, "num_mel_bins", 16), 2 * getattr(sound, "max_source_positions", TOKENS)
    shapes = {
        "pixel_values": (getattr(vision, "num_frames", None), *size),
        "input_values": (getattr(model.config, "max_length", 64), bins) if hasattr(sound, "num_mel_bins") else (3000,),
        "input_features": (bins, times),
        "past_values": (getattr(model.config, "context_length", 32), getattr(model.config, "num_input_channels", 1)),
    }
    inputs = {
        name: torch.randn(2, *(length for length in shape if length is not None), generator=generator)
        for name, shape in shapes.items()
        if name in takes
    }
    for name in ("input_ids", "decoder_input_ids"):
        if name in takes:
            inputs[name] = torch.randint(5, 50, (2, TOKENS), generator=generator)
    return inputs


def _output(model: PreTrainedModel, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    # Some draw which patches they see.
    torch.manual_seed(0)
    return next(value for value in model(**inputs).values() if isinstance(value, torch.Tensor))


def _short(error: Exception) -> str:
    """What an error says, without the advice."""
    told = re.sub(r"^`(model|attn_implementation='\w+')`:? (would have )?", "", str(error))
    return re.split(r"; |, but |, which |\. |: use |, whose |, so that | for a '", told)[0].strip(" .\n")


def register_formulas(inputs: dict[str, torch.Tensor], **choices) -> str:
    """The naive attention, of which each layer is given the grid of its tokens, under a name that is returned."""

    def formulas(module, query, key, value, attention_mask, **kwargs):
        how, layout = {}, LAYOUTS.get(module.config.model_type)
        if layout is not None and "scales" in choices:
            how["prefix"] = layout.prefix(module.config) if callable(layout.prefix) else layout.prefix
            images = next((inputs[name] for name in INPUTS if name in inputs), None)
            how["grid"] = layout.grid and layout.grid(module.config, tuple(images.shape))
        naive = AttentionInterface()[register_naive(**choices, **how)]
        return naive(module, query, key, value, attention_mask, **kwargs)

    AttentionInterface.register("formulas", formulas)
    AttentionMaskInterface.register("formulas", sdpa_mask)
    return "formulas"


def _tried(build: Callable, inputs: dict | None, attention: str, **settings) -> str:
    """Whether an attention works, runs, or why it does not."""
    model = build()
    before = None if inputs is None else _output(model, inputs)
    try:
        apply(model, attention, bn_eps=0.1, **settings)
        if inputs is None:
            return "not tried"
        after = _output(model, inputs)
    except ValueError as error:
        return _short(error)
    except Exception as error:
        return f"CRASHES: {type(error).__name__} {_short(error)}"
    apply(model, "softmax")
    if torch.equal(before, after) or not torch.allclose(_output(model, inputs), before, rtol=1e-3, atol=1e-4):
        return "WRONG"
    scales = {"scales": settings["head_scales"]} if settings else {}
    try:
        model.set_attn_implementation(register_formulas(inputs, statistics=(1.0, 1, 0.1), **scales))
        expected = _output(model, inputs)
    except Exception as error:
        print(type(model).__name__, "is not compared:", type(error).__name__, str(error)[:150])
        return "runs"
    return "works" if (expected - after).abs().max() < 1e-3 * after.abs().max() else "WRONG"


def _build(model_class: type[PreTrainedModel], but: str) -> PreTrainedModel:
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


def _smallest(model_class: type[PreTrainedModel]) -> tuple[Callable | None, dict | None]:
    """How a small model of a class is built, and inputs that it takes, if any."""
    found = why = None
    for but in ("", ".*head_dim|kv_channels", ".*head_dim|kv_channels|.*heads", "image_size|patch_size"):
        build = functools.partial(_build, model_class, but)
        try:
            with torch.device("meta"):
                if sum(weight.numel() for weight in build().parameters()) > MOST:
                    continue
            model = build()
        except Exception as error:
            why = error
            continue
        found = found or build
        inputs = inputs_of(model)
        texts = {name: value for name, value in inputs.items() if value.dim() == 2 and not value.is_floating_point()}
        turned = {name: value.mT if name == "input_features" else value for name, value in inputs.items()}
        for some in (inputs, turned, texts):
            try:
                _output(model, some)
            except Exception as error:
                why = error
                continue
            return build, some
    if why is not None:
        print(model_class.__name__, type(why).__name__, str(why)[:150])
    return found, None


@torch.no_grad()
def row(model_type: str) -> tuple[str, str, str, str] | None:
    """Type, class, and what becomes of bn and of bn+sh; `None` for one that does not dispatch."""
    model_class = class_of(model_type)
    if model_class is None:
        return None
    build, inputs = _smallest(model_class)
    if build is None:
        return (model_type, f"`{model_class.__name__}`", *["not tried"] * 2) if _may_dispatch(model_class) else None
    if not has_dispatch(build()):
        return None
    bn, both = _tried(build, inputs, "bn"), _tried(build, inputs, "bn+sh", head_scales=SCALES)
    return model_type, f"`{model_class.__name__}`", bn, both


def _may_dispatch(model_class: type[PreTrainedModel]) -> bool:
    return "ALL_ATTENTION_FUNCTIONS" in inspect.getsource(inspect.getmodule(model_class))


def table(rows) -> str:
    return markdown_table(("`model_type`", "Class", "`bn`", "`bn+sh`"), rows)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    rows = [found for model_type in sorted(CONFIG_MAPPING) if (found := row(model_type))]
    DOCUMENT.write_text(replace_between(DOCUMENT.read_text(), "model types", table(rows)))
