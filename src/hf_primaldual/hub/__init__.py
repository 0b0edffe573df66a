"""What lies beside weights on the Hub: a results file, a model card, and the checks before it is published."""

from .trained import checkpoint_from_trainer, results_from_trainer

__all__ = ["checkpoint_from_trainer", "results_from_trainer"]
