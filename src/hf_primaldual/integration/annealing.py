"""From softmax attention to a preset of the paper: where a converted model starts, and how it moves in training."""

from transformers import PreTrainedConfig, PreTrainedModel, TrainerCallback

from ..modeling.attention_primal_dual import PrimalDualAttention

# What moves, with its value where the attention is plain softmax attention.
SCALES, POINTS = "head_scales", "head_points"


def start_at_identity(config: PreTrainedConfig) -> None:
    """
    Sets beta to 0, the scaling to 0 and all factors to 1, with which every head is softmax attention on every token,
    and keeps what they were in `config.annealing_target`.

    Raises:
        ValueError: for a preset that is not softmax attention even then.
    """
    kernel, transforms, training_set = config.choices
    if kernel != "softmax" or "sparse" in training_set:
        raise ValueError(
            f"`attention={config.attention!r}` can't start as softmax attention, since its {kernel} kernel over "
            f"{training_set} tokens is another one; pass `identity=False`."
        )
    if "downsampled" in training_set and config.sampling == "conv":
        raise ValueError("`sampling='conv'` learns filters of fixed lengths, which can't grow; pass `identity=False`.")
    target = {}
    if "bn" in transforms:
        target |= {"bn_beta": float(config.bn_beta), "bn_scaling": float(config.bn_scaling)}
    if "downsampled" in training_set and config.head_points is not None:
        target[POINTS] = config.resolved_head_points()
    elif "downsampled" in training_set:
        target[SCALES] = config.resolved_head_scales()
    config.annealing_target = target
    move(config, 0.0)


def longest(config: PreTrainedConfig) -> int:
    """How many tokens a model takes at most, from which numbers of points come down."""
    if config.grid_size is not None:
        return config.grid_size[0] * config.grid_size[1]
    return config.max_position_embeddings


def move(config: PreTrainedConfig, progress: float) -> None:
    """
    Sets beta, scaling and factors between the identity, at 0, and the target, at 1.

    Beta and the power of the deviation grow linearly. Factors grow, and numbers of points shrink, by equal ratios,
    rounded to whole tokens.
    """
    target = config.annealing_target
    if "bn_beta" in target:
        config.bn_beta = progress * target["bn_beta"]
        config.bn_scaling = progress * target["bn_scaling"]
    if SCALES in target:
        config.head_scales = [max(round(scale**progress), 1) for scale in target[SCALES]]
    if POINTS in target:
        start = longest(config)
        config.head_points = [
            max(round(start * (min(points, start) / start) ** progress), 1) for points in target[POINTS]
        ]


def anneal(model: PreTrainedModel, progress: float) -> None:
    """
    Moves a converted model's attention: 0 is softmax attention, 1 the preset that it was converted to.

    Raises:
        ValueError: for a model that was not converted with `identity=True`.
    """
    if getattr(model.config, "annealing_target", None) is None:
        raise ValueError(
            "`model` has no `config.annealing_target`: convert it with `hf_primaldual.convert(..., identity=True)`."
        )
    move(model.config, min(max(progress, 0.0), 1.0))
    for module in model.modules():
        if isinstance(module, PrimalDualAttention):
            module.retune()


class AnnealToTarget(TrainerCallback):
    """
    Moves the attention of a converted model from softmax to its preset over the first steps of training.

    Where it stands follows from the number of steps alone, so that a resumed run goes on as if it had not stopped; a
    checkpoint keeps in its configuration where it stood. A compiled model is compiled anew at every move.

    Args:
        steps (`int` or `float`, *optional*, defaults to 0.5): after how many steps it arrives; a `float` up to 1.0 is
            a share of all steps.

    Raises:
        ValueError: for no steps, or a model that was not converted with `identity=True`.
    """

    def __init__(self, steps: int | float = 0.5):
        if steps <= 0:
            raise ValueError(f"`steps` must be a number of steps or a share of them, above 0, got {steps}.")
        self.steps = steps

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        self._move(state, model)

    def on_train_end(self, args, state, control, model=None, **kwargs):
        self._move(state, model)

    def _move(self, state, model) -> None:
        is_share = isinstance(self.steps, float) and self.steps <= 1
        steps = self.steps * state.max_steps if is_share else self.steps
        progress = min(state.global_step / max(steps, 1), 1.0)
        if getattr(model, "_annealing_progress", None) != progress:
            anneal(model, progress)
            model._annealing_progress = progress


__all__ = ["AnnealToTarget", "anneal", "start_at_identity"]
