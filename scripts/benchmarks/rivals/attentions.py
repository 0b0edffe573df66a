"""
Other papers' attentions with the signature of `PrimalDualAttention`, so that they stand in the same encoder: from
`(batch, tokens, width)` to the same shape, and None in the place of maps.

Each computes what its paper says and runs through `scaled_dot_product_attention` wherever a softmax over products
occurs, also where the published code or transformers' is eager. `docs/rivals.md` has the citations.
"""

import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import FNetConfig, NystromformerConfig, PvtV2Config, SegformerConfig
from transformers.models.fnet.modeling_fnet import FNetBasicFourierTransform
from transformers.models.nystromformer.modeling_nystromformer import NystromformerSelfAttention
from transformers.models.pvt_v2.modeling_pvt_v2 import PvtV2SelfAttention
from transformers.models.segformer.modeling_segformer import SegformerAttention as TransformersSegformerAttention


def refuse_mask(name: str, attention_mask: torch.Tensor | None) -> None:
    """A mask is an error: this attention would not respect it."""
    if attention_mask is not None:
        raise ValueError(f"{name} has no way to leave padding out: pass texts of one length and no `attention_mask`.")


def split_heads(states: torch.Tensor, num_heads: int) -> torch.Tensor:
    """`(batch, tokens, width)` to `(batch, heads, tokens, head_dim)`."""
    return states.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def join_heads(states: torch.Tensor) -> torch.Tensor:
    """`(batch, heads, tokens, head_dim)` to `(batch, tokens, width)`."""
    return states.transpose(1, 2).flatten(2)


class LinformerAttention(nn.Module):
    """
    Softmax attention over `points` learned mixtures of the keys and of the values: E K and F V in place of K and V,
    with E and F of shape `(points, tokens)` shared by the heads. It takes one length, `tokens`.
    """

    def __init__(self, width: int, num_heads: int, tokens: int, points: int = 256):
        super().__init__()
        self.num_heads = num_heads
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (nn.Linear(width, width) for _ in range(4))
        # Mixtures of as many tokens keep the scale of one.
        self.key_mixture = nn.Parameter(torch.randn(points, tokens) / tokens**0.5)
        self.value_mixture = nn.Parameter(torch.randn(points, tokens) / tokens**0.5)

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *args, **kwargs):
        refuse_mask("Linformer", attention_mask)
        tokens = self.key_mixture.shape[1]
        if hidden_states.shape[1] != tokens:
            raise ValueError(f"Linformer was built for {tokens} tokens, got {hidden_states.shape[1]}.")
        query = split_heads(self.q_proj(hidden_states), self.num_heads)
        key = split_heads(self.key_mixture @ self.k_proj(hidden_states), self.num_heads)
        value = split_heads(self.value_mixture @ self.v_proj(hidden_states), self.num_heads)
        return self.o_proj(join_heads(scaled_dot_product_attention(query, key, value))), None


