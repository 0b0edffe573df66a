"""The configurations of the models: what their architectures need beside the attention."""

from huggingface_hub.dataclasses import strict

from .configuration_primal_dual import PrimalDualConfig


@strict
class PrimalDualTimeSeriesConfig(PrimalDualConfig):
    r"""
    Configuration of a transformer encoder over multivariate series, with its classifier.

    The defaults are the encoder of Zerveas et al. (2021) that the paper's smaller UEA tasks use: 3 layers, width 64,
    FFN 256, batch normalization after each sublayer, flattened head. The larger tasks' set-up is
    `num_hidden_layers=2, hidden_size=512, intermediate_size=2048, norm_type="layer"`.

    Args:
        num_channels (`int`, *optional*, defaults to 1):
            Channels of the series.
        max_position_embeddings (`int`, *optional*, defaults to 512):
            Longest series, in steps; positions are learned.
        num_hidden_layers (`int`, *optional*, defaults to 3):
            Number of layers.
        intermediate_size (`int`, *optional*, defaults to 256):
            Width inside the feed-forward blocks.
        hidden_act (`str`, *optional*, defaults to `"gelu"`):
            Activation of the feed-forward blocks and before a flattened head.
        hidden_dropout_prob (`float`, *optional*, defaults to 0.1):
            Dropout of embeddings, sublayers and the classifier's input.
        norm_type (`str`, *optional*, defaults to `"batch"`):
            `"batch"`, over the real tokens of the batch with running averages, or `"layer"`.
        norm_position (`str`, *optional*, defaults to `"post"`):
            `"post"`, after the residual sum, or `"pre"`, before the sublayer.
        norm_eps (`float`, *optional*, defaults to 1e-5):
            Added to the variances of these norms.
        pooling (`str`, *optional*, defaults to `"flatten"`):
            `"flatten"` classifies all steps side by side, up to `max_position_embeddings`; `"mean"` their average.

    The other arguments are those of [`PrimalDualConfig`].
    """

    model_type = "primal_dual_time_series"

    num_channels: int = 1
    max_position_embeddings: int = 512
    num_hidden_layers: int = 3
    intermediate_size: int = 256
    hidden_act: str = "gelu"
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    norm_type: str = "batch"
    norm_position: str = "post"
    norm_eps: float = 1e-5
    pooling: str = "flatten"

    def __post_init__(self, **kwargs):
        # Lets `pipeline(model=folder, trust_remote_code=True)` find the pipeline that travels with the checkpoint.
        kwargs.setdefault(
            "custom_pipelines",
            {
                "time-series-classification": {
                    "impl": "pipeline_primal_dual.TimeSeriesClassificationPipeline",
                    "pt": ["AutoModelForSequenceClassification"],
                    "type": "multimodal",
                }
            },
        )
        super().__post_init__(**kwargs)

    def validate_encoder(self):
        """Part of `@strict`'s validation."""
        for name in ("num_channels", "max_position_embeddings", "num_hidden_layers", "intermediate_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        for name, allowed in (
            ("norm_type", ("batch", "layer")),
            ("norm_position", ("post", "pre")),
            ("pooling", ("flatten", "mean")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, got {getattr(self, name)!r}.")


PrimalDualTimeSeriesConfig.register_for_auto_class()


__all__ = ["PrimalDualTimeSeriesConfig"]
