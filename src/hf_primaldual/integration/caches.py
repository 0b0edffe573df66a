"""The cache of a layer, which transformers' models do not hand to their attention function, seen by a hook."""

from torch import nn
from transformers import PreTrainedModel
from transformers.cache_utils import Cache

from ..modeling.decoding_primal_dual import Memory, memory_of
from .settings import ATTENTIONS

_MEMORY = "primal_dual_memory"


def watch_caches(model: PreTrainedModel) -> None:
    """Has each causal layer of a model look at its cache before it adds keys to it."""
    for module in model.modules():
        is_layer = getattr(module, "layer_idx", None) is not None and getattr(module, "is_causal", False)
        if is_layer and hasattr(module, "config") and not hasattr(module, _MEMORY):
            module.register_forward_pre_hook(_look, with_kwargs=True)
            setattr(module, _MEMORY, None)


def _look(module: nn.Module, args: tuple, kwargs: dict) -> None:
    if module.config._attn_implementation in ATTENTIONS:
        caches = [each for each in (*args, *kwargs.values()) if isinstance(each, Cache)]
        setattr(module, _MEMORY, memory_of(caches[0], module.layer_idx) if len(caches) == 1 else None)


def memory_for(module: nn.Module) -> Memory | None:
    """What is remembered of the cache that the layer was just called with."""
    memory = getattr(module, _MEMORY, None)
    if memory is not None:
        # The layer outlives the cache.
        setattr(module, _MEMORY, None)
    return memory


__all__ = ["memory_for", "watch_caches"]
