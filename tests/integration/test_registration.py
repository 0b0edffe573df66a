"""Registration waits for transformers' models, happens once, and the list of families is that of the tests."""

from pathlib import Path

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

import hf_primaldual
from hf_primaldual.integration import ATTENTIONS
from hf_primaldual.integration.registration import register
from tests.integration.families import document
from tests.modeling.isolated import run_isolated

# Isolated processes don't know of PYTHONPATH.
SOURCE = Path(hf_primaldual.__file__).parents[1]
FAMILIES_DOCUMENT = Path(__file__).parents[2] / "docs" / "families.md"

# Whichever module is asked for first, none is left half imported, and everything is registered in the end.
ORDER = """
import importlib, sys
sys.path.insert(0, sys.argv[1])
importlib.import_module("{first}")
assert "transformers.modeling_utils" not in sys.modules or {imports_models}
import hf_primaldual
from transformers import AttentionInterface, AttentionMaskInterface, AutoConfig, AutoModel, BertConfig
from transformers.models.auto.feature_extraction_auto import FEATURE_EXTRACTOR_MAPPING
assert {names} <= set(AttentionInterface().valid_keys())
assert {names} <= set(AttentionMaskInterface().valid_keys())
assert BertConfig().primal_dual is None
assert hf_primaldual.PrimalDualTimeSeriesConfig in FEATURE_EXTRACTOR_MAPPING
for family in ("text", "time_series", "vit"):
    config = AutoConfig.for_model("primal_dual_" + family, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
    assert type(AutoModel.from_config(config)).__module__.startswith("hf_primaldual.modeling")
# What nobody here has imported is waited for.
waiting = {{finder.name for finder in sys.meta_path if "hf_primaldual" in type(finder).__module__}}
assert not waiting & set(sys.modules) and not any("modeling" in name for name in waiting), waiting
"""


@pytest.mark.parametrize(
    ("first", "imports_models"),
    [
        ("hf_primaldual.integration", False),
        ("hf_primaldual.modeling.kernels_primal_dual", True),
        pytest.param("transformers.modeling_utils", True, marks=pytest.mark.slow),
        pytest.param("hf_primaldual.modeling.feature_extraction_primal_dual", False, marks=pytest.mark.slow),
    ],
)
def test_registration_waits_for_transformers_modules_in_any_order_of_imports(first, imports_models, tmp_path):
    script = ORDER.format(first=first, imports_models=imports_models, names=set(ATTENTIONS))
    run_isolated(script, tmp_path, SOURCE, hide=False)


def test_registering_twice_changes_nothing():
    wrapped = PreTrainedModel.post_init, PreTrainedModel.set_attn_implementation
    register()
    assert wrapped == (PreTrainedModel.post_init, PreTrainedModel.set_attn_implementation)
    for name in ATTENTIONS:
        assert AttentionInterface()[name].__name__ == name
        assert AttentionMaskInterface()[name].__name__ == "padding_mask"


def test_the_names_are_the_papers_presets():
    assert [hf_primaldual.PRESETS[preset] for preset in ("bn", "sh", "bn+sh")] == list(ATTENTIONS.values())


def test_the_list_of_families_is_that_of_the_tests():
    assert FAMILIES_DOCUMENT.read_text() == document()


def test_models_of_others_are_built_as_before():
    class Plain(PreTrainedModel):
        config_class = hf_primaldual.PrimalDualConfig

        def __init__(self, config):
            super().__init__(config)
            self.linear = torch.nn.Linear(2, 2)
            self.post_init()

    Plain._from_config(hf_primaldual.PrimalDualConfig(), attn_implementation="eager")
    with pytest.raises(ValueError, match="no effect on Plain"):
        Plain._from_config(hf_primaldual.PrimalDualConfig(), attn_implementation="primal_dual_bn")
