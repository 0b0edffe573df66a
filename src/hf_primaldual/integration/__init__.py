"""
The paper's attentions inside any model of transformers that dispatches its attention through `AttentionInterface`.

`hf_primaldual.apply(model, "bn+sh", head_scales=[...])` is the one call. It can be asked for by name as well:
importing `hf_primaldual` registers `"primal_dual_bn"` (Attention-BN, Definition 1), `"primal_dual_sh"` (Attention-SH,
Definition 2) and `"primal_dual_bn_sh"` for `attn_implementation`, with settings in `config.primal_dual`:

```python
model = AutoModel.from_pretrained(name, attn_implementation="primal_dual_bn_sh", primal_dual={"bn_beta": 0.5})
```

In a model of several parts, `attn_implementation={"vision_config": "primal_dual_bn"}` chooses one. A part's attention
reads the settings of its own configuration; a part without any takes those of the whole when the model is built.

The name is saved in config.json and is back when the model is loaded, as a whole or as a part, wherever this package
is imported; elsewhere transformers refuses to load it. What is asked for when loading, `attn_implementation="sdpa"`,
goes before. An adapter (PEFT) holds nothing of its base's configuration: save the base with its attention first, and
train the adapter on the base loaded from there. Who doesn't is warned.

A row padded on the left gives what it gives alone. In a decoder, a layer with a window and packed documents a query is
fitted on its own keys (docs/decoders.md). A layer that attends to other tokens than its own, a mask that
shows a query keys that are no interval, an argument that is not known, tokens in places that are not known, and a
model whose layers do not dispatch are refused with a `ValueError`. The tested families are listed in docs/families.md.
"""

from .apply import apply
from .settings import ATTENTIONS

__all__ = ["ATTENTIONS", "apply"]
