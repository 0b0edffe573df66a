"""The schema of `results.json`, which a training script writes and a model card is rendered from, in pydantic's words.

A table: a `baseline` and several `attentions`, trained on one task over the same seeds. Keys that are not named here
are let through. What the schema cannot say, the rules of `results.py` do.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from .results import SCHEMA_VERSION, TASKS

Fraction = Annotated[float, Field(ge=0, le=1)]
Pair = Annotated[list[int], Field(min_length=2, max_length=2)]


class _Object(BaseModel):
    # Strict: no text that looks like a number, and no `true` where a number belongs.
    model_config = ConfigDict(strict=True, extra="allow", protected_namespaces=())


class Dataset(_Object):
    """`hub_id` is its id on the Hub; `sha256` are digests by file."""

    name: str
    source: str
    sha256: dict[str, str]
    licence: str | None
    # None for a stream, whose examples are not counted.
    train: int | None
    validation: int | None
    test: int | None
    classes: int
    channels: int = None
    # The shortest and the longest example, in time steps or tokens; height and width, in pixels.
    length: Pair = None
    image_size: Pair = None
    # How many of the official training examples were used, and how they were drawn.
    subset: str = None
    hub_id: str = None


class Run(_Object):
    """Exactly one is `released`: its weights lie with the file, and no other seed of its attention is better."""

    attention: str
    seed: int
    best_epoch: float
    epochs: float
    validation_accuracy: Fraction
    validation_loss: float
    test_accuracy: Fraction
    test_loss: float
    # Wall time.
    train_seconds: float
    released: bool


class Summary(_Object):
    """Means over the seeds, and the sample deviation, which one seed does not have."""

    seeds: int
    test_accuracy_mean: Fraction
    test_accuracy_std: float | None
    validation_accuracy_mean: Fraction
    validation_loss_mean: float


class Comparison(_Object):
    """
    Test accuracy minus that of the baseline, paired by seed. `p_value` is of a paired two-sided t-test and
    `p_value_adjusted` the same by Holm's method over the attentions tested. Both are null where there is no test: for
    one pair, and for differences that are all equal, which leave no variance to judge them by.
    """

    difference_mean: float
    difference_std: float | None
    pairs: int
    p_value: Fraction | None
    p_value_adjusted: Fraction | None
    significant: bool


class Quartiles(_Object):
    median: float
    q1: float
    q3: float


class Cost(_Object):
    """FLOPs of one call, milliseconds, and the peak over one training step."""

    parameters: int
    forward_flops: int
    train_step_flops: int
    inference_ms: Quartiles
    train_step_ms: Quartiles
    peak_memory_bytes: int


class Ratios(_Object):
    """Attention over baseline; `flops` is that of `forward_flops`."""

    inference: float
    train_step: float
    flops: float
    memory: float


class Point(_Object):
    """All at one batch size and length: under each name its cost, and in `ratios` under each attention."""

    __pydantic_extra__: dict[str, Cost]

    batch: int
    tokens: int
    ratios: dict[str, Ratios]


class Hardware(_Object):
    processor: str
    cores: int
    threads: int
    memory_gib: float | None
    accelerator: str | None


class Versions(_Object):
    python: str
    torch: str
    transformers: str
    hf_primaldual: str
    revision: str | None


class Emissions(_Object):
    """Grams of CO2 equivalent, and the name of the meter that measured them."""

    emissions: float
    source: str


class Search(_Object):
    """What chose settings on the validation set."""

    trials: int
    metric: Annotated[str, Field(pattern="^validation")]
    space: dict[str, Any]
    best: dict[str, Any]


class Results(_Object):
    """The whole file. `hardware` and `versions` are `measure.environment()`."""

    version: Literal[SCHEMA_VERSION] = Field(alias="schema")
    command: str
    date: str
    model_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    task: Literal[TASKS]
    baseline: str
    attentions: Annotated[list[str], Field(min_length=1)]
    # The released one: none has a better mean validation accuracy, nor an equal one with a lower mean loss.
    attention: str
    license: str
    dataset: Dataset
    settings: dict[str, Any]
    runs: Annotated[list[Run], Field(min_length=1)]
    summary: dict[str, Summary]
    comparisons: dict[str, Comparison]
    efficiency: Annotated[list[Point], Field(min_length=1)]
    hardware: Hardware
    versions: Versions
    # The Hub's id of the checkpoint that training started from, and of the repository that this one was published in.
    base_model: str = None
    repo_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$")] = None
    # Only where a meter ran.
    co2_eq_emissions: Emissions = None
    search: Search = None
    # Pictures that lie with the file.
    plots: Annotated[list[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+\.(png|svg)$")]], Field(min_length=1)] = None
