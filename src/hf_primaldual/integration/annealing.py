"""Moving a converted model from softmax attention to a preset of the paper."""

from transformers import PreTrainedModel, TrainerCallback

from ..modeling.annealing_primal_dual import Annealing
from ..modeling.attention_primal_dual import PrimalDualAttention


def anneal(model: PreTrainedModel, progress: float) -> None:
    """
    Moves a converted model's attention: 0 is softmax attention, 1 the preset that it was converted to. How far it has
    come is a buffer of each attention layer, which is saved and restored with the weights.

    Raises:
        ValueError: for a model that was not converted with `identity=True`; for one with a PEFT adapter that does not
            hold the buffer, and so would be put back on a base that stands elsewhere.
    """
    _check(model)
    for module in model.modules():
        if isinstance(module, PrimalDualAttention) and module.annealing is not None:
            module.annealing(progress)
            module.follow_annealing()


def _check(model: PreTrainedModel) -> None:
    names = [name for name, module in model.named_modules() if isinstance(module, Annealing)]
    if not names:
        raise ValueError(
            "`model` has no `annealing` in its attention layers: convert it with `hf_primaldual.convert(..., "
            "identity=True)`."
        )
    if getattr(model, "peft_config", None) and not any("modules_to_save" in name for name in names):
        raise ValueError(
            "`model` has an adapter that does not hold how far the attention has moved, and would be put back on "
            'weights that stand elsewhere: add "annealing" to its configuration\'s `modules_to_save`, or call '
            "`hf_primaldual.integration.annealing.anneal(model, 1.0)` before you add the adapter, and save that model "
            "as its base."
        )


def keep_in_adapters(model: PreTrainedModel) -> None:
    """
    Lets the adapters of a `PeftModel` hold how far its attention has moved, as `modules_to_save=["annealing"]` does
    from the start: put back on their base, which stands elsewhere, they take it along.
    """
    adapters = getattr(model, "active_adapters", ())
    if not (type(model).__module__.startswith("peft.") and hasattr(model.active_peft_config, "modules_to_save")):
        return
    from peft.utils import ModulesToSaveWrapper

    for attention in [module for module in model.modules() if isinstance(module, PrimalDualAttention)]:
        if attention.annealing is not None:
            if isinstance(attention.annealing, Annealing):
                attention.annealing = ModulesToSaveWrapper(attention.annealing, adapters[0])
            attention.annealing.update(adapters[0])
            attention.annealing.set_adapter(adapters[0])
            config = model.active_peft_config
            config.modules_to_save = sorted({*(config.modules_to_save or ()), "annealing"})


class AnnealToTarget(TrainerCallback):
    """
    Moves the attention of a converted model from softmax to its preset over the first steps of training.

    Where it stands follows from the number of steps alone, so that a resumed run goes on as if it had not stopped; a
    checkpoint keeps in its weights where it stood, and so does an adapter of PEFT, whose `modules_to_save` get the
    layers' `annealing`. A compiled model is compiled again at every move.

    Args:
        steps (`int` or `float`, *optional*, defaults to 0.5): after how many steps it arrives; a `float` up to 1.0 is
            a share of all steps.

    Raises:
        ValueError: for no steps, and as [`anneal`] does.
    """

    def __init__(self, steps: int | float = 0.5):
        if steps <= 0:
            raise ValueError(f"`steps` must be a number of steps or a share of them, above 0, got {steps}.")
        self.steps = steps

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        keep_in_adapters(model)

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        is_share = isinstance(self.steps, float) and self.steps <= 1
        steps = self.steps * state.max_steps if is_share else self.steps
        if steps == state.max_steps:
            # The last step too is one of the preset, since an evaluation follows it.
            steps -= 1
        anneal(model, state.global_step / steps if steps > 0 else 1.0)


__all__ = ["AnnealToTarget", "anneal"]
