"""What the models of this package share."""

import inspect
import os
import re
import shutil
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import nn
from transformers.dynamic_module_utils import get_relative_import_files
from transformers.modeling_utils import PreTrainedModel

from .attention_primal_dual import PrimalDualAttention
from .batch_norm_primal_dual import KeyBatchNorm
from .configuration_primal_dual_models import PrimalDualEncoderConfig
from .extensions_primal_dual import EXTENSIONS
from .layers_primal_dual import LayerScale, PrimalDualLayer, TokenBatchNorm, classification_loss
from .training_sets_primal_dual import WindowFilters
from .transforms_primal_dual import Filters
from .versions_primal_dual import VERSION, WAS_MOVED

OWN_PARAMETERS = (Filters, KeyBatchNorm, LayerScale, WindowFilters)

# Weights that a checkpoint of plain attention lacks, and starts to learn from where they change nothing.
LEARNED_ON_TOP = re.compile(r"\.transforms\.|\.filters\.|layer_scale|prefix|distillation_token")

# Where torch's own allocator puts tensors on a CPU.
ALIGNMENT = 64


class PrimalDualPreTrainedModel(PreTrainedModel):
    config: PrimalDualEncoderConfig
    base_model_prefix = "model"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _can_compile_fullgraph = True
    _can_record_outputs = {"hidden_states": PrimalDualLayer, "attentions": PrimalDualAttention}
    # The classes that a checkpoint loads with where this package is not installed, `module.Class` by Auto class.
    checkpoint_classes: ClassVar[dict[str, str]] = {}

    def __init__(self, config: PrimalDualEncoderConfig, *inputs: Any, **kwargs: Any):
        super().__init__(config, *inputs, **kwargs)
        self.loss_function = classification_loss

    def post_init(self) -> None:
        # They are built in float32, and transformers would halve them on loading.
        norms = {name for name, module in self.named_modules() if isinstance(module, TokenBatchNorm)}
        named = self._keep_in_fp32_modules_strict or ()
        self._keep_in_fp32_modules_strict = {*named, *(name.rpartition(".")[2] for name in norms)}
        super().post_init()

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        # Modules of an attention's own start as the paper's constant, or where they leave plain attention as it is.
        if isinstance(module, OWN_PARAMETERS):
            module.reset_parameters()
        # So do those of transforms from outside, which a checkpoint of plain attention does not hold either.
        if isinstance(module, tuple(EXTENSIONS.values())) and hasattr(module, "reset_parameters"):
            module.reset_parameters()

    def encode(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> torch.Tensor:
        """
        An encoder's layers, and the norm behind the last one where norms come before the sublayers.

        Args:
            hidden_states (`torch.Tensor` of shape `(batch, tokens, width)`): the embeddings.
            attention_mask (`torch.BoolTensor` of shape `(batch, tokens)`, *optional*): from `check_mask`.
            kwargs: as for [`PrimalDualAttention`].
        """
        for layer in self.layers:
            hidden_states = layer(hidden_states, attention_mask, **kwargs)
        return hidden_states if self.norm is None else self.norm(hidden_states, attention_mask)

    def save_pretrained(self, save_directory: str | os.PathLike, *args: Any, **kwargs: Any) -> None:
        """
        As `PreTrainedModel.save_pretrained`; the checkpoint names every class of the family in its `auto_map`, and
        carries the files of transforms from outside of this package.

        transformers names the class that is saved alone, so that of a classifier's checkpoint `AutoModel` could not
        load the encoder. Of a model that FSDP2 has sharded it would save the class that torch makes for it.

        Raises:
            ValueError: for a transform whose class, or what it imports, is in no file that could be copied; or when
                the configuration's attention was changed after the model was built from it, so that what is loaded
                would be another. Nothing is written.
            TypeError: for an attribute of the configuration that is nearly a field, so that nobody could load it.
        """
        now = self.config.attention_fields()
        built = next(module._built_from for module in self.modules() if isinstance(module, PrimalDualAttention))
        if changed := [name for name in now if now[name] != built[name]]:
            raise ValueError(
                f"`config.{changed[0]}` was changed to {now[changed[0]]!r} after the model was built with "
                f"{built[changed[0]]!r}, which has no effect on it; set it back, or build a model from the changed "
                "configuration and load these weights into it."
            )
        self.config.check_names()
        extensions = _extension_files(name for name in self.config.choices.transforms if name in EXTENSIONS)
        _name_as_unsharded(type(self))
        self.config.auto_map = {**(getattr(self.config, "auto_map", None) or {}), **self.checkpoint_classes}
        self.config.hf_primaldual_version = VERSION
        super().save_pretrained(save_directory, *args, **kwargs)
        save_family(Path(save_directory), self.config.auto_map)
        for name, code in extensions.items():
            (Path(save_directory) / name).write_text(code, encoding="utf-8")

    @classmethod
    def from_pretrained(cls, *args: Any, **kwargs: Any) -> Self:
        """
        As `PreTrainedModel.from_pretrained`; a model loaded to the CPU gives the saved model's outputs to the bit.

        transformers leaves weights in the memory map of their file, at addresses where the CPU's matrix products round
        differently and which change when the file does. Such weights are copied to memory of their own.

        Raises:
            ValueError: when the checkpoint lacks weights of the encoder, as one of another architecture does; what may
                be learned on top of a checkpoint (heads, filters, betas, LayerScale, prefix tokens) may be
                missing. Or when an early version saved it on its way from softmax to its attention.
        """
        with_info = kwargs.pop("output_loading_info", False)
        loaded: Any = super().from_pretrained(*args, output_loading_info=True, **kwargs)
        model, info = loaded
        if moved := [name for name in info["unexpected_keys"] if name.endswith("annealing.millionths")]:
            raise ValueError(f"the checkpoint has `{min(moved)}` among its weights: {WAS_MOVED}")
        missing = sorted(name for name in info["missing_keys"] if model._must_be_in_a_checkpoint(name))
        if missing:
            raise ValueError(
                f"the checkpoint lacks {len(missing)} weights of {cls.__name__}, such as {', '.join(missing[:3])}: it "
                "is of another architecture. `hf_primaldual.convert` takes a ViT, DeiT, DINOv2, BERT or RoBERTa."
            )
        saved_as = next(iter(model.config.architectures or ()), cls.__name__)
        if saved_as != cls.__name__ and not saved_as.startswith("PrimalDual"):
            warnings.warn(
                f"the checkpoint was saved as {saved_as}, which is loaded as {cls.__name__}: what that class changes "
                "is lost. Load it by its own class.",
                stacklevel=2,
            )
        for tensor in (*model.parameters(), *model.buffers()):
            if tensor.device.type == "cpu" and tensor.data_ptr() % ALIGNMENT:
                tensor.data = tensor.data.clone()
        return (model, info) if with_info else model

    def _must_be_in_a_checkpoint(self, name: str) -> bool:
        is_encoders = self.base_model is self or name.startswith(f"{self.base_model_prefix}.")
        return is_encoders and not LEARNED_ON_TOP.search(name)


def _name_as_unsharded(model_class: type) -> None:
    """Gives the class that torch's `fully_shard` puts a model in the name and the module of the model's own class."""
    own = next(base for base in model_class.__mro__ if not base.__module__.startswith("torch."))
    for attribute in ("__module__", "__name__", "__qualname__"):
        setattr(model_class, attribute, getattr(own, attribute))


def _source_file(name: str, transform: type) -> Path:
    """The file of a transform's class."""
    if transform.__module__ == "__main__":
        raise ValueError(
            f"{name!r} is defined in the program that runs, which cannot travel with a checkpoint; move the class "
            "to a file of its own and import it."
        )
    return Path(inspect.getfile(transform))


def save_family(folder: Path, auto_map: dict[str, str]) -> None:
    """
    Copies the files of this package that `auto_map` names, with those that they import, and that do not lie there yet.
    transformers copies those of the class that is saved, which of a subclass from elsewhere are others.
    """
    for reference in auto_map.values():
        source = Path(__file__).with_name(f"{reference.rpartition('--')[2].partition('.')[0]}.py")
        if source.exists() and not (folder / source.name).exists():
            for file in (source, *map(Path, get_relative_import_files(source))):
                shutil.copyfile(file, folder / file.name)


def _extension_files(extensions: Iterable[str]) -> dict[str, str]:
    """By name, the code of the files that transforms from outside of this package travel in, and their registry."""
    written, imports, entries = {}, [], []
    for name in extensions:
        module, _, transform = name.partition(".")
        _gather(_source_file(name, EXTENSIONS[name]), written)
        imports.append(f"from .{module} import {transform}")
        entries.append(f'"{name}": {transform}')
    docstring = '"""The transforms of this checkpoint that come from outside of hf_primaldual."""'
    registry = f"EXTENSIONS = {{{', '.join(entries)}}}"
    code = "\n".join([docstring, "", *imports, "", registry, ""])
    return {**written, "extensions_primal_dual.py": code} if entries else {}


def _gather(source: Path, written: dict[str, str]) -> None:
    """Adds a file and those beside it that it imports; in a checkpoint they import each other by `from .name`."""
    # What these files take from this package lies beside them there.
    code = re.sub(r"^from hf_primaldual\.modeling\.", "from .", source.read_text(encoding="utf-8"), flags=re.MULTILINE)
    siblings = []
    for statement, dots, module in re.findall(r"^((?:from|import) (\.*)([\w.]*))", code, flags=re.MULTILINE):
        package, _, name = module.rpartition(".")
        sibling = source.with_name(f"{name}.py")
        is_beside = sibling.exists() and (not package or (not dots and package.endswith(source.parent.name)))
        if statement.startswith("from") and is_beside and len(dots) < 2:
            code = re.sub(rf"^{re.escape(statement)} ", f"from .{name} ", code, flags=re.MULTILINE)
            siblings.append(sibling)
        elif is_beside or (dots and not Path(__file__).with_name(f"{module}.py").exists()):
            raise ValueError(
                f"{source.name} says `{statement}`, which can't be found in a checkpoint, where all files lie in one "
                "folder: import by `from .name import ...` from a file beside it."
            )
    written[source.name] = code
    for sibling in siblings:
        if sibling.name not in written:
            _gather(sibling, written)


__all__ = ["PrimalDualPreTrainedModel", "save_family"]
