"""How tokens become vectors, and which tokens a text model takes."""

import torch
from torch import nn
from transformers import initialization as init

from .configuration_primal_dual_models import PrimalDualTextConfig
from .layers_primal_dual import NORMS
from .padding_primal_dual import can_look


class PrefixToken(nn.Module):
    """A learned token in front of a text, in which its place is learned too."""

    def __init__(self, config: PrimalDualTextConfig):
        super().__init__()
        self.initializer_range = config.initializer_range
        self.weight = nn.Parameter(torch.empty(config.hidden_size))

    def reset_parameters(self) -> None:
        init.normal_(self.weight, std=self.initializer_range)

    def forward(self, embeddings: torch.Tensor) -> torch.Tensor:
        """`(batch, tokens, width)` to `(batch, 1 + tokens, width)`."""
        prefix = self.weight.to(embeddings.dtype).expand(embeddings.shape[0], 1, -1)
        return torch.cat((prefix, embeddings), dim=1)


class PrimalDualTextEmbeddings(nn.Module):
    """Embeddings of tokens, of their types where there are any, and of their positions, added in BERT's order."""

    def __init__(self, config: PrimalDualTextConfig):
        super().__init__()
        width = config.hidden_size
        self.word_embeddings = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_token_id)
        self.position_embeddings = nn.Embedding(config.max_position_embeddings, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width) if config.type_vocab_size else None
        self.prefix = PrefixToken(config) if config.prepend_cls else None
        self.norm = NORMS[config.norm_type](width, eps=config.norm_eps) if config.embedding_norm else None
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(
        self,
        input_ids: torch.Tensor | None,
        attention_mask: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """
        Args:
            input_ids (`torch.LongTensor` of shape `(batch, tokens)`), or `inputs_embeds` instead.
            attention_mask (`torch.BoolTensor` of shape `(batch, tokens)`, *optional*): from `check_mask`.
            token_type_ids (`torch.LongTensor` of shape `(batch, tokens)`, *optional*): zeros by default.
            inputs_embeds (`torch.Tensor` of shape `(batch, tokens, width)`, *optional*).
            position_ids (`torch.LongTensor` of shape `(batch, tokens)`): the tokens' places.

        Returns:
            The embeddings and the mask, both with the prefix token where there is one.
        """
        embeddings = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        if self.token_type_embeddings is not None:
            types = self.token_type_embeddings
            if token_type_ids is None:
                token_type_ids = torch.zeros_like(position_ids)
            embeddings = embeddings + types(token_type_ids)
        embeddings = embeddings + self.position_embeddings(position_ids)
        if self.prefix is not None:
            embeddings = self.prefix(embeddings)
            if attention_mask is not None:
                attention_mask = torch.cat(
                    (attention_mask.new_ones(attention_mask.shape[0], 1), attention_mask), dim=1
                )
        if self.norm is not None:
            embeddings = self.norm(embeddings, attention_mask)
        return self.dropout(embeddings), attention_mask


def check_tokens(
    config: PrimalDualTextConfig, input_ids: torch.Tensor, token_type_ids: torch.Tensor | None, prefix: str = ""
) -> None:
    """
    Args:
        prefix: stands before the arguments' names in the errors.

    Raises:
        ValueError: for another shape, no token or too many, or one outside of its vocabulary (looked at on a CPU; on
            other devices that would wait for them).
    """
    shape, longest = tuple(input_ids.shape), config.max_position_embeddings
    if len(shape) != 2 or not 1 <= shape[1] <= longest:
        raise ValueError(
            f"`{prefix}input_ids` must have shape (batch, tokens) with 1 to `max_position_embeddings` = {longest} "
            f"tokens, got {shape}."
        )
    _check_range(input_ids, f"{prefix}input_ids", "vocab_size", config.vocab_size)
    if token_type_ids is not None and config.type_vocab_size:
        if token_type_ids.shape != input_ids.shape:
            raise ValueError(
                f"`{prefix}token_type_ids` must have the shape of the tokens, {shape}, got "
                f"{tuple(token_type_ids.shape)}."
            )
        _check_range(token_type_ids, f"{prefix}token_type_ids", "type_vocab_size", config.type_vocab_size)


def check_positions(
    config: PrimalDualTextConfig,
    position_ids: torch.Tensor,
    tokens: torch.Tensor,
    mask: torch.Tensor | None,
) -> None:
    """
    Args:
        tokens (`torch.Tensor` of shape `(batch, tokens, ...)`): what has these positions.
        mask (`torch.BoolTensor` of shape `(batch, tokens)`, *optional*): true for a real token.

    Raises:
        ValueError: for another shape, a place outside of the learned ones, or one that is below that of the real token
            before it, as in packed texts, which would attend to each other (looked at on a CPU).
    """
    batch, length = tokens.shape[:2]
    if position_ids.shape not in ((batch, length), (1, length)):
        raise ValueError(
            f"`position_ids` must have shape (batch, tokens) = {(batch, length)}, got {tuple(position_ids.shape)}."
        )
    _check_range(position_ids, "position_ids", "max_position_embeddings", config.max_position_embeddings)
    if position_ids.device.type != "cpu" or not can_look(position_ids):
        return
    real = torch.ones_like(position_ids, dtype=torch.bool) if mask is None else mask
    falls = real & (position_ids < torch.where(real, position_ids, -1).cummax(dim=1).values)
    if falls.any():
        row, token = falls.nonzero()[0].tolist()
        raise ValueError(
            f"`position_ids` must not fall within a row, as where texts are packed one behind the other, which would "
            f"attend to each other: row {row} falls at token {token}. Pass each text as a row of its own."
        )


def _check_range(ids: torch.Tensor, name: str, size_name: str, size: int) -> None:
    if ids.device.type != "cpu" or not can_look(ids) or not ids.numel():
        return
    lowest, highest = (bound.item() for bound in ids.aminmax())
    if lowest < 0 or highest >= size:
        raise ValueError(
            f"`{name}` must lie in 0 to {size - 1} (`{size_name}` = {size}), got {lowest if lowest < 0 else highest}."
        )


__all__ = ["PrefixToken", "PrimalDualTextEmbeddings", "check_positions", "check_tokens"]
