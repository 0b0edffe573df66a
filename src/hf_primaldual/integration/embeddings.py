"""What of a model's output must not change, and examples as a model takes them."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from transformers import AutoImageProcessor, AutoTokenizer, PreTrainedModel

# Of texts in tokens, where nobody says otherwise: calibration is to take minutes on a CPU.
LONGEST = 256


def as_batches(examples: Iterable, model: PreTrainedModel, size: int = 8) -> list[Mapping[str, torch.Tensor]]:
    """
    Examples as a model takes them: batches are left as they are; texts go through the tokenizer, cut to 256 tokens
    or what the model takes, and images through the image processor, that lie with the checkpoint.

    Raises:
        ValueError: where a checkpoint has none.
    """
    if isinstance(examples, str | Mapping):
        raise ValueError("`calibration` must hold texts, images or batches, got one: put it in a list.")
    examples, name_or_path = list(examples), model.name_or_path
    if not examples or isinstance(examples[0], Mapping):
        return examples
    is_text = isinstance(examples[0], str)
    loader, kind = (AutoTokenizer, "tokenizer") if is_text else (AutoImageProcessor, "image processor")
    try:
        processor = loader.from_pretrained(name_or_path)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"`calibration` holds {'texts' if is_text else 'images'}, but no {kind} lies with {name_or_path!r}; give "
            "batches as the model takes them, dictionaries of tensors."
        ) from error
    how = {}
    if is_text:
        positions = getattr(model.config, "max_position_embeddings", LONGEST)
        longest = min(LONGEST, processor.model_max_length, positions)
        how = {"padding": True, "truncation": True, "max_length": longest}
        # With those of their length: padding says nothing.
        examples.sort(key=len)
    parts = [examples[start : start + size] for start in range(0, len(examples), size)]
    return [dict(processor(part, return_tensors="pt", **how)) for part in parts]


def _mean(output: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    states = _states(output)
    if states.dim() < 3:
        return states
    mask = token_mask(batch, states)
    return (states * mask).sum(dim=1) / mask.sum(dim=1)


def _first(output: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    states = _states(output)
    # Of a row that is padded in front it is the first real token.
    return (
        states
        if states.dim() < 3
        else states[torch.arange(len(states)), token_mask(batch, states)[..., 0].argmax(dim=1)]
    )


def _all(output: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    states = _states(output)
    return states if states.dim() < 3 else (states * token_mask(batch, states)).flatten(1)


def _states(output: Any) -> torch.Tensor:
    """`(batch, tokens, width)`, or logits of shape `(batch, classes)`."""
    for name in ("logits", "last_hidden_state"):
        if isinstance(output, Mapping) and name in output:
            return output[name]
    raise ValueError(
        f"`embedding` must be a function of the output and a batch for a model that returns a {type(output).__name__} "
        "without `logits` and `last_hidden_state`."
    )


def token_mask(batch: Mapping[str, torch.Tensor], states: torch.Tensor) -> torch.Tensor:
    """
    Which tokens are real, in the dtype of the states and of shape `(batch, tokens, 1)`.

    Raises:
        ValueError: for padding that is not told of by token, such as that of a sound's samples.
    """
    mask = batch.get("attention_mask")
    is_of_tokens = mask is not None and mask.shape == states.shape[:2]
    if mask is not None and not is_of_tokens and mask.dim() == 2 and not mask.all():
        raise ValueError(
            f"`attention_mask` of shape {tuple(mask.shape)} has padding, but tells nothing of the {states.shape[1]} "
            "states of each example; take examples of one length, without padding."
        )
    return (mask if is_of_tokens else states.new_ones(states.shape[:2])).unsqueeze(-1).to(states.dtype)


EMBEDDINGS = {"mean": _mean, "first": _first, "all": _all}


__all__ = ["EMBEDDINGS", "as_batches", "token_mask"]
