"""What results files of all kinds share: the parts of their schema."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

SCHEMA_VERSION = 2


def _flat(settings: dict[str, Any]) -> dict[str, Any]:
    for key, value in settings.items():
        if isinstance(value, Mapping):
            raise ValueError(f"'settings.{key}' must be a plain value, not {value}: settings are flat")
    return settings


Fraction = Annotated[float, Field(ge=0, le=1)]
Pair = Annotated[list[int], Field(min_length=2, max_length=2)]
Picture = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+\.(png|svg)$")]

Settings = Annotated[dict[str, Any], AfterValidator(_flat)]


class Object(BaseModel):
    # Strict: no text that looks like a number, and no `true` where a number belongs.
    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False, protected_namespaces=())


class Dataset(Object):
    """`hub_id` is its id on the Hub; `sha256` are digests by file."""

    name: str
    source: str
    sha256: dict[str, str]
    licence: str | None
    # None for a stream, whose examples are not counted, and for a set that there is not.
    train: int | None
    validation: int | None
    test: int | None
    classes: int = None
    # How many tokens a language model chooses from.
    vocabulary: int = None
    channels: int = None
    # The shortest and the longest example, in time steps or tokens; height and width, in pixels.
    length: Pair = None
    image_size: Pair = None
    # How many of the official training examples were used, and how they were drawn.
    subset: str = None
    hub_id: str = None


class Quartiles(Object):
    median: float
    q1: float
    q3: float


class Hardware(Object):
    processor: str
    cores: int
    threads: int
    memory_gib: float | None
    accelerator: str | None


class Versions(Object):
    python: str
    torch: str
    transformers: str
    hf_primaldual: str
    revision: str | None


class Document(Object):
    """What every results file says. `hardware` and `versions` are `measure.environment()`."""

    # pydantic reads the constants in these `Literal`s, a type checker does not.
    version: Literal[SCHEMA_VERSION] = Field(alias="schema")  # type: ignore[valid-type]
    command: str
    date: str
    model_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]
    attention: str
    license: str
    dataset: Dataset
    settings: Settings
    hardware: Hardware
    versions: Versions
    # The Hub's id of the checkpoint that it started from, and of the repository that it was published in.
    base_model: str = None
    repo_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$")] = None
    # Pictures that lie with the file.
    plots: Annotated[list[Picture], Field(min_length=1)] = None
