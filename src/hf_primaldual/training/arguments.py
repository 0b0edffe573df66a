"""The settings of the training scripts, as dataclasses that HfArgumentParser turns into flags."""

import dataclasses
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml
from transformers import HfArgumentParser, TrainingArguments

from hf_primaldual import PRESETS


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


@dataclass
class SeriesModelArguments:
    """The model; its attention has the fields of `PrimalDualConfig`, its encoder those of the series' config."""

    attention: str = field(default="bn+sh", metadata={"help": f"The attention, one of {', '.join(PRESETS)}."})
    baseline: str = field(default="softmax", metadata={"help": "The attention it is compared with, in the same run."})
    head_scales: list[int] | None = field(default=None, metadata={"help": "Factor of each head; default: doubling."})
    head_points: list[int] | None = field(default=None, metadata={"help": "Or the number of points of each head."})
    sampling: str = field(default="average", metadata={"help": "Window to point: average, stride, random or conv."})
    sparse_pattern: list[str] = field(
        default_factory=lambda: ["local", "strided"], metadata={"help": "Union of local, strided and fixed."}
    )
    sparse_window: int = field(default=256, metadata={"help": "Width of the local window, in steps."})
    sparse_stride: int = field(default=128, metadata={"help": "Stride or length of a block, in steps."})
    feature_map: str = field(default="elu+1", metadata={"help": "Feature map of the linear kernel."})
    conv_kernel_size: int = field(default=3, metadata={"help": "Length of the filters of conv1d and conv2d."})
    bn_beta: float = field(default=1.0, metadata={"help": "Weight of the keys' mean."})
    bn_beta_learnable: bool = field(default=False, metadata={"help": "Learn one beta per head."})
    bn_scaling: bool = field(default=True, metadata={"help": "Divide by the keys' deviation; false only recentres."})
    hidden_size: int = field(default=64, metadata={"help": "Width."})
    num_hidden_layers: int = field(default=3, metadata={"help": "Layers."})
    num_attention_heads: int = field(default=8, metadata={"help": "Heads."})
    intermediate_size: int = field(default=256, metadata={"help": "Width inside the feed-forward blocks."})
    dropout: float = field(default=0.1, metadata={"help": "Dropout of attention maps, sublayers and classifier."})
    norm_type: str = field(default="batch", metadata={"help": "Norm between sublayers, batch or layer."})
    norm_position: str = field(default="post", metadata={"help": "Norm after (post) or before (pre) a sublayer."})
    pooling: str = field(default="flatten", metadata={"help": "Input of the classifier, flatten or mean."})
    initializer_range: float = field(default=0.02, metadata={"help": "Deviation of the initial weights."})
    attn_implementation: str = field(default="sdpa", metadata={"help": "Back-end of softmax attention."})

    def config_fields(self, attention: str) -> dict:
        """The configuration's fields for one of the two attentions, without those that it has no use for."""
        fields = dataclasses.asdict(self)
        dropout = fields.pop("dropout")
        del fields["baseline"]
        if attention in PRESETS and "downsampled" not in PRESETS[attention].training_set:
            fields["head_scales"] = fields["head_points"] = None
        return {
            **fields,
            "attention": attention,
            "hidden_dropout_prob": dropout,
            "attention_probs_dropout_prob": dropout,
        }


@dataclass
class SeriesTrainingArguments(TrainingArguments):
    """transformers' own training arguments, with the paper's UEA settings as defaults and what a comparison needs."""

    output_dir: str = field(default="outputs/time-series", metadata={"help": "Folder of this run and no other."})
    overwrite: bool = field(default=False, metadata={"help": "Replace the run that the output folder holds."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4], metadata={"help": "One training run for each."})
    threads: int | None = field(
        default=None, metadata={"help": "Threads of torch on a CPU; small models are fastest on one."}
    )
    model_license: str = field(default="apache-2.0", metadata={"help": "Licence of the weights, for the card."})
    efficiency_tokens: list[int] = field(
        default_factory=lambda: [1024],
        metadata={"help": "Lengths at which time and memory are measured beside the data's own."},
    )
    optimizer: str = field(
        default="radam", metadata={"help": "radam, the paper's; or trainer, for the one that --optim names."}
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate."})
    max_grad_norm: float = field(default=4.0, metadata={"help": "Gradients are clipped to this norm."})
    num_train_epochs: float = field(default=40, metadata={"help": "Epochs of each run."})
    per_device_train_batch_size: int = field(default=16, metadata={"help": "Series per step."})
    per_device_eval_batch_size: int = field(default=128, metadata={"help": "Series per evaluation step."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Schedule of the learning rate."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to look at the validation set."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save; as often as evaluated."})
    save_total_limit: int | None = field(default=1, metadata={"help": "Checkpoints kept beside the best."})
    load_best_model_at_end: bool = field(default=True, metadata={"help": "Keep the best epoch on validation."})
    metric_for_best_model: str | None = field(default="loss", metadata={"help": "What best means, on validation."})
    logging_strategy: str = field(default="epoch", metadata={"help": "When to log."})

    def __post_init__(self):
        super().__post_init__()
        # Pinned memory is for the copy to a GPU; without one torch warns at every epoch.
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.cuda.is_available()
        if self.optimizer not in ("radam", "trainer"):
            raise ValueError(f"`optimizer` must be radam or trainer, got {self.optimizer!r}.")
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"`seeds` must name at least one seed and each once, got {self.seeds}.")


def parse_arguments(*dataclass_types, argv: list[str] | None = None) -> tuple:
    """
    Reads flags, and before them the settings of a YAML file if the first argument is one: `run.yaml --seeds 0`.

    Raises:
        ValueError: for a setting in the file that no dataclass has.
    """
    argv = sys.argv[1:] if argv is None else argv
    parser = HfArgumentParser(dataclass_types)
    if argv and argv[0].endswith((".yaml", ".yml")):
        settings = yaml.safe_load(Path(argv[0]).read_text(encoding="utf-8")) or {}
        known = {field.name for dataclass_type in dataclass_types for field in dataclasses.fields(dataclass_type)}
        unknown = sorted(set(settings) - known)
        if unknown:
            raise ValueError(f"{argv[0]} sets {', '.join(unknown)}, which this script does not know; see --help.")
        parser.set_defaults(**settings)
        argv = argv[1:]
    return parser.parse_args_into_dataclasses(argv)


__all__ = ["SeriesDataArguments", "SeriesModelArguments", "SeriesTrainingArguments", "parse_arguments"]
