"""Token Merging against the paper's description, token by token."""

import pytest
import torch
from rivals.merging import MergingLayers, attend, match, merge
from torch.nn.functional import cosine_similarity

from hf_primaldual import PrimalDualViTConfig
from hf_primaldual.modeling.layers_primal_dual import build_layers


def naive_groups(metric: torch.Tensor, count: int, prefix: int) -> list[list[int]]:
    """Which tokens make up each merged token of one row, in the order of the paper's code."""
    tokens = list(range(prefix, len(metric)))
    group_a, group_b = tokens[::2], tokens[1::2]
    edges = []
    for a in group_a:
        similarities = [float(cosine_similarity(metric[a], metric[b], dim=0)) for b in group_b]
        edges.append((max(similarities), a, group_b[similarities.index(max(similarities))]))
    chosen = {a: b for _, a, b in sorted(edges, reverse=True)[:count]}
    merged = [[b, *(a for a in chosen if chosen[a] == b)] for b in group_b]
    return [[token] for token in range(prefix)] + [[a] for a in group_a if a not in chosen] + merged


@pytest.mark.parametrize(("tokens", "count", "prefix"), [(12, 6, 0), (12, 5, 1), (8, 0, 1)])
def test_the_most_similar_pairs_become_their_weighted_mean(tokens, count, prefix):
    metric, states = torch.randn(2, tokens, 4), torch.randn(2, tokens, 3)
    size = torch.randint(1, 5, (2, tokens)).float()
    merged, total = merge(states, size, match(metric, count, prefix), count)
    assert merged.shape == (2, tokens - count, 3)
    for row in range(2):
        for place, group in enumerate(naive_groups(metric[row], count, prefix)):
            assert total[row, place] == size[row, group].sum()
            mean = (states[row, group] * size[row, group, None]).sum(dim=0) / size[row, group].sum()
            torch.testing.assert_close(merged[row, place], mean)


def layers(depth: int = 2, **options):
    shape = {"hidden_size": 12, "num_attention_heads": 2, "num_hidden_layers": depth}
    return build_layers(PrimalDualViTConfig(attention="softmax", **shape, **options))[0].eval()


def test_a_token_that_stands_for_three_counts_as_three():
    attention, states = layers(depth=1)[0].self_attn, torch.randn(1, 4, 12)
    repeated = torch.cat((states, states[:, 1:2], states[:, 1:2]), dim=1)
    output, _ = attend(attention, states, torch.tensor([[1.0, 3.0, 1.0, 1.0]]))
    torch.testing.assert_close(output, attention(repeated)[0][:, :4])


def test_every_layer_has_fewer_tokens_and_the_output_all():
    model, seen = MergingLayers(layers(), count=3, prefix=1), []
    for layer in model.layers:
        layer.mlp.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape[1]))
    output = model(torch.randn(2, 13, 12))
    assert (seen, output.shape) == ([10, 7], (2, 13, 12))
    # Seven different states, each as often as it has tokens.
    assert len(output[0].unique(dim=0)) == 7
    # Without merging it is the layers themselves, the order of tokens between them too.
    expected = hidden_states = torch.randn(2, 9, 12)
    for layer in model.layers:
        expected = layer(expected)
    torch.testing.assert_close(MergingLayers(model.layers, count=0, prefix=1)(hidden_states), expected)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: match(torch.randn(1, 9, 4), 5, prefix=1), "`count` must lie in 0 to 4, half of the tokens .*, got 5"),
        (lambda: MergingLayers(layers(norm_position="post"), 1, prefix=1), "`norm_position='pre'`, got 'post'"),
    ],
)
def test_what_cannot_merge_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
