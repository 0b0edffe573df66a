"""What the models of this package share."""

from typing import ClassVar

import torch
from transformers.modeling_utils import PreTrainedModel

from .configuration_primal_dual import PrimalDualConfig
from .training_sets_primal_dual import DownsampledTokens
from .transforms_primal_dual import GridConvolution, KeyBatchNorm, SequenceConvolution, VectorConvolution

OWN_PARAMETERS = (DownsampledTokens, GridConvolution, KeyBatchNorm, SequenceConvolution, VectorConvolution)

# Where torch's own allocator puts tensors on a CPU.
ALIGNMENT = 64


class PrimalDualPreTrainedModel(PreTrainedModel):
    config: PrimalDualConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    # The classes that a checkpoint loads with where this package is not installed, `module.Class` by Auto class.
    checkpoint_classes: ClassVar[dict[str, str]] = {}

    @torch.no_grad()
    def _init_weights(self, module):
        super()._init_weights(module)
        # Modules of an attention's own start as the paper's constant, or where they leave plain attention as it is.
        if isinstance(module, OWN_PARAMETERS):
            module.reset_parameters()

    def save_pretrained(self, *args, **kwargs):
        """
        As `PreTrainedModel.save_pretrained`; the checkpoint names every class of the family in its `auto_map`.

        transformers names the class that is saved alone, so that of a classifier's checkpoint `AutoModel` could not
        load the encoder.
        """
        self.config.auto_map = {**(getattr(self.config, "auto_map", None) or {}), **self.checkpoint_classes}
        return super().save_pretrained(*args, **kwargs)

    @classmethod
    def from_pretrained(cls, *args, **kwargs):
        """
        As `PreTrainedModel.from_pretrained`; a model loaded to the CPU gives the saved model's outputs to the bit.

        transformers leaves weights in the memory map of their file, at addresses where the CPU's matrix products round
        differently and which change when the file does. Such weights are copied to memory of their own.
        """
        loaded = super().from_pretrained(*args, **kwargs)
        model = loaded[0] if isinstance(loaded, tuple) else loaded
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.device.type == "cpu" and tensor.data_ptr() % ALIGNMENT:
                tensor.data = tensor.data.clone()
        return loaded


__all__ = ["PrimalDualPreTrainedModel"]
