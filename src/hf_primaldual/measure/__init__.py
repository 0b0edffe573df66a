"""What a model costs: operations, memory, time, parameters, and the machine they were measured on."""

from .efficiency import efficiency_point
from .environment import environment
from .fits import Outcome, if_it_fits, is_out_of_memory, those_that_fit
from .flops import count_flops
from .formulas import attention_flops, text_model_flops
from .latency import Timing, interleaved, median_of_ratios, ratio_of_medians
from .memory import activation_memory, peak_memory
from .memory_formulas import attention_activation_bytes, text_model_activation_bytes, text_model_peak_bytes
from .models import load_model, make_inputs, measure, measure_together
from .parameters import count_parameters
from .redundancy import LayerRedundancy, head_redundancy, maps_over_tokens, mean_redundancy
from .results import compare, save_results

__all__ = [
    "LayerRedundancy",
    "Outcome",
    "Timing",
    "activation_memory",
    "attention_activation_bytes",
    "attention_flops",
    "compare",
    "count_flops",
    "count_parameters",
    "efficiency_point",
    "environment",
    "head_redundancy",
    "if_it_fits",
    "interleaved",
    "is_out_of_memory",
    "load_model",
    "make_inputs",
    "maps_over_tokens",
    "mean_redundancy",
    "measure",
    "measure_together",
    "median_of_ratios",
    "peak_memory",
    "ratio_of_medians",
    "save_results",
    "text_model_activation_bytes",
    "text_model_flops",
    "text_model_peak_bytes",
    "those_that_fit",
]
