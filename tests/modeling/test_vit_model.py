"""What is the vision transformer's own: its parts, other image sizes, its heads, and what it refuses."""

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForImageClassification

from hf_primaldual import PrimalDualViTConfig, PrimalDualViTForImageClassification, PrimalDualViTModel
from hf_primaldual.modeling.layers_primal_dual import DropPath
from tests.modeling.images import LABELS, image_batch, small_config, small_model

VARIANTS = {
    "deit": {"distillation_token": True, "distillation_head": True},
    "layer-scale": {"layer_scale_init_value": 0.1},
    "mean": {"pooling": "mean"},
    "post-norm": {"norm_position": "post"},
    "rectangles": {"image_size": [24, 40], "patch_size": [4, 8]},
    "pixels": {"image_size": [4, 5], "patch_size": 1},
}


@pytest.mark.parametrize("fields", VARIANTS.values(), ids=VARIANTS)
def test_every_architecture_learns_and_is_saved_to_the_bit(tmp_path, fields):
    model = small_model(attention="bn+sh", **fields)
    height, width = (
        (model.config.image_size,) * 2 if isinstance(model.config.image_size, int) else fields["image_size"]
    )
    batch = image_batch(3, height, width)
    model(**batch).loss.backward()
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not without
    model.save_pretrained(tmp_path)
    loaded = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert type(loaded) is PrimalDualViTForImageClassification
    assert torch.equal(loaded(**batch).logits, model(**batch).logits)


def test_layer_scale_starts_each_residual_branch_at_its_value():
    plain, scaled = small_model(), small_model(layer_scale_init_value=0.0)
    scaled.load_state_dict(plain.state_dict(), strict=False)
    batch = image_batch()
    states = scaled(**batch, output_hidden_states=True).hidden_states
    assert torch.equal(states[0], states[1])
    with torch.no_grad():
        for name, parameter in scaled.named_parameters():
            if "layer_scale" in name:
                parameter.fill_(1.0)
    assert torch.equal(scaled(**batch).logits, plain(**batch).logits)


def test_the_grid_reaches_the_attention_at_other_sizes():
    model = small_model(attention="sh")
    outputs = model(**image_batch(2, 24, 56), output_attentions=True, output_hidden_states=True)
    assert [state.shape for state in outputs.hidden_states] == [(2, 1 + 3 * 7, 16)] * 3
    # Windows of 2 x 2 patches make 2 x 4 of the 3 x 7, beside CLS.
    assert [each.shape[-1] for each in outputs.attentions[0]] == [22, 22, 9, 9]


def test_positions_of_another_size_are_interpolated_as_transformers_does():
    model = small_model(attention="softmax", distillation_token=True)
    embeddings = model.model.embeddings
    positions = embeddings.positions_for((3, 7))
    assert torch.equal(positions[:, :2], embeddings.position_embeddings[:, :2])
    grid = embeddings.position_embeddings[0, 2:].T.reshape(1, 16, 5, 5)
    expected = nn.functional.interpolate(grid, size=(3, 7), mode="bicubic", align_corners=False)
    torch.testing.assert_close(positions[0, 2:], expected.flatten(2)[0].T)


def test_distillation_averages_both_heads_and_their_losses():
    model = small_model(attention="bn+sh", distillation_token=True, distillation_head=True)
    batch = image_batch()
    teacher = (batch["labels"] + 1) % LABELS
    outputs = model(**batch, distillation_targets=teacher)
    torch.testing.assert_close(outputs.logits, (outputs.cls_logits + outputs.distillation_logits) / 2)
    losses = [
        nn.functional.cross_entropy(outputs.cls_logits, batch["labels"]),
        nn.functional.cross_entropy(outputs.distillation_logits, teacher),
    ]
    torch.testing.assert_close(outputs.loss, sum(losses) / 2)


def test_drop_path_leaves_rows_out_and_keeps_the_mean():
    drop_path = DropPath(0.4).train()
    kept = drop_path(torch.ones(20_000, 1, 2))
    assert kept.unique().tolist() == pytest.approx([0, 1 / 0.6])
    assert torch.equal(kept[..., 0], kept[..., 1])
    assert kept.mean().item() == pytest.approx(1, abs=0.02)
    assert torch.equal(drop_path.eval()(kept), kept)
    rates = [getattr(layer.drop_path, "rate", 0) for layer in small_model(drop_path_rate=0.3).model.layers]
    assert rates == [0, 0.3]


def test_the_grid_follows_the_image_size_that_is_set_when_loading(tmp_path):
    small_config().save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path, image_size=[16, 32], distillation_token=True)
    assert type(config) is PrimalDualViTConfig
    assert (config.grid_size, config.num_prefix_tokens) == ([2, 4], 2)
    assert type(AutoModel.from_config(config)) is PrimalDualViTModel
