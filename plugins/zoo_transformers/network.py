"""transformers' networks in our three rooms. Wolf et al. 2019, arXiv:1910.03771.

A model for a task is a trunk, its `base_model`, and what stands upon it. The core is the trunk; the head is the model
with a `Given` in the trunk's place, so that its own code, whatever it is, makes scores of what the core gave.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from zoo.core import Layout
from zoo.core.pack import to_packed
from zoo.core.statistics import rest_frozen, resting
from zoo.errors import UserError
from zoo_transformers.spec import IMAGE, SPEECH, TEXT

CLASSES = {
    TEXT: "AutoModelForSequenceClassification",
    IMAGE: "AutoModelForImageClassification",
    SPEECH: "AutoModelForCTC",
}
Inputs = Callable[[Tensor, Layout], Mapping[str, Any]]
REFUSED = ("attn_implementation", "auto_map", "num_labels", "quantization_config", "trust_remote_code")
"""Of `core.options`: what would fetch or run something, or what a spec says by another name."""


def library() -> Any:
    """transformers, told to speak of errors alone.

    Raises:
        UserError: It is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise UserError(
            f"models of transformers need it, and it cannot be imported: {error}\n"
            'pip install "attention-zoo[transformers]"'
        ) from error
    return transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Without its progress bars and its advice."""
    logging = library().utils.logging
    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


def create(task: str, architecture: str, options: Mapping[str, Any], num_labels: int, **ours: Any) -> Any:
    """A model of transformers with random weights, whole.

    Args:
        architecture: Its `model_type`.
        options: What else its configuration says.
        ours: Of the configuration, what other values of a spec decide; only what it has is set.

    Raises:
        UserError: transformers cannot make it.
    """
    transformers = library()
    if taken := [key for key in options if key in REFUSED]:
        raise UserError(f"core.options.{taken[0]} is not for transformers here\nleave it out")
    try:
        with quiet():
            config = transformers.AutoConfig.for_model(architecture, **options)
            config.num_labels, config.architectures = num_labels, []
            for key, value in ours.items():
                if hasattr(config, key):
                    setattr(config, key, value)
            if hasattr(config, "use_cache"):
                config.use_cache = False
            if task == TEXT and config.pad_token_id is None:
                config.pad_token_id = config.eos_token_id if isinstance(config.eos_token_id, int) else 0
            if config.is_encoder_decoder and getattr(config, "decoder_start_token_id", None) is None:
                config.decoder_start_token_id = config.pad_token_id
            # It draws from a generator that no seed of ours reaches.
            if hasattr(config, "apply_spec_augment"):
                config.apply_spec_augment = False
            return getattr(transformers, CLASSES[task]).from_config(config)
    except Exception as error:  # whatever a stranger's configuration makes it raise
        raise UserError(
            f"transformers {transformers.__version__} cannot make a '{architecture}' of this configuration: "
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]}\nmend core.options, or name another model"
        ) from error


class Given(nn.Module):
    """What stands in a trunk's place: it gives what the core gave.

    Args:
        pooler: Of the trunk, where it has one that stands upon all else of it.
    """

    def __init__(self, pooler: nn.Module | None = None) -> None:
        super().__init__()
        self.pooler = pooler
        self.value: Any = None

    def forward(self, *arguments: Any, **options: Any) -> Any:
        if self.pooler is not None:
            self.value["pooler_output"] = self.pooler(self.value[0])
        return self.value


class Passing(nn.Module):
    """What stands in the place of a pooler that the head has."""

    def forward(self, x: Any, *arguments: Any, **options: Any) -> Any:
        return x


class Trunk(nn.Module):
    """The core: a network. What is frozen of it keeps its running statistics; a batch of one leaves them alone.

    Args:
        inputs: From what the first room gives to the network's own arguments.
        whole: It is a whole model, which gives scores itself.
    """

    def __init__(self, network: nn.Module, inputs: Inputs, *, whole: bool = False) -> None:
        super().__init__()
        self.network = network
        self.inputs, self.whole = inputs, whole

    def train(self, mode: bool = True) -> "Trunk":
        super().train(mode)
        rest_frozen(self)
        return self

    def forward(self, x: Tensor, layout: Layout) -> Any:
        """What the network gives, as transformers has it; of a whole model the scores."""
        with resting(self.network, when=len(x) == 1):
            found = self.network(**self.inputs(x, layout))
        return found.logits if self.whole else found


class Upon(nn.Module):
    """The head: a model of transformers whose trunk gives what the core gave.

    Args:
        network: With a `Given` in its trunk's place.
        given: The name of it.
        inputs: As the trunk's.
    """

    def __init__(self, network: nn.Module, given: str, inputs: Inputs) -> None:
        super().__init__()
        self.network = network
        self.given, self.inputs = given, inputs

    def forward(self, x: Any, layout: Layout, raw: Tensor, num_tokens: int | None = None) -> Tensor:
        """
        Args:
            raw: What the trunk read.
            num_tokens: Where scores are of tokens: how many there are, to be packed.
        """
        given: Any = getattr(self.network, self.given)
        given.value = x
        try:
            scores = self.network(**self.inputs(raw, layout)).logits
        finally:
            given.value = None
        return scores if num_tokens is None else to_packed(scores, layout, num_tokens)


class Scores(nn.Module):
    """The head of a network that gives scores itself."""

    def forward(self, x: Tensor, layout: Layout, raw: Tensor) -> Tensor:
        return x


def trunk_of(whole: Any) -> str | None:
    """The name of a model's trunk; None where it cannot be taken out: of what also decodes, which the model itself
    makes the inputs of."""
    name: str = whole.base_model_prefix
    if not isinstance(getattr(whole, name, None), nn.Module) or whole.config.is_encoder_decoder:
        return None
    return name


def has_own_pooler(trunk: Any) -> bool:
    """Whether a trunk's pooler reads its last hidden states and is all that does: it then belongs to the head, and may
    be new where weights have none."""
    return type(getattr(trunk, "pooler", None)).__name__.endswith("Pooler")


def rooms(whole: Any, inputs: Inputs) -> tuple[nn.Module, nn.Module]:
    """The core and the head that a model makes."""
    name = trunk_of(whole)
    if name is None:
        return Trunk(whole, inputs, whole=True), Scores()
    trunk, pooler = getattr(whole, name), None
    if has_own_pooler(trunk):
        pooler, trunk.pooler = trunk.pooler, Passing()
    setattr(whole, name, Given(pooler))
    return Trunk(trunk, inputs), Upon(whole, name, inputs)
