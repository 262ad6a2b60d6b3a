"""A training run as data. A recipe is a function that returns one frozen :class:`Recipe`.

On the command line a recipe is chosen by name and any field is overridden by its dotted name::

    quovadis train finetune --data clips/ --optimizer.learning-rate 0.001
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from typing import Any, Literal, NamedTuple

from quovadis.errors import TrainingError, UnknownNameError
from quovadis.models.batch_norm import BatchStatistics

_README_BATCH = 6 * 64
_BATCH_NORM_CLIPS = 256
_MANY_AVERAGING_TIMES = 100
"""A run of so many times 1 / momentum steps is long: its rate is small for long enough that the averages catch up."""


class Limits(NamedTuple):
    """The numbers that a field of a recipe may have."""

    least: float
    most: float = math.inf
    """Infinity means any finite number."""
    below: bool = False
    """Whether ``most`` itself is excluded."""
    above: bool = False
    """Whether ``least`` itself is excluded."""

    def allow(self, value: float) -> bool:
        """Whether a number is within the limits; NaN and infinities never are."""
        too_small = value <= self.least if self.above else value < self.least
        too_large = value >= self.most if self.below else value > self.most
        return math.isfinite(value) and not too_small and not too_large

    def __str__(self) -> str:
        lower = f"{'above' if self.above else 'at least'} {self.least:g}"
        if math.isinf(self.most):
            return lower
        return f"{lower} and {'below' if self.below else 'at most'} {self.most:g}"


_SEED = Limits(0, 2**63, below=True)
_FRACTION = Limits(0, 1, below=True)
RECIPE_LIMITS = {
    "max_steps": Limits(1),
    "validate_every": Limits(1),
    "seed": _SEED,
    "model.dropout": _FRACTION,
    "model.batch_norm_momentum": Limits(0, 1),
    "model.batch_norm_clips": Limits(0),
    "optimizer.learning_rate": Limits(0),
    "optimizer.momentum": _FRACTION,
    "optimizer.weight_decay": Limits(0),
    "schedule.factor": Limits(0, 1, below=True, above=True),
    "schedule.patience": Limits(0),
    "schedule.min_learning_rate": Limits(0),
    "data.batch_size": Limits(1),
    "data.accumulate_steps": Limits(1),
    "data.effective_batch_size": Limits(1),
    "data.num_workers": Limits(0),
}
"""For every numeric field of :class:`Recipe`, by its dotted name."""
CLASSIFIER_LIMITS = {
    "max_steps": Limits(1),
    "validate_every": Limits(1),
    "batch_size": Limits(1),
    "learning_rate": Limits(0),
    "momentum": _FRACTION,
    "weight_decay": Limits(0),
    "dropout": _FRACTION,
    "seed": _SEED,
}
"""For every numeric field of :class:`quovadis.training.classifier.ClassifierRecipe`."""


def check_numbers(recipe: object, limits: Mapping[str, Limits]) -> None:
    """Raise unless every numeric field of a recipe is a number of its type within its limits.

    Args:
        recipe: a dataclass.
        limits: by the dotted names of the fields; fields that are None are not checked.

    Raises:
        TrainingError: a field is outside of its limits, NaN or infinite, or not a number.
    """
    for name, limit in limits.items():
        *parents, last = name.split(".")
        owner = reduce(getattr, parents, recipe)
        value = getattr(owner, last)
        if value is None:
            continue
        whole = "float" not in str(type(owner).__dataclass_fields__[last].type)  # type: ignore[attr-defined]
        allowed = int if whole else (int, float)
        if not isinstance(value, allowed) or isinstance(value, bool) or not limit.allow(value):
            option = name.replace("_", "-")
            kind = "a whole number" if whole else "a number"
            raise TrainingError(f"--{option} must be {kind}, {limit}; got {value!r}")


@dataclass(frozen=True)
class ModelConfig:
    """Which network."""

    name: str = "i3d"
    """See ``quovadis.list_models()``."""
    stream: Literal["rgb", "flow", "rgb+flow"] | None = None
    """What it looks at; by default what it does in the paper: rgb+flow for the two that look at both, else rgb."""
    dropout: float = 0.5
    """Share of features dropped before the classifier."""
    weights: str | None = None
    """What to start from: a weights file, a run folder, a published name, or a 2D network of torchvision, which is
    inflated (GoogLeNet for all networks of the paper but conv3d). The classifier is replaced where the classes
    differ."""
    batch_norm_momentum: float = 0.001
    """Share of the new batch in the running averages. 0.001 suits 100,000 steps; a short run needs more."""
    batch_norm_clips: int | None = None
    """Training clips from which the running averages are recomputed before each validation, and so before weights are
    saved (precise batch norm); 0 keeps the averages of the training steps, which lag behind the weights by about 1 /
    batch_norm_momentum steps. By default 256 for runs of fewer than 100 / batch_norm_momentum steps, and 0 for longer
    ones, such as those of the paper."""
    batch_norm: BatchStatistics = "per-process"
    """Which clips are normalized together. per-process: those of this process, as the authors had it; their running
    averages are averaged over the processes before they are used or saved. synchronized: those of all processes.
    frozen: none; the averages that came with --model.weights are used and stay, shift and scale still learn."""


@dataclass(frozen=True)
class OptimizerConfig:
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

    kind: Literal["plateau", "multi-step", "one-cycle"] = "plateau"
    """plateau: divide the rate when the validation loss no longer falls, as in the paper (section 4). multi-step:
    change it after given steps, as the official README has it. one-cycle: rise to the rate over the first third of the
    steps and fall to nothing by the last; for runs too short to wait for a plateau."""
    changes: tuple[tuple[int, float], ...] = ()
    """For multi-step: after how many steps the rate becomes which multiple of --optimizer.learning-rate. After 10 steps
    a tenth, after 20 a hundredth: 10 0.1 20 0.01."""
    factor: float = 0.1
    """What the rate is multiplied by at a plateau."""
    patience: int = 3
    """Validations without progress that make a plateau."""
    min_learning_rate: float = 1e-5
    """The run ends when plateaus bring the rate below this."""


@dataclass(frozen=True)
class DataConfig:
    """How clips are cut and batched."""

    batch_size: int = 6
    """Clips a step in each process."""
    accumulate_steps: int = 1
    """Batches whose gradients are averaged into one step, in each process."""
    effective_batch_size: int | None = None
    """Clips a step in all processes together. Where it is given, accumulate_steps follows from it and from the number
    of processes, so that a run is the same on any number of GPUs that divides it."""
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
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: Schedule = field(default_factory=Schedule)
    data: DataConfig = field(default_factory=DataConfig)
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision of the forward pass."""
    compile: bool = False
    """Compile the training step with torch.compile, which needs a C++ compiler on a CPU: the first step takes a minute
    or more, the later ones less time. Gradients are the same but for rounding."""
    recompute: bool = False
    """Keep few activations and compute them again in the backward pass: less memory, about a third more time. Gradients
    are the same."""
    seed: int = 0
    """Of the initial weights and of every random choice."""

    def __post_init__(self) -> None:
        check_numbers(self, RECIPE_LIMITS)
        rate, end = self.optimizer.learning_rate, self.schedule.min_learning_rate
        if self.schedule.kind == "plateau" and rate < end:
            raise TrainingError(
                f"--optimizer.learning-rate {rate:g} is below --schedule.min-learning-rate {end:g}, where the run "
                "ends: lower the second"
            )
        self._check_changes()
        if self.model.batch_norm == "frozen" and self.model.weights is None:
            raise TrainingError(
                "--model.batch-norm frozen keeps the averages that came with the weights, and random weights have "
                "none: give --model.weights, or take per-process or synchronized"
            )

    def _check_changes(self) -> None:
        steps, kind = [step for step, _ in self.schedule.changes], self.schedule.kind
        if bool(steps) != (kind == "multi-step"):
            raise TrainingError(
                f"--schedule.changes goes with --schedule.kind multi-step; got {len(steps)} changes and {kind}"
            )
        if steps != sorted(set(steps)) or any(step < 1 for step in steps):
            raise TrainingError(f"the steps of --schedule.changes must rise from 1 on; got {steps}")
        for _, multiple in self.schedule.changes:
            if not 0 <= multiple < math.inf:
                raise TrainingError(
                    f"the multiples of --schedule.changes must be finite and at least 0; got {multiple}"
                )

    def for_processes(self, num_processes: int) -> "Recipe":
        """The recipe with its defaults resolved: accumulate_steps, effective_batch_size and batch_norm_clips are set.

        Args:
            num_processes: that train together.

        Raises:
            TrainingError: the effective batch cannot be made of whole batches, or accumulate_steps is given as well.

        >>> kinetics().for_processes(8).data.accumulate_steps
        8
        """
        data = self.data
        together = data.batch_size * num_processes
        if data.effective_batch_size is None:
            data = replace(data, effective_batch_size=together * data.accumulate_steps)
        elif data.accumulate_steps != 1:
            raise TrainingError(
                f"got --data.effective-batch-size {data.effective_batch_size} and --data.accumulate-steps "
                f"{data.accumulate_steps}: the second follows from the first, leave it out"
            )
        elif data.effective_batch_size % together:
            raise TrainingError(
                f"--data.effective-batch-size {data.effective_batch_size} is no multiple of {together} "
                f"({num_processes} processes x --data.batch-size {data.batch_size}): choose a batch size that divides "
                "it, or another number of processes"
            )
        else:
            data = replace(data, accumulate_steps=data.effective_batch_size // together)
        return replace(self, data=data, model=self._with_batch_norm_clips())

    def _with_batch_norm_clips(self) -> ModelConfig:
        if self.model.batch_norm == "frozen":
            return replace(self.model, batch_norm_clips=0)
        if self.model.batch_norm_clips is not None:
            return self.model
        is_short = self.max_steps * self.model.batch_norm_momentum < _MANY_AVERAGING_TIMES
        return replace(self.model, batch_norm_clips=_BATCH_NORM_CLIPS if is_short else 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def kinetics() -> Recipe:
    """I3D on Kinetics, one stream: the schedule of the paper (section 4) with the rates of the official README.

    384 clips a step, 6 a process: the 64 processes of the authors. With fewer GPUs batches are accumulated. 110,000
    steps, rate 0.1, divided by 10 when the validation loss saturates. Expected (Table 3, Kinetics-400 test, from
    scratch): RGB 68.4 %, flow 61.5 % top-1.
    """
    return Recipe(
        name="kinetics", max_steps=110_000, validate_every=2_000, data=DataConfig(effective_batch_size=_README_BATCH)
    )


def kinetics_rgb() -> Recipe:
    """I3D on Kinetics as the published RGB weights were made, by the steps of the official README.

    115,000 steps of 384 clips: rate 0.1, after 97,000 steps 0.01, after 108,000 steps 0.001. (Four backup replicas of
    the authors only replaced slow ones.)
    """
    return Recipe(
        name="kinetics_rgb",
        max_steps=115_000,
        validate_every=2_500,
        schedule=Schedule(kind="multi-step", changes=((97_000, 0.1), (108_000, 0.01))),
        data=DataConfig(effective_batch_size=_README_BATCH),
    )


def kinetics_flow() -> Recipe:
    """I3D on Kinetics as the published flow weights were made: 155,000 steps, in two cycles.

    By the official README: rate 0.1, after 97,000 steps 0.01, after 104,500 steps 0.001; that was not enough, so from
    115,000 on again 0.1, after 140,000 steps 0.01, after 150,000 steps 0.001.
    """
    changes = ((97_000, 0.1), (104_500, 0.01), (115_000, 1.0), (140_000, 0.1), (150_000, 0.01))
    return Recipe(
        name="kinetics_flow",
        max_steps=155_000,
        validate_every=2_500,
        model=ModelConfig(stream="flow"),
        schedule=Schedule(kind="multi-step", changes=changes),
        data=DataConfig(effective_batch_size=_README_BATCH),
    )


def finetune() -> Recipe:
    """I3D on a small dataset from weights that were trained on a large one: Full-FT of Table 4.

    Up to 5,000 steps as in the paper. The authors did not publish rate, decay and batch; these are ours. Set
    ``--model.weights``.
    """
    return Recipe(
        name="finetune",
        max_steps=5_000,
        validate_every=200,
        model=ModelConfig(batch_norm_momentum=0.01),
        optimizer=OptimizerConfig(learning_rate=0.01, weight_decay=1e-5),
        schedule=Schedule(patience=3, min_learning_rate=1e-4),
    )


def scratch() -> Recipe:
    """I3D on a small dataset alone: Original of Table 4."""
    return Recipe(
        name="scratch",
        max_steps=5_000,
        validate_every=200,
        model=ModelConfig(batch_norm_momentum=0.05),
        optimizer=OptimizerConfig(learning_rate=0.05, weight_decay=1e-4),
        schedule=Schedule(patience=4, min_learning_rate=1e-4),
    )


def tiny() -> Recipe:
    """The tiny I3D (16 frames of 64 x 64, 0.8 M parameters) on any small dataset: minutes on two CPU cores."""
    return Recipe(
        name="tiny",
        max_steps=600,
        validate_every=100,
        model=ModelConfig(name="i3d_tiny", dropout=0.0, batch_norm_momentum=0.05),
        optimizer=OptimizerConfig(learning_rate=0.1, weight_decay=1e-4),
        schedule=Schedule(kind="one-cycle"),
        data=DataConfig(batch_size=16, num_workers=1),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    f.__name__: f for f in (kinetics, kinetics_rgb, kinetics_flow, finetune, scratch, tiny)
}


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
