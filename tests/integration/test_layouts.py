"""Where the tokens of a family lie: what the table of layouts says is what a model does with its input."""

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask
from transformers.models.qwen2_vl.configuration_qwen2_vl import Qwen2VLVisionConfig
from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

from hf_primaldual import apply
from hf_primaldual.integration.layouts import LAYOUTS, token_layout
from tests.integration.families import FAMILIES, HEADS, PATCH, SCALES

ON_GRIDS = [family for family in FAMILIES if family.grid is not None and family.part == ""]


class Seen(Exception):
    """The first attention layer was reached."""


def first_keys(model, inputs):
    """What the first attention layer is given, `(tokens, heads, head_dim)`."""
    keys = []

    def spy(module, query, key, value, attention_mask, **kwargs):
        keys.append(value)
        raise Seen

    AttentionInterface.register("spy", spy)
    AttentionMaskInterface.register("spy", sdpa_mask)
    model.set_attn_implementation("spy")
    with pytest.raises(Seen):
        model(**inputs)
    return keys[0][0].transpose(0, 1)


@pytest.mark.parametrize("family", ON_GRIDS, ids=lambda family: family.name)
def test_a_patch_of_the_input_is_the_token_that_the_table_says(family):
    model = family.build()
    (name, values), *_ = family.inputs().items()
    before = first_keys(model, {name: values})
    grid = LAYOUTS[model.config.model_type].grid(model.config, tuple(values.shape))
    assert (family.prefix, family.grid) == token_layout(model.config, len(before), grid)
    *frames, height, width = grid
    for place in ((0, 0, 0), (1, 1, 2), (-1, height - 1, 1)):
        changed = values.clone()
        family.patch(changed, place[-len(grid) :]).add_(1)
        differs = (first_keys(model, {name: changed}) != before).flatten(1).any(dim=1)
        frame = place[0] % frames[0] if frames else 0
        expected = family.prefix + (frame * height + place[1]) * width + place[2]
        assert differs.nonzero().flatten().tolist() == [expected]


def test_every_layout_is_tested():
    tested = [*ON_GRIDS, *(family for family in FAMILIES if family.kind == "series")]
    assert set(LAYOUTS) == {family.config().model_type for family in tested}


def test_each_image_keeps_its_grid_where_its_layers_are_recomputed_or_compiled():
    vit = next(family for family in FAMILIES if family.name == "ViT")._replace(options={"num_hidden_layers": 1})
    model = vit.build("primal_dual_bn_sh", head_scales=SCALES, bn_eps=0.1)
    # As many patches: nothing but the grids differs.
    images = [torch.randn(2, 3, *[side * PATCH for side in sides]) for sides in ((2, 8), (8, 2), (4, 4))]

    def output(model, image):
        return model(image, interpolate_pos_encoding=True).last_hidden_state

    def gradients(*batches):
        model.zero_grad()
        for batch in batches:
            sum(output(model, image).square().sum() for image in batch).backward()
        return [weight.grad.clone() for weight in model.layers.parameters()]

    expected = gradients(*([image] for image in images))
    compiled = torch.compile(model, backend="eager", fullgraph=True, dynamic=False)
    torch.testing.assert_close(output(compiled, images[0]), output(model, images[0]))
    for module in model.modules():
        module.training = not isinstance(module, torch.nn.Dropout)
    model.config.attention_probs_dropout_prob = 0
    model.gradient_checkpointing_enable()
    for actual, gradient in zip(gradients(images), expected, strict=True):
        torch.testing.assert_close(actual, gradient, rtol=1e-4, atol=1e-4 * gradient.abs().max().item())


def test_images_that_are_packed_are_normalized_each_alone_and_not_pooled():
    config = Qwen2VLVisionConfig(depth=2, embed_dim=32, hidden_size=32, num_heads=HEADS, patch_size=PATCH)
    model = apply(Qwen2VisionTransformerPretrainedModel(config).eval(), "bn")
    grids = torch.tensor([[1, 4, 6], [1, 2, 8]])
    patches = torch.randn(24 + 16, 3 * 2 * PATCH**2)
    alone = [model(patches[:24], grids[:1])[0], model(patches[24:], grids[1:])[0]]
    torch.testing.assert_close(model(patches, grids)[0], torch.cat(alone))
    with pytest.raises(ValueError, match="VisionAttention sees the patches of several images one after another"):
        apply(model, "sh", num_prefix_tokens=0, grid_size=[1, 40])(patches, grids)
