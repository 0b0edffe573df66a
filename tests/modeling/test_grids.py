"""Prefix tokens and grids of patches: the layer against the formulas, and what it refuses."""

import pytest

from tests.modeling.cases import all_settings
from tests.modeling.parity import compare, make_layer

# Every preset as it is, and what a training set can be told.
ROWS = {"sh", "sparse-sh", "sparse"}
SETTINGS = [param for param in all_settings() if param.values[0] in ROWS or param.id.endswith("-default")]
FEW = all_settings("-sh-default", "sh-random", "sh-points-listed", "sparse-sh-conv", "sparse-sh-fixed")
settings = pytest.mark.parametrize(("preset", "fields"), SETTINGS)


@settings
def test_a_grid_equals_the_formulas(preset, fields):
    compare(make_layer(preset, grid_size=[5, 7], num_prefix_tokens=2, **fields).double(), "holes", 3, 37)


@pytest.mark.parametrize("grid_size", [(4, 4), (1, 6), (6, 1), (1, 1)], ids=str)
@pytest.mark.parametrize(("preset", "fields"), FEW)
def test_grids_without_padding_equal_the_formulas(preset, fields, grid_size):
    compare(make_layer(preset, grid_size=grid_size, **fields).double(), "unmasked", 2, grid_size[0] * grid_size[1])


@settings
def test_a_sequence_with_a_prefix_equals_the_formulas(preset, fields):
    layer = make_layer(preset, num_prefix_tokens=1, **fields).double()
    compare(layer, "holes", 3, 23)
    compare(layer, "unmasked", 2, 2)


@pytest.mark.parametrize(
    ("preset", "fields"), [*FEW, pytest.param("conv2d+bn", {"conv2d_reading": "grid"}, id="conv2d-grid")]
)
def test_another_grid_in_a_call_is_that_of_the_call(preset, fields):
    layer = make_layer(preset, grid_size=[4, 4], num_prefix_tokens=1, **fields).double()
    compare(layer, "unmasked", 2, 1 + 3 * 8, grid_size=(3, 8))


CONV2D = {
    "alone": ("conv2d", {}),
    "prefix": ("conv2d", {"num_prefix_tokens": 2, "conv_kernel_size": 5}),
    "then-bn": ("conv2d+bn", {"num_prefix_tokens": 1}),
    "linear": ("linear", {"transforms": ["conv2d"]}),
    "sparse": ("sparse", {"transforms": ["conv2d"], "sparse_window": 4, "sparse_stride": 6}),
}


@pytest.mark.parametrize(("preset", "fields"), CONV2D.values(), ids=CONV2D)
def test_a_convolution_over_the_grid_equals_the_formulas(preset, fields):
    layer = make_layer(preset, conv2d_reading="grid", grid_size=[3, 5], **fields).double()
    compare(layer, "holes", 3, 15 + layer.config.num_prefix_tokens)
