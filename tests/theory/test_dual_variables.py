"""The dual variables of a model, against sums written out from the formulas."""

import pytest
import torch

from hf_primaldual import (
    PrimalDualTimeSeriesConfig,
    PrimalDualTimeSeriesFeatureExtractor,
    PrimalDualTimeSeriesForSequenceClassification,
    PrimalDualTimeSeriesModel,
)
from hf_primaldual.theory import (
    ExponentialFeatureMap,
    dual_variables,
    elu_feature_map,
    feature_map_kernel,
    plot_dual_variables,
    support_vector_expansion,
)
from tests.reference import naive
from tests.scripts import load_script

HEADS, DIM, TOKENS = 4, 2, 7
LENGTHS = (7, 5)
TAYLOR = ExponentialFeatureMap(DIM, 90)
SCALES = [2, 1, 2, 3]

CASES = {
    "bn": {"bn_beta": 0.7},
    "bn-recentre": {"attention": "bn", "bn_scaling": False},
    "bn+sh": {"head_scales": SCALES, "bn_beta_learnable": True},
    "linear-bn": {},
    "sigmoid": {"attention": "linear-sh", "head_scales": SCALES, "feature_map": "sigmoid"},
}


def make_model(name: str, **fields):
    fields = {"attention": name, "norm_type": "layer", **CASES.get(name, {}), **fields}
    config = PrimalDualTimeSeriesConfig(
        num_channels=2, hidden_size=HEADS * DIM, num_attention_heads=HEADS, num_hidden_layers=2, **fields
    )
    model = PrimalDualTimeSeriesModel(config).double()
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "embedding" in parameter_name:
                parameter.normal_(std=0.7)
            elif "self_attn" in parameter_name and "_proj" in parameter_name:
                parameter.normal_(std=0.4)
            elif parameter_name.endswith("beta"):
                parameter.add_(torch.linspace(-0.5, 0.5, HEADS))
    return model.train()


def make_inputs():
    mask = torch.arange(TOKENS) < torch.tensor(LENGTHS).unsqueeze(1)
    values = torch.randn(2, TOKENS, 2, dtype=torch.float64)
    return {"past_values": torch.where(mask.unsqueeze(-1), values, 1e3), "attention_mask": mask.long()}


def heads_by_the_formulas(model, inputs, index):
    """For each row and head of a layer: T(q), T(k), v and the head's output, from the layer's own input."""
    attention = model.layers[index].self_attn
    seen = {}
    hooks = [
        attention.register_forward_pre_hook(lambda module, args: seen.update(input=args[0])),
        attention.o_proj.register_forward_pre_hook(lambda module, args: seen.update(output=args[0])),
    ]
    model.eval()(**inputs)
    model.train()
    for hook in hooks:
        hook.remove()
    config = model.config
    beta = attention.transforms[0].beta if attention.transforms else None
    for row, length in enumerate(LENGTHS):
        x = seen["input"][row, :length]
        for head in range(HEADS):
            rows = slice(head * DIM, (head + 1) * DIM)
            points = x
            if "sh" in config.attention:
                points, _ = naive.sample(x, naive.windows_by_scale(torch.ones(length, dtype=torch.bool), SCALES[head]))
            q, k, v = (
                tokens @ projection.weight[rows].T + projection.bias[rows]
                for tokens, projection in (
                    (x, attention.q_proj),
                    (points, attention.k_proj),
                    (points, attention.v_proj),
                )
            )
            if beta is not None:
                kept = torch.ones(len(k), dtype=torch.bool)
                beta_of_head = beta[head] if config.bn_beta_learnable else beta
                q, k = naive.batch_normalize(q, k, kept, beta_of_head, config.bn_scaling, config.bn_eps)
            yield row, head, q, k, v, seen["output"][row, :length, rows]


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_against_the_formulas(name):
    model, inputs = make_model(name), make_inputs()
    results = dual_variables(model, inputs)
    assert [result.layer for result in results] == [0, 1]
    phi = {"linear-bn": elu_feature_map, "sigmoid": torch.sigmoid}.get(name, TAYLOR)
    for result in results:
        for row, head, q, k, v, output in heads_by_the_formulas(model, inputs, result.layer):
            kept = result.mask[row, head]
            assert kept.sum() == len(k)
            torch.testing.assert_close(result.queries[row, head, result.query_mask[row]], q)
            torch.testing.assert_close(result.keys[row, head, kept], k)
            torch.testing.assert_close(result.values[row, head, kept], v)

            gram = phi(k) @ phi(k).T if result.kernel == "linear" else (k @ k.T / DIM**0.5).exp()
            h = gram.sum(1)
            torch.testing.assert_close(result.log_normalizers[row, head, kept], h.log())
            a = v * h.unsqueeze(1)
            torch.testing.assert_close(result.coefficients[row, head, kept], a)

            # W = sum_j a_j Phi(k_j)^T / h_j, written out.
            weight = (a / h.unsqueeze(1)).T @ phi(k)
            torch.testing.assert_close(
                result.squared_weight_norms[row, head], weight.square().sum(), rtol=1e-9, atol=0
            )

            # What is masked has nothing to say.
            assert not result.support_vectors(0.0)[row, head, ~kept].any()
            assert not result.coefficients[row, head, ~kept].any()
            assert not result.queries[row, head, ~result.query_mask[row]].any()

            # The expansion with these variables is the head's output.
            values = result.coefficients[row, head, kept] / h.unsqueeze(1)
            kernel = feature_map_kernel(phi) if result.kernel == "linear" else "softmax"
            torch.testing.assert_close(support_vector_expansion(q, k, values, kernel), output)