class NystromAttention(NystromformerSelfAttention):
    """
    transformers' Nystromformer attention with its two large softmaxes fused: of softmax(Q K~') Z (softmax(Q~ K') V)
    both outer factors are attentions, once the small Z is multiplied to the values first. Its convolution over 65
    tokens goes through the Fourier transform, which at thousands of tokens is faster on a CPU than `nn.Conv2d`. It
    takes one length, a multiple of the landmarks, the segments whose means are Q~ and K~.
    """

    def __init__(self, width: int, num_heads: int, tokens: int, landmarks: int = 64):
        if tokens % landmarks:
            raise ValueError(f"`tokens` must be a multiple of Nystromformer's {landmarks} landmarks, got {tokens}.")
        super().__init__(
            NystromformerConfig(
                hidden_size=width,
                num_attention_heads=num_heads,
                segment_means_seq_len=tokens,
                num_landmarks=landmarks,
                attention_probs_dropout_prob=0.0,
            )
        )
        self.o_proj = nn.Linear(width, width)

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *args, **kwargs):
        refuse_mask("Nystromformer", attention_mask)
        # Each of query and key takes the square root of the usual scaling, as in transformers' code.
        scaling = self.attention_head_size**-0.25
        query = split_heads(self.query(hidden_states), self.num_attention_heads) * scaling
        key = split_heads(self.key(hidden_states), self.num_attention_heads) * scaling
        value = split_heads(self.value(hidden_states), self.num_attention_heads)
        query_landmarks, key_landmarks = (
            states.unflatten(2, (self.num_landmarks, -1)).mean(dim=3) for states in (query, key)
        )
        inverse = self.iterative_inv((query_landmarks @ key_landmarks.transpose(-1, -2)).softmax(dim=-1))
        summary = scaled_dot_product_attention(query_landmarks, key, value, scale=1.0)
        # Values as the inverse makes them may be wider than the queries' type.
        summary = (inverse @ summary).to(query.dtype)
        context = scaled_dot_product_attention(query, key_landmarks, summary, scale=1.0)
        return self.o_proj(join_heads(context + self._convolve(value).to(context.dtype))), None

    def _convolve(self, value: torch.Tensor) -> torch.Tensor:
        """What `self.conv` gives, one filter a head along the tokens, of shape `(batch, heads, tokens, head_dim)`."""
        tokens, size = value.shape[2], self.conv_kernel_size
        # Long enough that the ends do not meet; bfloat16 has no Fourier transform.
        length = 2 ** (tokens + size).bit_length()
        spectrum = torch.fft.rfft(value.float(), n=length, dim=2)
        filters = torch.fft.rfft(self.conv.weight.float().squeeze(1), n=length, dim=1)
        # The conjugate turns the convolution into the correlation that torch calls convolution.
        shifted = torch.fft.irfft(spectrum * filters.conj(), n=length, dim=2)
        return shifted.roll(size // 2, dims=2)[:, :, :tokens]


class FourierMixing(FNetBasicFourierTransform):
    """transformers' FNet mixing: the real part of the Fourier transform over tokens and channels, without weights."""

    def __init__(self):
        super().__init__(FNetConfig())

    def forward(self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, *args, **kwargs):
        refuse_mask("FNet", attention_mask)
        # bfloat16 has no Fourier transform.
        (mixed,) = super().forward(hidden_states.float())
        return mixed.to(hidden_states.dtype), None


class WithPrefix(nn.Module):
    """Reduces the patches of a sequence by `reduction` and keeps the `prefix` tokens in front (CLS) as they are."""

    def __init__(self, reduction: nn.Module, prefix: int):
        super().__init__()
        self.reduction = reduction
        self.prefix = prefix

    def forward(self, hidden_states: torch.Tensor, height: int, width: int) -> torch.Tensor:
        reduced = self.reduction(hidden_states[:, self.prefix :], height, width)
        return torch.cat((hidden_states[:, : self.prefix], reduced), dim=1)


class SegformerAttention(TransformersSegformerAttention):
    """
    transformers' SegFormer attention: keys and values from a grid that a convolution of stride `ratio` has reduced,
    and from the `prefix` tokens in front of it.
    """

    def __init__(self, width: int, num_heads: int, ratio: int, prefix: int = 1):
        config = SegformerConfig(attention_probs_dropout_prob=0.0, attn_implementation="sdpa")
        super().__init__(config, width, num_heads, ratio)
        if ratio > 1:
            self.sequence_reduction = WithPrefix(self.sequence_reduction, prefix)

    def forward(self, hidden_states: torch.Tensor, attention_mask=None, *args, grid_size: tuple[int, int], **kwargs):
        refuse_mask("SegFormer", attention_mask)
        return super().forward(hidden_states, *grid_size)


class PvtV2Attention(PvtV2SelfAttention):
    """
    transformers' PVTv2 attention with its softmax fused: keys and values from a grid that a convolution of stride
    `ratio` has reduced, or averaged to 7 x 7 without one, as in PVTv2's linear version; and from the `prefix` tokens.
    """

    def __init__(self, width: int, num_heads: int, ratio: int | None = None, prefix: int = 1):
        config = PvtV2Config(linear_attention=ratio is None, attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
        super().__init__(config, width, num_heads, ratio or 1)
        self.prefix = prefix

    def forward(self, hidden_states: torch.Tensor, attention_mask=None, *args, grid_size: tuple[int, int], **kwargs):
        refuse_mask("PVTv2", attention_mask)
        query = self.transpose_for_scores(self.query(hidden_states))
        points = torch.cat((hidden_states[:, : self.prefix], self._reduce(hidden_states, grid_size)), dim=1)
        key, value = (self.transpose_for_scores(project(points)) for project in (self.key, self.value))
        return self.proj(join_heads(scaled_dot_product_attention(query, key, value))), None

    def _reduce(self, hidden_states: torch.Tensor, grid_size: tuple[int, int]) -> torch.Tensor:
        patches = hidden_states[:, self.prefix :]
        if not self.linear_attention and self.spatial_reduction_ratio == 1:
            return patches
        grid = patches.transpose(1, 2).unflatten(2, grid_size)
        if self.linear_attention:
            grid = self.pool(grid)
        points = self.layer_norm(self.spatial_reduction(grid).flatten(2).transpose(1, 2))
        return self.act(points) if self.linear_attention else points
