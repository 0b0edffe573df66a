"""
The paper's attentions inside any model of transformers that dispatches its attention through `AttentionInterface`.

Importing `hf_primaldual` registers three names for `attn_implementation`: `"primal_dual_bn"` (Attention-BN, Definition
1), `"primal_dual_sh"` (Attention-SH, Definition 2) and `"primal_dual_bn_sh"` (both). Their settings are a plain
dictionary, `config.primal_dual`, which is saved in the model's config.json; see [`Settings`] for what it may hold.

```python
model = AutoModel.from_pretrained(name, attn_implementation="primal_dual_bn_sh", primal_dual={"bn_beta": 0.5})
model.set_attn_implementation("primal_dual_bn")
configure(model, bn_beta=1.0)
```

In a model of several parts, `attn_implementation={"vision_config": "primal_dual_bn"}` chooses one. A part's attention
reads the settings of its own configuration, `config.vision_config.primal_dual`: when the model is built, a part
without any takes those of the whole, and `configure` writes to all.

The name is saved in config.json, as `attn_implementation`, and is back when the model is loaded, as a whole or as a
part, wherever this package is imported; elsewhere transformers refuses to load it. What is asked for when loading,
`attn_implementation="sdpa"`, goes before. An adapter (PEFT) holds nothing of its base's configuration, so a base that
got its attention by the flag alone is another one for whoever loads the adapter: save the base with its attention
first, `base.save_pretrained(folder)`, and train the adapter on the base loaded from there.

A row padded on the left gives what it gives alone. A layer that is causal or attends to other tokens than its own, a
mask that is more than padding, an argument that is not known, tokens in places that are not known, and a model whose
layers do not dispatch are refused with a `ValueError`. The tested families are listed in docs/families.md.
"""

from .settings import ATTENTIONS, Settings, configure

__all__ = ["ATTENTIONS", "Settings", "configure"]
