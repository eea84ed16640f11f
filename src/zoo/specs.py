"""The values everything is made from: frozen, strict pydantic models of a model, its data and its training.

Torch-free. A spec holds numbers and names only; builders elsewhere turn it into the flat arguments of a class.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    SerializeAsAny,
    WrapValidator,
    field_validator,
    model_validator,
)

SCHEMA_VERSION = 1

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", max_length=100)]
RecipeName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*/[a-z0-9][a-z0-9._-]*$", max_length=200)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
Positive = Annotated[float, Field(gt=0)]
Options = dict[str, JsonValue]
"""Settings whose fields a plugin's own spec class defines and checks."""


OneOrSeveral = Positive | Annotated[tuple[Positive, ...], Field(min_length=1)] | None
"""Asked as one value, or one of each layer."""


def _as_several(value: Any) -> Any:
    """A number as a list of one."""
    return (value,) if isinstance(value, int | float) and not isinstance(value, bool) else value


class Spec(BaseModel):
    """A frozen value: no unknown keys, no silent conversion of types."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, defer_build=True, allow_inf_nan=False)


class CoreSpec(Spec):
    """The attention core: exactly the arguments of `zoo.core.Transformer`."""

    dim: int = Field(gt=0, description="width of every token")
    depth: int = Field(ge=1, description="number of blocks")
    num_heads: int = Field(gt=0, description="query heads")
    num_kv_heads: int | None = Field(None, gt=0, description="key and value heads; as many as queries when null")
    head_dim: int | None = Field(None, gt=0, description="width of a head; dim / num_heads when null")
    mlp_dim: int | None = Field(None, gt=0, description="hidden width of the MLP; 4 × dim when null")
    norm: Literal["layernorm", "rmsnorm"] = Field("layernorm", description="kind of normalisation")
    norm_eps: float = Field(1e-6, gt=0, description="added to the variance")
    norm_position: Literal["pre", "post"] = Field("pre", description="before or after each sublayer")
    first_norm: bool = Field(
        True, description="normalise what the first block's attention reads, where norms stand before"
    )
    final_norm: bool = Field(True, description="normalise the last block's output")
    activation: Literal["gelu", "gelu_tanh", "quick_gelu", "relu", "silu", "swiglu", "geglu"] = Field(
        "gelu", description="non-linearity of the MLP"
    )
    bias: tuple[Literal["q", "k", "v", "out", "mlp", "norm"], ...] = Field(
        ("q", "k", "v", "out", "mlp", "norm"), strict=False, description="which parts carry a bias"
    )
    qk_norm: bool = Field(False, description="normalise queries and keys per head")
    scale: float | None = Field(None, gt=0, description="attention scale; 1/sqrt(head_dim) when null")
    layer_scale: float | None = Field(None, gt=0, description="initial layer scale; none when null")
    rotary_theta: Annotated[
        tuple[Positive, ...] | None,
        BeforeValidator(_as_several, json_schema_input_type=OneOrSeveral),
    ] = Field(
        None, strict=False, min_length=1, description="base of rotary positions, or of each layer, repeated or cut"
    )
    windows: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        None, strict=False, min_length=1, description="local window of each layer, repeated or cut; 0 is global"
    )
    causal: bool = Field(False, description="a token sees itself and earlier ones only")
    conv_kernel: int | None = Field(
        None, ge=1, description="tokens that a convolution between attention and MLP sees, odd; none when null"
    )
    cross_attention: bool = Field(False, description="each block also attends to a context")
    context_dim: int | None = Field(None, gt=0, description="width of the context; dim when null")
    dropout: Fraction = Field(0.0, description="of every sublayer's output")
    attention_dropout: Fraction = Field(0.0, description="of attention weights")
    drop_path: Fraction = Field(0.0, description="of whole sublayers, growing linearly with depth")

    @property
    def sizes(self) -> dict[str, int]:
        """What weights are the size of, with what is null written out."""
        return {
            "dim": self.dim,
            "depth": self.depth,
            "num_heads": self.num_heads,
            "num_kv_heads": self.num_kv_heads or self.num_heads,
            "head_dim": self.head_dim or self.dim // self.num_heads,
            "mlp_dim": self.mlp_dim or 4 * self.dim,
        }

    @model_validator(mode="after")
    def _heads_fit(self) -> Self:
        if self.head_dim is None and self.dim % self.num_heads:
            raise ValueError(
                f"dim {self.dim} does not divide by num_heads {self.num_heads}; set head_dim or change one"
            )
        if self.num_kv_heads is not None and self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} does not divide by num_kv_heads {self.num_kv_heads}")
        if self.rotary_theta is not None and (width := self.sizes["head_dim"]) % 2:
            raise ValueError(f"rotary positions turn pairs of channels, but a head has {width}; make head_dim even")
        if not self.first_norm and self.norm_position == "post":
            raise ValueError("first_norm false is for norm_position pre; with post, norms stand after; change one")
        if self.conv_kernel is not None and self.conv_kernel % 2 == 0:
            raise ValueError(f"a convolution of {self.conv_kernel} tokens has none in the middle; make conv_kernel odd")
        if self.conv_kernel is not None and self.causal:
            raise ValueError("a convolution sees later tokens, which a causal core must not; leave conv_kernel out")
        if self.context_dim is not None and not self.cross_attention:
            raise ValueError("context_dim is of cross-attention; set cross_attention true, or leave it out")
        return self


class NetworkSpec(Spec):
    """A core that another library makes, for the tasks of a bridge."""

    architecture: str = Field(min_length=1, description="its name there, or a folder")
    options: Options = Field(default_factory=dict, description="further arguments of the library's, by its own names")

    @property
    def sizes(self) -> dict[str, str]:
        return {"architecture": self.architecture}


def _ours_or_another(value: Any, ours: Callable[[Any], CoreSpec]) -> CoreSpec | NetworkSpec:
    if isinstance(value, NetworkSpec) or (isinstance(value, Mapping) and "architecture" in value):
        return NetworkSpec.model_validate(value)
    return ours(value)


# Typed as ours, which every task but those of a bridge reads; these ask `network_of`.
AnyCore = Annotated[
    SerializeAsAny[CoreSpec], WrapValidator(_ours_or_another, json_schema_input_type=CoreSpec | NetworkSpec)
]


class DataSpec(Spec):
    """Which data, how it is split and what a broken item does."""

    name: str = Field(min_length=1, description="a dataset's name, a folder or a file")
    on_error: Literal["stop", "skip"] = Field("stop", description="what an unreadable item does")
    validation_fraction: Fraction = Field(0.1, description="share of train held out, by a hash of each item")
    test_fraction: Fraction = Field(0.2, description="share held out for test where the source has no test split")
    train_items: int | None = Field(
        None, ge=1, description="how many items of the training split are used, by a hash of each; all when null"
    )
    holdout_group: str | None = Field(
        None, min_length=1, description="the group, such as a speaker, that is the test split; no other is"
    )
    text_column: str | None = Field(None, min_length=1, description="a table's column of texts; by its name when null")
    label_column: str | None = Field(None, min_length=1, description="a table's column of labels; likewise")
    label_separator: str | None = Field(
        None, min_length=1, description="between the labels of a cell that holds several; one label when null"
    )


class LoraSpec(Spec):
    """Low-rank adapters in the core, trained in its stead."""

    rank: int = Field(8, ge=1, description="of what is added to a weight")
    alpha: float = Field(16.0, gt=0, description="what is added is multiplied by alpha / rank")
    targets: tuple[Literal["q", "k", "v", "out", "fc1", "fc2"], ...] = Field(
        ("q", "v"), strict=False, min_length=1, description="projections of attention, its output, layers of the MLP"
    )


class DistillSpec(Spec):
    """Learning from another model too."""

    teacher: str = Field(description="its run folder; kept as an absolute path")
    sha256: str | None = Field(None, description="of its weights, when the training began")
    weight: float = Field(0.5, gt=0, le=1, description="of what it says; the rest is the targets'")
    temperature: float = Field(2.0, gt=0, description="by which scores are divided")

    @field_validator("teacher")
    @classmethod
    def _absolute(cls, value: str) -> str:
        return str(Path(value).expanduser().resolve())


class TrainSpec(Spec):
    """How a model is trained. One step is one update of the weights."""

    epochs: int = Field(30, ge=1, description="passes over the training split")
    steps: int | None = Field(None, ge=1, description="updates; overrides epochs")
    batch_size: int = Field(64, ge=1, description="items in a micro-batch, at most")
    batch_length: float | None = Field(
        None, gt=0, description="length of a micro-batch: items × the longest, in tokens (text) or seconds (sound)"
    )
    accumulate: int = Field(1, ge=1, description="micro-batches in an update")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="update rule")
    lr: float = Field(1e-3, gt=0, description="peak learning rate")
    weight_decay: float = Field(0.05, ge=0, description="decoupled; never on norms, biases and positions")
    betas: tuple[Fraction, Fraction] = Field(
        (0.9, 0.999), strict=False, description="AdamW's; the first is SGD's momentum"
    )
    freeze: tuple[str, ...] = Field(
        (), strict=False, description="what is not trained, such as embed, core.blocks.[0-5] or *.norm1; the rest is"
    )
    lora: LoraSpec | None = Field(
        None, description="train low-rank adapters of the core, and the head, and nothing else; off when null"
    )
    distill: DistillSpec | None = Field(None, description="learn from a trained model too; off when null")
    layer_decay: float | None = Field(
        None, gt=0, le=1, description="lr of each block as a share of the next one's; all equal when null"
    )
    schedule: Literal["cosine", "linear", "constant", "inverse_sqrt"] = Field("cosine", description="after the warm-up")
    warmup_fraction: Fraction = Field(0.05, description="share of the steps spent rising to lr")
    final_lr_fraction: float = Field(0.01, ge=0, le=1, description="share of lr left at the last step")
    clip_norm: float | None = Field(1.0, gt=0, description="largest gradient norm; unclipped when null")
    label_smoothing: Fraction = Field(0.0, description="probability spread over all classes")
    ema_decay: float | None = Field(None, gt=0, lt=1, description="decay of averaged weights; none when null")
    patience: int | None = Field(None, ge=1, description="evaluations without a better one before stopping")
    eval_every: int | None = Field(None, ge=1, description="steps between evaluations; each epoch when null")
    save_every: int | None = Field(None, ge=1, description="steps between checkpoints; at each evaluation when null")
    keep: int = Field(2, ge=1, description="newest checkpoints kept, beside the best")
    log_every: int = Field(10, ge=1, description="steps between lines of metrics.jsonl")
    seed: int = Field(0, ge=0, le=2**32 - 1, description="of initial weights, data order, augmentation and dropout")
    workers: int = Field(0, ge=0, description="processes that load data")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:N or mps")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto is bf16 on CUDA, fp32 elsewhere")
    compile: bool = Field(False, description="torch.compile the model")
    trackers: tuple[Name, ...] = Field((), strict=False, description="where metrics also go, such as tensorboard")


class ReportedSpec(Spec):
    """A result that others reported of published weights. None of it was measured here."""

    metric: str = Field(min_length=1, description="what was measured, such as accuracy")
    data: str = Field(min_length=1, description="on what, such as ImageNet-1k, validation")
    value: float = Field(description="as a share, where it is one")
    source: str = Field(min_length=1, description="who says so: a paper and its table, a model card, a file of results")


class WeightsSpec(Spec):
    """Published weights of a model."""

    description: str = Field("", description="one line: what they were trained on")
    source: str = Field(description="hf:OWNER/NAME, or a path")
    revision: str | None = Field(None, description="pinned commit")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="of model.safetensors, or of the file")
    license: str = Field(description="SPDX name")
    size_bytes: int | None = Field(None, gt=0, description="of the file")
    reported: ReportedSpec | None = Field(None, description="a result of theirs, by others")


class ModelSpec(Spec):
    """A model of the catalogue, for any data; `embed`, `head`, `augment` and `decode` are the task's to say."""

    task: Name = Field(description="the task that trains it")
    description: str = Field("", description="one line")
    core: AnyCore
    embed: Options = Field(default_factory=dict, description="the first room")
    head: Options = Field(default_factory=dict, description="the last room")
    augment: Options = Field(default_factory=dict, description="augmentation for any data")
    decode: Options = Field(default_factory=dict, description="how scores become predictions, for any data")
    train: Options = Field(default_factory=dict, description="training for any data")
    recipe: Name | None = Field(None, description="the recipe used when none is asked for")
    weights: dict[Name, WeightsSpec] = Field(default_factory=dict, description="published weights")


