"""The support vector regression that the attentions are derived from: primal, dual, expansion, dual variables."""

from .derivation import PrimalLayer, derive_attention, register_transform, register_transforms_of
from .dual_variables import DualVariables, dual_variables
from .feature_maps import ExponentialFeatureMap, elu_feature_map, feature_map_kernel
from .plots import plot_dual_variables
from .regression import (
    PrimalDualRegression,
    RegressionSolution,
    batch_normalization,
    support_vector_expansion,
    values_to_targets,
)
from .solver import ConvergenceError

__all__ = [
    "ConvergenceError",
    "DualVariables",
    "ExponentialFeatureMap",
    "PrimalDualRegression",
    "PrimalLayer",
    "RegressionSolution",
    "batch_normalization",
    "derive_attention",
    "dual_variables",
    "elu_feature_map",
    "feature_map_kernel",
    "plot_dual_variables",
    "register_transform",
    "register_transforms_of",
    "support_vector_expansion",
    "values_to_targets",
]
