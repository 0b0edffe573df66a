"""
`results.json` of an encoder without a head, converted from a checkpoint: its schema.

It says what the original is, which attention each head has now and how that was found, and what became of embeddings
and of the time. Keys with a default may be left out. What nobody measured is null.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from .schema import Document, Fraction, Object, Pair, Quartiles, Settings

ENCODER_TASKS = ("feature-extraction", "image-feature-extraction")
"""Embeddings of texts, and of images: the Hub's names."""


class Original(Object):
    """The checkpoint that was converted; `sha256` are digests by file."""

    name: str
    source: str
    sha256: dict[str, str]
    licence: str | None


class Inputs(Original):
    """Examples without labels: how many, of which data, and in words which of them."""

    examples: int
    subset: str = None


class Calibration(Object):
    """`predicted_change` is that of the embedding, a share of its length."""

    inputs: Inputs
    settings: Settings
    predicted_change: float
    seconds: float | None


class Distillation(Object):
    """Training on the embeddings or states of a `teacher`, without labels."""

    teacher: str
    inputs: Inputs
    settings: Settings
    steps: int
    seconds: float | None


class Scores(Object):
    """Accuracies."""

    validation: Fraction | None
    test: Fraction | None


class Probe(Object):
    """
    A classifier on top of embeddings, `"linear probe"` or `"nearest neighbour"`, of the `train` examples of `dataset`;
    what there was to choose was chosen on `validation`.
    """

    kind: str
    original: Scores
    converted: Scores


class Size(Object):
    """How large an input is; height and width are in pixels."""

    tokens: int
    image_size: Pair = None


class Evaluation(Size):
    """`cosine` is the mean over the test set of that between the embeddings of both."""

    cosine: Annotated[float, Field(ge=-1, le=1)] | None
    probes: list[Probe]


class ForwardCost(Object):
    """Of one call of the whole model."""

    forward_flops: int
    inference_ms: Quartiles


class Speed(Size):
    """
    Both timed in turn, the original on sdpa. `attention_share` are the products of queries, keys and values in the
    original's FLOPs, which are all that a cheaper attention can save.
    """

    batch: int
    attention_share: Fraction | None
    original: ForwardCost
    converted: ForwardCost


class EncoderResults(Document):
    """The whole file."""

    # As in `Document`.
    task: Literal[ENCODER_TASKS]  # type: ignore[valid-type]
    original: Original
    # The factors of the heads of each layer; null where nothing is downsampled.
    head_scales: Annotated[list[Annotated[list[int], Field(min_length=1)]], Field(min_length=1)] | None
    # What is left of attention's products of queries, keys and values. Of images a factor counts along both sides.
    cost: Annotated[float, Field(gt=0, le=1)]
    # The mean over real tokens, or the first one: of what was measured, and in the example of the card.
    embedding: Literal["mean", "first"]
    parameters: int
    calibration: Calibration = None
    distillation: Distillation = None
    evaluations: Annotated[list[Evaluation], Field(min_length=1)]
    # Empty where it was not measured.
    efficiency: list[Speed]

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.head_scales is not None and len(set(map(len, self.head_scales))) > 1:
            raise ValueError(f"'head_scales' must have as many factors for each layer, not {self.head_scales}")
        sides = 2 if self.task == "image-feature-extraction" else 1
        left = [factor**-sides for layer in self.head_scales or [[1]] for factor in layer]
        # Tokens in front and ragged windows are a little more.
        if abs(self.cost - sum(left) / len(left)) > 0.02:
            raise ValueError(
                f"'cost' is {self.cost}, but 'head_scales' leave {sum(left) / len(left):.3f} of attention's products"
            )
        if self.task == "feature-extraction" and "max_position_embeddings" not in self.settings:
            raise ValueError("'settings.max_position_embeddings', the longest text in tokens, is missing")
        for key in ("classes", "train") if any(one.probes for one in self.evaluations) else ():
            if getattr(self.dataset, key) is None:
                raise ValueError(f"'dataset.{key}' is missing")
        return self
