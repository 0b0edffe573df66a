"""One point of efficiency, of two small models."""

import torch

from hf_primaldual import PrimalDualTimeSeriesConfig, PrimalDualTimeSeriesForSequenceClassification
from hf_primaldual.measure import count_flops, count_parameters, efficiency_point


def test_a_point_holds_both_models_and_their_ratios():
    inputs = {"past_values": torch.randn(2, 64, 3), "labels": torch.tensor([0, 1])}
    models = {
        attention: PrimalDualTimeSeriesForSequenceClassification(
            PrimalDualTimeSeriesConfig(
                attention=attention, num_channels=3, hidden_size=16, max_position_embeddings=64, num_labels=2
            )
        )
        for attention in ("softmax", "sh")
    }
    point = efficiency_point(models, inputs, "sh", "softmax", rounds=2)
    assert (point["batch"], point["tokens"]) == (2, 64)
    for name, model in models.items():
        assert point[name]["parameters"] == count_parameters(model)
        assert point[name]["forward_flops"] == count_flops(model.eval(), **inputs)
        assert point[name]["train_step_flops"] > 2 * point[name]["forward_flops"]
        assert point[name]["peak_memory_bytes"] > 4 * count_parameters(model)
    assert point["flops_ratio"] == point["sh"]["forward_flops"] / point["softmax"]["forward_flops"] < 1
    step = (point["sh"]["train_step_ms"]["median"], point["softmax"]["train_step_ms"]["median"])
    assert point["train_step_ratio"] == step[0] / step[1]