class Measured(Spec):
    """A result that a committed run of the benchmark gave."""

    metric: str
    value: float = Field(description="mean over the seeds")
    higher_is_better: bool = Field(True, description="false for an error")
    std: float | None = Field(None, ge=0)
    seeds: int = Field(ge=1)
    seconds: float = Field(gt=0, description="wall time of one run")
    hardware: str

    @property
    def goodness(self) -> float:
        """The value, so that higher is better."""
        return self.value if self.higher_is_better else -self.value


class RecipeSpec(Spec):
    """A model × a dataset: what is set otherwise than in the model, and what came of it."""

    task: Name | None = Field(None, description="what is trained, where it is another task than the model's")
    data: DataSpec
    core: Options = Field(default_factory=dict)
    embed: Options = Field(default_factory=dict)
    head: Options = Field(default_factory=dict)
    augment: Options = Field(default_factory=dict)
    decode: Options = Field(default_factory=dict)
    train: Options = Field(default_factory=dict)
    measured: Measured | None = None

    @field_validator("data", mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value


class DatasetSpec(Spec):
    """A dataset's card."""

    task: Name = Field(description="the task it is for")
    description: str
    source: str = Field(description="where it comes from")
    license: str
    embedded: bool = Field(False, description="comes with an installed package: no download, no network")
    made_from: Name | None = Field(None, description="the dataset whose files it is made from")
    url: str | None = Field(None, description="archive that `zoo data fetch` downloads")
    sha256: str | None = Field(None, pattern=r"^[0-9a-f]{64}$", description="over the extracted files")
    size_bytes: int | None = Field(None, gt=0, description="on disk")
    splits: dict[Literal["train", "validation", "test"], int] = Field(
        default_factory=dict, description="items of the official splits"
    )
    settings: Options = Field(default_factory=dict, description="what the data decides, such as head.num_classes")


class Catalogue(Spec):
    """A `registry.yaml`: values, no code."""

    schema_version: Literal[1] = Field(description="of this format")
    models: dict[Name, ModelSpec] = Field(default_factory=dict, description="models by name")
    recipes: dict[RecipeName, RecipeSpec] = Field(default_factory=dict, description="recipes by MODEL/RECIPE")
    datasets: dict[Name, DatasetSpec] = Field(default_factory=dict, description="datasets by name")


class PluginStamp(Spec):
    """Which code a run was made with."""

    distribution: str
    version: str
    sha256: str | None = Field(None, description="over the package's Python files")


class StartSpec(Spec):
    """The weights that a run began with."""

    source: str = Field(description="a path, absolute")
    family: str = Field(description="whose names the tensors had")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="over the tensors")


class RunSpec(Spec):
    """Everything a run is made from; written to `spec.yaml`, and all that `--resume` reads."""

    schema_version: Literal[1] = SCHEMA_VERSION
    model: str
    task: str
    core: AnyCore
    embed: Options
    head: Options
    augment: Options
    decode: Options = Field(default_factory=dict)
    data: DataSpec
    train: TrainSpec
    weights: StartSpec | None = Field(None, description="what the run began with; random numbers when null")
    core_from: StartSpec | None = Field(
        None, description="the run whose core it began with; a core of its own when null"
    )
    plugins: dict[str, PluginStamp] = Field(default_factory=dict)


def network_of(spec: RunSpec | ModelSpec) -> NetworkSpec:
    """The core of a model that another library makes."""
    core = cast("CoreSpec | NetworkSpec", spec.core)
    assert isinstance(core, NetworkSpec), "the core is one of ours"
    return core
