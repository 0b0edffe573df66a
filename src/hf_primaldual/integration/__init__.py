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

A layer that is causal or attends to other tokens than its own, a mask that is more than padding, and a model whose
layers do not dispatch are refused with a `ValueError`. The tested families are listed in docs/families.md.
"""

from .settings import ATTENTIONS, Settings, configure

__all__ = ["ATTENTIONS", "Settings", "configure"]
