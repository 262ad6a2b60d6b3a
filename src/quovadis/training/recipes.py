"""A training run as data. A recipe is a function that returns one frozen :class:`Recipe`.

On the command line a recipe is chosen by name and any field is overridden by its dotted name::

    quovadis train finetune --data clips/ --optimizer.learning-rate 0.001
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from quovadis.errors import TrainingError, UnknownNameError


@dataclass(frozen=True)
class ModelChoice:
    """Which network."""

    name: str = "i3d"
    """See ``quovadis.list_models()``."""
    stream: Literal["rgb", "flow"] = "rgb"
    """What it looks at."""
    dropout: float = 0.5
    """Share of features dropped before the classifier."""
    weights: str | None = None
    """What to start from: a weights file, a run folder, a published name, or a 2D network of torchvision, which is
    inflated. The classifier is replaced where the classes differ."""
    batch_norm_momentum: float = 0.001
    """Share of the new batch in the running averages. 0.001 suits 100,000 steps; a short run needs more."""


@dataclass(frozen=True)
class OptimizerChoice:
    """SGD with momentum."""

    learning_rate: float = 0.1
    """At the start."""
    momentum: float = 0.9
    """Of SGD."""
    weight_decay: float = 1e-7
    """On every parameter."""


@dataclass(frozen=True)
class Schedule:
    """How the learning rate moves."""

    kind: Literal["plateau", "one-cycle"] = "plateau"
    """plateau: divide the rate when the validation loss no longer falls, as in the paper (section 4). one-cycle: rise
    to the rate over the first third of the steps and fall to nothing by the last; for runs too short to wait for a
    plateau."""
    factor: float = 0.1
    """What the rate is multiplied by at a plateau."""
    patience: int = 3
    """Validations without progress that make a plateau."""
    min_learning_rate: float = 1e-5
    """The run ends when plateaus bring the rate below this."""


@dataclass(frozen=True)
class DataChoice:
    """How clips are cut and batched."""

    batch_size: int = 6
    """Clips a step in each process."""
    accumulate_steps: int = 1
    """Batches whose gradients are averaged into one step."""
    flip: bool = True
    """Mirror half of the clips; turn it off where left and right are different classes."""
    num_workers: int = 2
    """Processes that decode."""
    flow_method: Literal["tvl1", "tvl1-fast", "opencv-tvl1", "dis", "farneback"] = "tvl1"
    """How optical flow is estimated, for models that want it. tvl1 is the paper's; the others are faster, and another
    flow."""
    flow_folder: str | None = None
    """Where ``quovadis flow`` stored it; by default it is looked for beside each video, and estimated where there is
    none."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run, but the data itself.

    Raises:
        TrainingError: values that cannot make a run.
    """

    name: str
    """Of the recipe."""
    max_steps: int
    """Optimizer steps."""
    validate_every: int
    """Steps between validations; a checkpoint is written at each."""
    model: ModelChoice = field(default_factory=ModelChoice)
    optimizer: OptimizerChoice = field(default_factory=OptimizerChoice)
    schedule: Schedule = field(default_factory=Schedule)
    data: DataChoice = field(default_factory=DataChoice)
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision of the forward pass."""
    seed: int = 0
    """Of the initial weights and of every random choice."""

    def __post_init__(self) -> None:
        rate, end = self.optimizer.learning_rate, self.schedule.min_learning_rate
        if self.schedule.kind == "plateau" and rate < end:
            raise TrainingError(
                f"--optimizer.learning-rate {rate:g} is below --schedule.min-learning-rate {end:g}, where the run "
                "ends: lower the second"
            )
        for name in ("max_steps", "validate_every"):
            if getattr(self, name) < 1:
                raise TrainingError(f"{name} must be at least 1; got {getattr(self, name)}")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def kinetics() -> Recipe:
    """I3D on Kinetics, one stream: the schedule of the paper (section 4) with the rates of the official README.

    Batches of 6 a process; the authors ran 64 processes. 110,000 steps, rate 0.1, divided by 10 when the validation
    loss saturates. Expected (Table 3, Kinetics-400 test, from scratch): RGB 68.4 %, flow 61.5 % top-1.
    """
    return Recipe(name="kinetics", max_steps=110_000, validate_every=2_000)


def finetune() -> Recipe:
    """I3D on a small dataset from weights that were trained on a large one: Full-FT of Table 4.

    Up to 5,000 steps as in the paper. The authors did not publish rate, decay and batch; these are ours. Set
    ``--model.weights``.
    """
    return Recipe(
        name="finetune",
        max_steps=5_000,
        validate_every=200,
        model=ModelChoice(batch_norm_momentum=0.01),
        optimizer=OptimizerChoice(learning_rate=0.01, weight_decay=1e-5),
        schedule=Schedule(patience=3, min_learning_rate=1e-4),
    )


def scratch() -> Recipe:
    """I3D on a small dataset alone: Original of Table 4."""
    return Recipe(
        name="scratch",
        max_steps=5_000,
        validate_every=200,
        model=ModelChoice(batch_norm_momentum=0.05),
        optimizer=OptimizerChoice(learning_rate=0.05, weight_decay=1e-4),
        schedule=Schedule(patience=4, min_learning_rate=1e-4),
    )


def tiny() -> Recipe:
    """The tiny I3D (16 frames of 64 x 64, 0.8 M parameters) on any small dataset: minutes on two CPU cores."""
    return Recipe(
        name="tiny",
        max_steps=600,
        validate_every=100,
        model=ModelChoice(name="i3d_tiny", dropout=0.0, batch_norm_momentum=0.05),
        optimizer=OptimizerChoice(learning_rate=0.1, weight_decay=1e-4),
        schedule=Schedule(kind="one-cycle"),
        data=DataChoice(batch_size=16, num_workers=1),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {f.__name__: f for f in (kinetics, finetune, scratch, tiny)}


def find_recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        UnknownNameError: no such recipe.

    >>> find_recipe("tiny").model.name
    'i3d_tiny'
    """
    if name not in RECIPES:
        raise UnknownNameError.among("recipe", name, RECIPES)
    return RECIPES[name]()
