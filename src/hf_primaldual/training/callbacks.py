"""Callbacks that the training scripts share."""

from transformers.trainer_callback import ProgressCallback


class RunProgress(ProgressCallback):
    """One bar for each run, with its name and the last figures at its end, instead of a printed line per epoch."""

    shown = ("loss", "eval_loss", "eval_accuracy")

    def __init__(self, name: str):
        super().__init__()
        self.name = name
        self.figures = {}

    def on_train_begin(self, args, state, control, **kwargs):
        super().on_train_begin(args, state, control, **kwargs)
        if self.training_bar is not None:
            self.training_bar.set_description(self.name)

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.figures |= {name: logs[name] for name in self.shown if name in (logs or {})}
        if self.training_bar is not None:
            self.training_bar.set_postfix(self.figures)

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        """Evaluations are short: no bar of their own."""

    def on_evaluate(self, args, state, control, **kwargs):
        """See `on_prediction_step`."""


__all__ = ["RunProgress"]
