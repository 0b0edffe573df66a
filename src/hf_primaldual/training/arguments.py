"""The settings that all training scripts share, as dataclasses that HfArgumentParser turns into flags."""

import datetime
import os
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.utils import strtobool

from hf_primaldual import PRESETS

from .settings import OF_A_RUN, mapping, names_of, parse_arguments, refuse_below_one, refuse_unknown, typed_settings

# What a comparison is told of its model that is not a field of the model's configuration.
_OF_THE_COMPARISON = ("attention", "baseline", "per_attention")


@dataclass
class AttentionArguments:
    """The attentions that are compared, with the fields of `PrimalDualConfig`; each gets those it has a use for."""

    attention: list[str] = field(
        default_factory=lambda: ["bn+sh"], metadata={"help": f"One or more of {', '.join(PRESETS)}."}
    )
    baseline: str = field(
        default="softmax", metadata={"help": "The attention they are compared with, in the same run."}
    )
    per_attention: dict | str | None = field(
        default=None,
        metadata={
            "help": "Settings of single attentions, over those below: a mapping in a YAML file, JSON as a flag, such "
            'as {"bn": {"bn_beta": 0.5}}.'
        },
    )
    head_scales: list[int] | None = field(default=None, metadata={"help": "Factor of each head; default: doubling."})
    head_points: list[int] | None = field(default=None, metadata={"help": "Or the number of points of each head."})
    sampling: str = field(default="average", metadata={"help": "Window to point: average, stride, random or conv."})
    sparse_pattern: list[str] = field(
        default_factory=lambda: ["local", "strided"], metadata={"help": "Union of local, strided and fixed."}
    )
    sparse_window: int = field(default=256, metadata={"help": "Width of the local window, in tokens."})
    sparse_stride: int = field(default=128, metadata={"help": "Stride or length of a block, in tokens."})
    feature_map: str = field(default="elu+1", metadata={"help": "Feature map of the linear kernel."})
    conv_kernel_size: int = field(default=3, metadata={"help": "Length of the filters of conv1d and conv2d."})
    bn_beta: float = field(default=1.0, metadata={"help": "Weight of the keys' mean."})
    bn_beta_learnable: bool = field(default=False, metadata={"help": "Learn one beta per head."})
    bn_scaling: bool = field(default=True, metadata={"help": "Divide by the keys' deviation; false only recentres."})
    attn_implementation: str = field(default="sdpa", metadata={"help": "Back-end of softmax attention."})

    def __post_init__(self):
        if isinstance(self.attention, str):
            self.attention = [self.attention]
        for name in (*self.attention, self.baseline):
            if name not in PRESETS:
                raise ValueError(f"`attention` and `baseline` must be of {', '.join(PRESETS)}, got {name!r}.")
        if not self.attention or len(set(self.attention)) != len(self.attention):
            raise ValueError(f"`attention` must name at least one attention and each once, got {self.attention}.")
        if self.baseline in self.attention:
            raise ValueError(f"`attention` and `baseline` must differ, got {self.baseline!r} in both.")
        self.per_attention = mapping("per_attention", self.per_attention)
        refuse_unknown(self.per_attention, self.names, "`per_attention`")
        types = (type(self), TrainingArguments)
        known = set().union(*map(names_of, types)) - {*_OF_THE_COMPARISON, *OF_A_RUN, "output_dir", "push_to_hub"}
        self.per_attention = {
            name: typed_settings(mapping(f"per_attention.{name}", own), types, known, f"`per_attention` of {name}")
            for name, own in self.per_attention.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """The baseline, then the attentions."""
        return (self.baseline, *self.attention)

    def config_fields(self, attention: str, **changes: Any) -> dict[str, Any]:
        """
        The configuration's fields for one of the attentions, without those that it has no use for.

        Args:
            attention: one of `names`.
            changes: settings that go over all others.
        """
        own = {name: value for name, value in self._own(attention).items() if name in names_of(type(self))}
        fields = {**asdict(self), **own, **changes}
        for name in _OF_THE_COMPARISON:
            del fields[name]
        if "dropout" in fields:
            dropout = fields.pop("dropout")
            fields |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        if "downsampled" not in PRESETS[attention].training_set:
            fields["head_scales"] = fields["head_points"] = None
        return {**fields, "attention": attention}

    def training_fields(self, attention: str) -> dict[str, Any]:
        """The settings of one of the attentions that are Trainer's, such as its learning rate."""
        return {name: value for name, value in self._own(attention).items() if name not in names_of(type(self))}

    def _own(self, attention: str) -> dict[str, Any]:
        return self.per_attention.get(attention, {})


@dataclass
class ComparisonArguments(TrainingArguments):
    """transformers' own training arguments, and what a comparison of attentions over seeds needs."""

    output_dir: str = field(default="outputs/run", metadata={"help": "Folder of this run and no other."})
    overwrite: bool = field(default=False, metadata={"help": "Replace the run that the output folder holds."})
    resume_from_checkpoint: bool = field(
        default=False, metadata={"help": "Go on with the run that the output folder holds, as if it had not stopped."}
    )
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4], metadata={"help": "One training run for each."})
    threads: int | None = field(
        default=None, metadata={"help": "Threads of torch on a CPU; small models are fastest on one."}
    )
    model_license: str = field(
        default="", metadata={"help": "Licence of the weights, for the card; without one they can't be published."}
    )
    results_dir: str | None = field(
        default=None, metadata={"help": "Folder that gets a copy of the results and the curves."}
    )
    efficiency_tokens: list[int] = field(
        default_factory=lambda: [1024],
        metadata={"help": "Lengths at which time and memory are measured beside the data's own."},
    )
    optimizer: str = field(
        default="trainer", metadata={"help": "trainer, for the one that --optim names; or radam, of the UEA runs."}
    )
    ema_decay: float | None = field(
        default=None, metadata={"help": "Keep an exponential average of the weights, and evaluate and release it."}
    )
    search: int | None = field(
        default=None,
        metadata={"help": "Try so many settings of each attention on validation and write the best into a file."},
    )
    search_space: dict | str | None = field(
        default=None,
        metadata={
            "help": "What is searched: a mapping in a YAML file, JSON as a flag; a setting's list of choices, or low "
            'and high of a number: {"bn_beta": {"low": 0, "high": 1}}. Default: beta, scaling and factors.'
        },
    )
    eval_strategy: str = field(default="epoch", metadata={"help": "When to look at the validation set."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save; as often as evaluated."})
    save_total_limit: int | None = field(default=1, metadata={"help": "Checkpoints kept beside the best."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Keep the best epoch on validation."})
    metric_for_best_model: str | None = field(default="loss", metadata={"help": "What best means, on validation."})
    logging_strategy: str = field(default="epoch", metadata={"help": "When to log."})
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "Look for parameters without a gradient in each step; our models have none."}
    )

    def __post_init__(self):
        self._join_processes()
        super().__post_init__()
        if self.accelerator_config.dispatch_batches is None:
            # By default the first process reads a stream for all, and stacks batches that are padded to other lengths.
            self.accelerator_config.dispatch_batches = False
        # Pinned memory is for the copy to a GPU; without one torch warns at every epoch.
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.cuda.is_available()
        # The collators drop what the model does not take; Trainer would also drop what they read.
        self.remove_unused_columns = False
        if self.optimizer not in ("radam", "trainer"):
            raise ValueError(f"`optimizer` must be radam or trainer, got {self.optimizer!r}.")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"`seeds` must name at least one seed and each once, got {self.seeds}.")
        if min(self.seeds) < 0 or max(self.seeds) >= 2**32:
            raise ValueError(f"`seeds` must be from 0 to 2**32 - 1, got {self.seeds}.")
        if self.overwrite and self.resume_from_checkpoint:
            raise ValueError(
                "`overwrite` replaces the run that `resume_from_checkpoint` would go on with; pass one of them."
            )
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"`ema_decay` must be between 0 and 1, got {self.ema_decay}.")
        sharding = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
        is_sharded = self.fsdp or self.deepspeed or any(strtobool(os.environ.get(name, "0")) for name in sharding)
        if self.ema_decay is not None and is_sharded:
            raise ValueError("`ema_decay` averages whole weights, which FSDP and DeepSpeed shard; train without it.")
        refuse_below_one(self, "search", "threads", "per_device_train_batch_size", "per_device_eval_batch_size")
        if not 0 <= self.learning_rate < float("inf"):
            raise ValueError(f"`learning_rate` must be a number of at least 0, got {self.learning_rate}.")
        if not self.num_train_epochs > 0 and self.max_steps <= 0:
            raise ValueError(f"`num_train_epochs` must be positive, got {self.num_train_epochs}.")
        if min(self.efficiency_tokens, default=1) < 1:
            raise ValueError(f"`efficiency_tokens` must be numbers of at least 1, got {self.efficiency_tokens}.")
        self.search_space = mapping("search_space", self.search_space)

    def _join_processes(self) -> None:
        """
        Makes the processes that a launcher started one training.

        Raises:
            ValueError: where they would train each on its own, or otherwise than was asked for, without a word.
        """
        on_cpu = self.use_cpu or bool(strtobool(os.environ.get("ACCELERATE_USE_CPU", "false")))
        launched = int(os.environ.get("WORLD_SIZE", "1"))
        if not on_cpu and launched > 1 and not torch.accelerator.is_available():
            raise ValueError(
                f"`use_cpu` is off and there is no GPU: each of the {launched} processes would train alone on all the "
                "data; pass --use_cpu true."
            )
        if on_cpu and self.fsdp:
            raise ValueError("`fsdp` needs GPUs: on a CPU Accelerate would train with DDP instead; leave it out.")
        if on_cpu and launched > 1 and not torch.distributed.is_initialized():
            # transformers passes the time-out on for GPUs alone.
            torch.distributed.init_process_group("gloo", timeout=datetime.timedelta(seconds=self.ddp_timeout))


