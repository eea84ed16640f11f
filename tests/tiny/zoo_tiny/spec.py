"""The options of the task."""

from pydantic import Field

from zoo.specs import Spec


class HeadSpec(Spec):
    num_classes: int = Field(2, ge=1)


class AugmentSpec(Spec):
    noise: float = Field(0.1, ge=0, description="deviation of the noise added in training")
    poison_id: str | None = Field(None, description="an item that becomes infinite in training")
    broken_id: str | None = Field(None, description="an item that cannot be read")
