"""Pictures of dual variables."""

from os import PathLike

from ..pictures import in_style, new_figure
from .dual_variables import DualVariables

# Keys below this share of their head's largest coefficient are all drawn alike.
_LEAST_SHARE = 1e-3


@in_style
def plot_dual_variables(
    result: DualVariables | list[DualVariables], path: str | PathLike | None = None, row: int = 0, title: str = ""
):
    """
    Draws |alpha - alpha~| of each key as a share of its head's largest: a strip for each head, a panel for each layer.
    A strip of a downsampled head has fewer, wider keys. At its side stands ||W||_F, the norm of the head's primal
    weight.

    Args:
        result (`DualVariables` or a list of them): What `dual_variables` returned.
        path (`str`, *optional*): Where to write the picture; its suffix, such as `.png` or `.svg`, is the format.
        row (`int`): Which row of the batch.
        title (`str`): Above the panels.

    Returns:
        The `matplotlib.figure.Figure`. It draws without a display, and is no part of pyplot.
    """
    results = [result] if isinstance(result, DualVariables) else list(result)
    if not results:
        raise ValueError("`result` must hold at least one layer, got an empty list.")
    batch, heads, _ = results[0].mask.shape
    if not 0 <= row < batch:
        raise ValueError(f"`row` must be 0 to {batch - 1}, got {row}.")
    figure, panels = new_figure(7, 1.2 + len(results) * (0.8 + 0.2 * heads), len(results), 1, sharex=True)
    # After `new_figure`, which says where there is no matplotlib.
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import FuncFormatter

    panels = panels[:, 0]
    for panel, layer in zip(panels, results, strict=True):
        shares = layer.relative_magnitudes()[row].clamp(min=_LEAST_SHARE)
        norms = (layer.log_squared_weight_norms[row] / 2).exp().tolist()
        for head, kept in enumerate(layer.mask[row]):
            strip = panel.imshow(
                shares[head, kept].unsqueeze(0).numpy(),
                norm=LogNorm(_LEAST_SHARE, 1),
                cmap="Blues",
                aspect="auto",
                interpolation="nearest",
                extent=(0, 1, head + 0.45, head - 0.45),
            )
        panel.set_ylim(heads - 0.5, -0.5)
        panel.set_yticks(range(heads), [f"head {head}, ‖W‖ = {norm:.3g}" for head, norm in enumerate(norms)])
        panel.set_title(f"layer {layer.layer}, {layer.kernel} kernel", loc="left")
    panels[-1].set_xlabel("place in the sequence, from first to last key")
    percent = FuncFormatter(lambda share, _: f"{100 * share:g} %")
    figure.colorbar(strip, ax=list(panels), label="|α − α̃| of its head's largest", extend="min", format=percent)
    figure.suptitle(title, parse_math=False)
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure
