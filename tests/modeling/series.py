"""Small series models and batches for the tests."""

import torch

from hf_primaldual import PrimalDualTimeSeriesConfig, PrimalDualTimeSeriesForSequenceClassification

CHANNELS, LABELS, LONGEST = 3, 4, 24


def small_config(**fields) -> PrimalDualTimeSeriesConfig:
    fields = {
        "num_channels": CHANNELS,
        "max_position_embeddings": LONGEST,
        "hidden_size": 16,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "intermediate_size": 32,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "num_labels": LABELS,
        **fields,
    }
    return PrimalDualTimeSeriesConfig(**fields)


def small_model(implementation: str = "sdpa", **fields) -> PrimalDualTimeSeriesForSequenceClassification:
    """A classifier with weights large enough for its parts to matter, and its running averages moved once."""
    config = small_config(initializer_range=0.2, **fields)
    config._attn_implementation = implementation
    return stirred(PrimalDualTimeSeriesForSequenceClassification(config))


def stirred(model: torch.nn.Module) -> torch.nn.Module:
    """The model with nothing left at a start where it has no effect, and its running averages moved."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.2)
            elif "filters" in name or (".transforms." in name and name.endswith("weight")):
                # They start as what changes nothing.
                parameter.add_(0.3 * torch.randn_like(parameter))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm1d):
                module.running_mean.normal_(std=0.2)
                module.running_var.uniform_(0.5, 2)
    return model.eval()


def series_batch(lengths=(20, 13, 1, 7), steps: int = 20) -> dict[str, torch.Tensor]:
    """Series of these lengths, padded to `steps` with values that would be seen if they leaked."""
    mask = torch.arange(steps) < torch.tensor(lengths).unsqueeze(1)
    values = torch.randn(len(lengths), steps, CHANNELS)
    values = torch.where(mask.unsqueeze(-1), values, 1e4 * torch.randn_like(values))
    labels = torch.arange(len(lengths)) % LABELS
    return {"past_values": values, "attention_mask": mask.long(), "labels": labels}


def with_more_padding(batch: dict[str, torch.Tensor], steps: int) -> dict[str, torch.Tensor]:
    """The same series with `steps` more padded steps, of other values."""
    values = batch["past_values"]
    padding = 1e4 * torch.randn(values.shape[0], steps, values.shape[2])
    return {
        **batch,
        "past_values": torch.cat((values, padding), dim=1),
        "attention_mask": torch.nn.functional.pad(batch["attention_mask"], (0, steps)),
    }
