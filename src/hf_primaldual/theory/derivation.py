"""From a primal layer to its attention."""

import copy
import importlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path

from torch import nn
from transformers import AutoConfig
from transformers.dynamic_module_utils import get_class_from_dynamic_module

from hf_primaldual import PrimalDualAttention, PrimalDualConfig
from hf_primaldual.modeling.extensions_primal_dual import EXTENSIONS
from hf_primaldual.modeling.transforms_primal_dual import TRANSFORMS


@dataclass(frozen=True)
class PrimalLayer:
    """
    A primal layer f(x) = W Phi(T(x)) / h(T(x)) by its three choices (paper, section 2); its dual is an attention.

    Attributes:
        kernel: Phi(x).Phi(y), `"softmax"` or `"linear"`.
        transforms: T, a chain of names (`"bn"`, `"conv1d"`, `"conv2d"`) and of your own classes: modules as
            [`~modeling.transforms_primal_dual.Transform`] describes them.
        training_set: which keys it is fitted on, `"all"`, `"downsampled"`, `"sparse"` or `"sparse+downsampled"`.
    """

    kernel: str = "softmax"
    transforms: tuple[str | type[nn.Module], ...] = ()
    training_set: str = "all"

    def fields(self) -> dict[str, str | list[str]]:
        """
        The choices as fields of any configuration of this package: `PrimalDualTimeSeriesConfig(**primal.fields())`.

        Your own transforms are registered under `file.Class`, and travel with the checkpoints of the models that use
        them.
        """
        names = [each if isinstance(each, str) else register_transform(each) for each in self.transforms]
        return {"kernel": self.kernel, "transforms": names, "training_set": self.training_set}


def derive_attention(
    primal: PrimalLayer, config: PrimalDualConfig | None = None, layer_idx: int | None = None
) -> PrimalDualAttention:
    """
    The support vector expansion of a primal layer (Theorem 1), as a layer to train. `config` is of width, heads and
    everything else; its own three choices are replaced.
    """
    config = PrimalDualConfig() if config is None else copy.deepcopy(config)
    for name, value in primal.fields().items():
        setattr(config, name, value)
    config.name_attention()
    return PrimalDualAttention(config, layer_idx)


def register_transform(transform: type[nn.Module] | str) -> str:
    """
    Makes a transform of your own known, and returns the name that configurations call it by, `file.Class`.

    Args:
        transform: the class; or where to import it from, such as `"my_file.Whitening"` for `my_file.py` of the working
            directory. A name of this package's own transforms is returned as it is.

    Raises:
        ValueError: for a name under which there is no module of torch, or another class was registered.
    """
    if isinstance(transform, str):
        if transform in TRANSFORMS or transform in EXTENSIONS:
            return transform
        transform = _imported(transform)
    # In a checkpoint all files lie in one folder: a file's name is all that is left of where it was.
    module = transform.__module__.rpartition(".")[2]
    if module == "__main__":
        import __main__

        module = Path(getattr(__main__, "__file__", "notebook.py")).stem
    name = f"{module}.{transform.__name__}"
    for known, value in TRANSFORMS.items():
        if value is transform:
            return known
    if EXTENSIONS.setdefault(name, transform) is not transform:
        raise ValueError(f"`transforms` has another class named {name!r} already; rename the class or its file.")
    return name


def register_transforms_of(checkpoint: str | os.PathLike) -> None:
    """
    Makes the transforms known that a checkpoint brings in files of its own, so that the classes of the installed
    package load it. It runs those files, with your rights: read them first.
    """
    config = AutoConfig.from_pretrained(checkpoint, trust_remote_code=False)
    choices = getattr(config, "choices", None)
    for name in () if choices is None else choices.transforms:
        if "." in name and name not in EXTENSIONS:
            register_transform(get_class_from_dynamic_module(name, checkpoint))


def _imported(name: str) -> type[nn.Module]:
    """The class of a transform by `file.Class`, or `package.file.Class`."""
    module, _, of = name.rpartition(".")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), of, None) if module else None
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            # It is there, and something that it imports is not.
            raise
        found = None
    finally:
        sys.path.remove(here)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(
            f"`transforms` must be of {', '.join(TRANSFORMS)}, or file.Class of a module of torch in a file of the "
            f"working directory or on the Python path, such as my_file.Whitening; got {name!r}."
        )
    return found
