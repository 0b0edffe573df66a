"""The settings that all training scripts share, as dataclasses that HfArgumentParser turns into flags."""

import datetime
import os
from dataclasses import asdict, dataclass
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.hf_argparser import HfArg
from transformers.utils import strtobool

from hf_primaldual import PRESETS
from hf_primaldual.modeling.presets_primal_dual import choices_of, name_of
from hf_primaldual.theory import register_transform

from .settings import mapping, refuse_below_one, refuse_unknown, typed_settings

# What a comparison is told of its model that is not a field of the model's configuration.
_OF_THE_COMPARISON = ("attention", "transforms", "baseline", "per_attention")


@dataclass
class AttentionArguments:
    """The attentions that are compared, with the fields of `PrimalDualConfig`; each gets those it has a use for."""

    attention: list[str] = HfArg(default_factory=lambda: ["bn+sh"], help=f"One or more of {', '.join(PRESETS)}.")
    transforms: list[str] | None = HfArg(
        default=None, help="Transforms in place of those of --attention: of bn, conv1d, conv2d, or my_file.Whitening."
    )
    baseline: str = HfArg(default="softmax", help="The attention they are compared with, in the same run.")
    per_attention: dict | str | None = HfArg(
        default=None, help='Settings of single attentions: a mapping; as a flag JSON, {"bn": {"bn_beta": 0.5}}.'
    )
    head_scales: list[int] | None = HfArg(default=None, help="Factor of each head; default: doubling.")
    head_points: list[int] | None = HfArg(default=None, help="Or the number of points of each head.")
    sampling: str = HfArg(default="average", help="Window to point: average, stride, random or conv.")
    sparse_pattern: list[str] = HfArg(
        default_factory=lambda: ["local", "strided"], help="Union of local, strided and fixed."
    )
    sparse_window: int = HfArg(default=256, help="Width of the local window, in tokens.")
    sparse_stride: int = HfArg(default=128, help="Stride or length of a block, in tokens.")
    feature_map: str = HfArg(default="elu+1", help="Feature map of the linear kernel.")
    conv_kernel_size: int = HfArg(default=3, help="Length of the filters of conv1d and conv2d.")
    bn_beta: float = HfArg(default=1.0, help="Weight of the keys' mean.")
    bn_beta_learnable: bool = HfArg(default=False, help="Learn one beta per head.")
    bn_scaling: bool = HfArg(default=True, help="Divide by the keys' deviation; false only recentres.")
    bn_scaling_learnable: bool = HfArg(default=False, help="Learn the power of it, one per head.")
    attn_implementation: str = HfArg(default="sdpa", help="Back-end of softmax attention.")

    def __post_init__(self):
        if isinstance(self.attention, str):
            self.attention = [self.attention]
        renamed = {name: self._registered(name) for name in (*self.attention, self.baseline)}
        if self.transforms is not None:
            chain = tuple(register_transform(name) for name in self.transforms)
            renamed |= {name: name_of(choices_of(renamed[name])._replace(transforms=chain)) for name in self.attention}
        self.attention, self.baseline = [renamed[name] for name in self.attention], self._registered(self.baseline)
        if not self.attention or len(set(self.attention)) != len(self.attention):
            raise ValueError(f"`attention` must name at least one attention and each once, got {self.attention}.")
        if self.baseline in self.attention:
            raise ValueError(f"`attention` and `baseline` must differ, got {self.baseline!r} in both.")
        own = mapping("per_attention", self.per_attention)
        self.per_attention = {
            name if name == self.baseline else renamed.get(name, name): value for name, value in own.items()
        }
        refuse_unknown(self.per_attention, self.names, "`per_attention`")
        types, of_all = (type(self), TrainingArguments), (*_OF_THE_COMPARISON, "output_dir", "push_to_hub")
        for name, own in self.per_attention.items():
            own = mapping(f"per_attention.{name}", own)
            self.per_attention[name] = typed_settings(own, types, f"`per_attention` of {name}", of_all)

    @staticmethod
    def _registered(name: str) -> str:
        """The name of an attention; transforms in it from outside of this package are known from here on."""
        choices = choices_of(name)
        if choices is None:
            raise ValueError(f"`attention` and `baseline` must be of {', '.join(PRESETS)}, got {name!r}.")
        return name_of(choices._replace(transforms=tuple(register_transform(each) for each in choices.transforms)))

    @property
    def names(self) -> tuple[str, ...]:
        """The baseline, then the attentions."""
        return (self.baseline, *self.attention)

    def config_fields(self, attention: str, **changes: Any) -> dict[str, Any]:
        """The configuration's fields for an attention, without those that it has no use for; `changes` go over all."""
        own = self.per_attention.get(attention, {})
        fields = {**asdict(self), **{name: own[name] for name in own if hasattr(self, name)}, **changes}
        for name in _OF_THE_COMPARISON:
            del fields[name]
        if "dropout" in fields:
            dropout = fields.pop("dropout")
            fields |= {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
        if "downsampled" not in choices_of(attention).training_set:
            fields["head_scales"] = fields["head_points"] = None
        return {**fields, "attention": attention}

    def training_fields(self, attention: str) -> dict[str, Any]:
        """The settings of one of the attentions that are Trainer's, such as its learning rate."""
        own = self.per_attention.get(attention, {})
        return {name: value for name, value in own.items() if not hasattr(self, name)}


@dataclass
class ComparisonArguments(TrainingArguments):
    """transformers' own training arguments, and what a comparison of attentions over seeds needs."""

    output_dir: str = HfArg(default="outputs/run", help="Folder of this run and no other.")
    overwrite: bool = HfArg(default=False, help="Replace the run that the output folder holds.")
    resume_from_checkpoint: bool = HfArg(default=False, help="Go on with the run that the output folder holds.")
    seeds: list[int] = HfArg(default_factory=lambda: [0, 1, 2, 3, 4], help="One training run for each.")
    threads: int | None = HfArg(default=None, help="Threads of torch on a CPU; small models are fastest on one.")
    model_license: str = HfArg(default="", help="Licence of the weights, which publishing them needs.")
    results_dir: str | None = HfArg(default=None, help="Folder that gets a copy of the results and the curves.")
    efficiency_tokens: list[int] = HfArg(
        default_factory=lambda: [1024], help="Lengths at which time and memory are measured besides the data's own."
    )
    optimizer: str = HfArg(default="trainer", help="trainer, for that of --optim; or radam, of the UEA runs.")
    ema_decay: float | None = HfArg(default=None, help="Evaluate and release an average of the weights.")
    search: int | None = HfArg(default=None, help="Try so many settings of each attention on validation.")
    search_space: dict | str | None = HfArg(
        default=None,
        help="What is searched: a mapping, as a flag JSON; lists of choices, or low and high of numbers: "
        '{"bn_beta": {"low": 0, "high": 1}}. Default: beta, scaling and factors.',
    )
    eval_strategy: str = HfArg(default="epoch", help="When to look at the validation set.")
    save_strategy: str = HfArg(default="epoch", help="When to save; as often as evaluated.")
    save_total_limit: int | None = HfArg(default=1, help="Checkpoints kept besides the best.")
    load_best_model_at_end: bool = HfArg(default=True, help="Keep the best epoch on validation.")
    metric_for_best_model: str | None = HfArg(default="loss", help="What best means, on validation.")
    logging_strategy: str = HfArg(default="epoch", help="When to log.")
    ddp_find_unused_parameters: bool | None = HfArg(default=False, help="Needed by models of other people.")

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
        """Makes the processes that a launcher started one training, and refuses where they would not be one."""
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