def test_model_is_left_as_it_was():
    model, inputs = make_model("bn", norm_type="batch"), make_inputs()
    model.layers[0].mlp.eval()
    attention = model.layers[0].self_attn
    before = (attention.kernel, attention.transforms[0].folds, dict(attention._forward_pre_hooks))
    modes = [module.training for module in model.modules()]
    averages = model.layers[0].norm1.running_mean.clone()
    dual_variables(model, inputs)
    with pytest.raises(TypeError):
        dual_variables(model, {})
    assert (attention.kernel, attention.transforms[0].folds, dict(attention._forward_pre_hooks)) == before
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(model.layers[0].norm1.running_mean, averages)


def test_support_vectors_by_tolerance():
    model, inputs = make_model("softmax"), make_inputs()["past_values"].clamp(-3, 3)
    (result,) = dual_variables(model, inputs, layer=1)
    assert result.layer == 1
    assert result.mask.all()
    a = result.coefficients.abs().amax(-1)
    expected = a > 0.3 * a.amax(-1, keepdim=True)
    assert torch.equal(result.support_vectors(0.3), expected)
    assert expected.any()
    assert not expected[result.mask].all()
    assert torch.equal(result.support_vectors(0.0), result.mask)


def test_large_logits_do_not_overflow():
    model, inputs = make_model("softmax"), make_inputs()
    with torch.no_grad():
        model.layers[0].self_attn.k_proj.weight.mul_(100)
    result = dual_variables(model, inputs, layer=0)[0]
    assert result.log_normalizers.max() > 1000
    assert torch.isfinite(result.log_squared_weight_norms).all()
    assert torch.isfinite(result.log_magnitudes[result.mask]).all()
    assert result.coefficients.isinf().any()
    assert not result.coefficients.isnan().any()
    assert result.support_vectors().any(dim=-1).all()


def test_the_script_prints_a_line_for_each_head_and_draws_a_strip_for_each_in_a_panel_for_each_layer(tmp_path, capsys):
    config = PrimalDualTimeSeriesConfig(
        num_channels=6, num_attention_heads=4, num_hidden_layers=2, max_position_embeddings=100
    )
    PrimalDualTimeSeriesForSequenceClassification(config).save_pretrained(tmp_path)
    PrimalDualTimeSeriesFeatureExtractor(feature_size=6).save_pretrained(tmp_path)
    picture = tmp_path / "dual.png"
    script = load_script("show_dual_variables")
    script.main(["--checkpoint", str(tmp_path), "--dataset", "BasicMotions", "--plot", str(picture)])
    printed = capsys.readouterr().out
    assert [printed.count(f"of {keys} keys") for keys in (100, 50)] == [4, 4]
    assert printed.count("head ") == 8
    assert picture.read_bytes().startswith(b"\x89PNG")
    figure = plot_dual_variables(dual_variables(make_model("bn+sh"), make_inputs()), row=1)
    # Two layers and the colorbar.
    assert [len(axes.images) for axes in figure.axes] == [HEADS, HEADS, 0]
