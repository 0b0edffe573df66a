"""From a primal layer to its attention."""

import copy
from dataclasses import dataclass
from pathlib import Path

from torch import nn

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
        names = [each if isinstance(each, str) else _register(each) for each in self.transforms]
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
    return PrimalDualAttention(config, layer_idx)


def _register(transform: type[nn.Module]) -> str:
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