@dataclass
class SeriesDataArguments:
    """Which series are trained on."""

    dataset: str = field(default="JapaneseVowels", metadata={"help": "Name of the task in the UEA archive."})
    data_folder: str | None = field(
        default=None,
        metadata={"help": "Folder of the unpacked archive. Default: the tasks inside the installed aeon wheel."},
    )
    validation_share: float = field(
        default=0.2, metadata={"help": "Share of the training set, cut out by class, on which the epoch is chosen."}
    )
    max_steps_per_series: int | None = field(
        default=None,
        metadata={"help": "Positions of the model. Default: the longest series of the archive's two files."},
    )
    missing_values: str = field(
        default="error", metadata={"help": "error, or mean: what is missing becomes its channel's training mean."}
    )

    def __post_init__(self):
        refuse_below_one(self, "max_steps_per_series")
        if self.missing_values not in ("error", "mean"):
            raise ValueError(f"`missing_values` must be error or mean, got {self.missing_values!r}.")


@dataclass
class SeriesModelArguments(AttentionArguments):
    """The model of a series: its attentions, and the encoder of the paper's smaller UEA set-up."""

    hidden_size: int = field(default=64, metadata={"help": "Width."})
    num_hidden_layers: int = field(default=3, metadata={"help": "Layers."})
    num_attention_heads: int = field(default=8, metadata={"help": "Heads."})
    intermediate_size: int = field(default=256, metadata={"help": "Width inside the feed-forward blocks."})
    dropout: float = field(default=0.1, metadata={"help": "Dropout of attention maps, sublayers and classifier."})
    norm_type: str = field(default="batch", metadata={"help": "Norm between sublayers, batch or layer."})
    norm_position: str = field(default="post", metadata={"help": "Norm after (post) or before (pre) a sublayer."})
    pooling: str = field(default="flatten", metadata={"help": "Input of the classifier, flatten or mean."})
    initializer_range: float = field(default=0.02, metadata={"help": "Deviation of the initial weights."})


@dataclass
class SeriesTrainingArguments(ComparisonArguments):
    """The paper's UEA settings as defaults."""

    output_dir: str = field(default="outputs/time-series", metadata={"help": "Folder of this run and no other."})
    optimizer: str = field(
        default="radam", metadata={"help": "radam, the paper's; or trainer, for the one that --optim names."}
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate."})
    max_grad_norm: float = field(default=4.0, metadata={"help": "Gradients are clipped to this norm."})
    num_train_epochs: float = field(default=40, metadata={"help": "Epochs of each run."})
    per_device_train_batch_size: int = field(default=16, metadata={"help": "Series per step."})
    per_device_eval_batch_size: int = field(default=128, metadata={"help": "Series per evaluation step."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Schedule of the learning rate."})


__all__ = [
    "AttentionArguments",
    "ComparisonArguments",
    "SeriesDataArguments",
    "SeriesModelArguments",
    "SeriesTrainingArguments",
    "parse_arguments",
    "refuse_below_one",
]
