"""What a model costs: operations, memory, time, parameters, and the machine they were measured on."""

from .attention_maps import attention_maps, maps_over_tokens
from .costs import count_parameters, efficiency_point, load_model, make_inputs, measure, measure_together
from .environment import environment
from .flops import attention_share, count_flops
from .latency import Timing, inference, interleaved, training_step
from .memory import Outcome, activation_memory, count_peak_memory, if_it_fits, is_out_of_memory, peak_memory
from .redundancy import LayerRedundancy, head_redundancy, mean_redundancy
from .results import compare, save_results

__all__ = [
    "LayerRedundancy",
    "Outcome",
    "Timing",
    "activation_memory",
    "attention_maps",
    "attention_share",
    "compare",
    "count_flops",
    "count_parameters",
    "count_peak_memory",
    "efficiency_point",
    "environment",
    "head_redundancy",
    "if_it_fits",
    "inference",
    "interleaved",
    "is_out_of_memory",
    "load_model",
    "make_inputs",
    "maps_over_tokens",
    "mean_redundancy",
    "measure",
    "measure_together",
    "peak_memory",
    "save_results",
    "training_step",
]
