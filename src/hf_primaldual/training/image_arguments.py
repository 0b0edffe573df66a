"""The settings of image classification: the images, their augmentation, and the vision transformer."""

from dataclasses import dataclass, field

from .arguments import AttentionArguments, ComparisonArguments, refuse_below_one
from .augmentation import AugmentationArguments


@dataclass
class ImageDataArguments(AugmentationArguments):
    """Which images are trained on, and what is done to them."""

    dataset: str = field(
        default="fashion-mnist",
        metadata={"help": "fashion-mnist, digits, a folder of images or of parquet files, or an id of the Hub."},
    )
    data_folder: str | None = field(
        default=None, metadata={"help": "Folder of Fashion-MNIST's files. Default: see hf_primaldual.data.debian."}
    )
    name: str | None = field(default=None, metadata={"help": "Name in results and card. Default: of the data set."})
    streaming: bool = field(
        default=False, metadata={"help": "Read while training, without a cache; needs --max_steps."}
    )
    shuffle_buffer: int = field(default=10_000, metadata={"help": "Images among which a stream draws the next."})
    test_split: str = field(default="test", metadata={"help": "test, or validation as for ImageNet."})
    image_column: str | None = field(default=None, metadata={"help": "Column of images, if it is not clear."})
    label_column: str | None = field(default=None, metadata={"help": "Column of classes, if it is not clear."})
    revision: str | None = field(default=None, metadata={"help": "Revision of a data set of the Hub."})
    validation_share: float = field(
        default=0.1,
        metadata={"help": "Share of the training set, cut out by class, where there is no validation set."},
    )
    train_examples: int | None = field(
        default=None, metadata={"help": "Use so many training images, validation included; drawn once, by class."}
    )

    def __post_init__(self):
        super().__post_init__()
        if self.streaming and self.train_examples is not None:
            raise ValueError("`train_examples` draws by class, which a stream cannot; leave one of them out.")
        if self.streaming and self.repeated_augmentation > 1:
            raise ValueError("`repeated_augmentation` draws from the whole training set, not from a stream.")


@dataclass
class ImageModelArguments(AttentionArguments):
    """The vision transformer, by default DeiT-tiny."""

    image_size: int = field(default=224, metadata={"help": "Height and width the images are brought to."})
    patch_size: int = field(default=16, metadata={"help": "Height and width of a patch."})
    num_channels: int = field(
        default=3, metadata={"help": "3: grey images are read as colour, as pipelines of transformers hand them over."}
    )
    hidden_size: int = field(default=192, metadata={"help": "Width."})
    num_hidden_layers: int = field(default=12, metadata={"help": "Layers."})
    num_attention_heads: int = field(default=3, metadata={"help": "Heads."})
    intermediate_size: int = field(default=768, metadata={"help": "Width inside the feed-forward blocks."})
    dropout: float = field(default=0.0, metadata={"help": "Dropout of attention maps and sublayers."})
    drop_path_rate: float = field(default=0.0, metadata={"help": "Stochastic depth of the last layer."})
    pooling: str = field(default="cls", metadata={"help": "Input of the classifier, cls or mean."})
    distillation_token: bool = field(default=False, metadata={"help": "DeiT's second token."})
    distillation_head: bool = field(default=False, metadata={"help": "A classifier of that token too."})
    initializer_range: float = field(default=0.02, metadata={"help": "Deviation of the initial weights."})

    teacher: str | None = field(
        default=None, metadata={"help": "A classifier to distil from, a folder or an id of the Hub; with both above."}
    )

    def __post_init__(self):
        super().__post_init__()
        refuse_below_one(self, "image_size", "patch_size")
        if self.teacher is not None and not self.distillation_head:
            raise ValueError("`teacher` teaches a head of its own: set `distillation_token` and `distillation_head`.")
        if self.num_channels != 3:
            raise ValueError(
                f"`num_channels` must be 3, got {self.num_channels}: pipelines of transformers make all images "
                "colour, so grey ones are trained on as colour too."
            )


@dataclass
class ImageTrainingArguments(ComparisonArguments):
    """The optimizer of DeiT; the rest of its recipe is in `imagenet_deit_tiny.yaml`."""

    output_dir: str = field(default="outputs/images", metadata={"help": "Folder of this run and no other."})
    learning_rate: float = field(default=5e-4, metadata={"help": "Peak learning rate."})
    weight_decay: float = field(default=0.05, metadata={"help": "AdamW's weight decay."})
    max_grad_norm: float = field(default=1.0, metadata={"help": "Gradients are clipped to this norm; 0 for not."})
    per_device_train_batch_size: int = field(default=128, metadata={"help": "Images per step."})
    per_device_eval_batch_size: int = field(default=256, metadata={"help": "Images per evaluation step."})
    lr_scheduler_type: str = field(default="cosine", metadata={"help": "Schedule of the learning rate."})
    efficiency_tokens: list[int] = field(
        default_factory=list,
        metadata={"help": "Patches, square numbers, at which cost is measured beside the data's."},
    )


__all__ = ["ImageDataArguments", "ImageModelArguments", "ImageTrainingArguments"]
