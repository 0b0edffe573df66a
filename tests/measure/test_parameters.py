from torch import nn

from hf_primaldual.measure import count_parameters


def test_total_and_trainable():
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    assert count_parameters(model) == 12 + 4 + 8 + 2
    assert count_parameters(model, trainable_only=True) == 4 + 8 + 2


def test_a_shared_parameter_counts_once():
    layer = nn.Linear(3, 3)
    assert count_parameters(nn.Sequential(layer, layer)) == 12
