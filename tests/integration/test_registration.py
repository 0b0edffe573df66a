"""Importing the package registers everything, and registering twice changes nothing."""

import pytest
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedConfig, PreTrainedModel

from hf_primaldual.integration import ATTENTIONS
from hf_primaldual.registration import register
from tests.integration.families import DOCUMENT, document

PATCHED = (
    (PreTrainedConfig, "to_dict"),
    (PreTrainedConfig, "from_dict"),
    (PreTrainedModel, "post_init"),
    (PreTrainedModel, "get_correct_attn_implementation"),
)


def test_registering_twice_changes_nothing():
    before = [vars(owner)[name] for owner, name in PATCHED]
    register()
    assert before == [vars(owner)[name] for owner, name in PATCHED]
    for name in ATTENTIONS:
        assert AttentionInterface()[name].__name__ == name
        assert AttentionMaskInterface()[name].__name__ == "attention_mask_of"


@pytest.mark.unmutated
def test_the_list_of_families_is_that_of_the_tests():
    assert DOCUMENT.read_text() == document()
