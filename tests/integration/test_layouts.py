"""Where the tokens of a family lie: what the table of layouts says is what a model does with its input."""

import pytest
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from hf_primaldual.integration.layouts import LAYOUTS, token_layout
from tests.integration.families import FAMILIES

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
