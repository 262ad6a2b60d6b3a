"""Training recipes: functions that return a frozen :class:`Recipe`.

On the command line any field of a recipe can be overridden by its dotted name::

    quovadis train finetune --data clips/ --optimizer.learning-rate 0.001
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from typing import Any, Literal, NamedTuple

from quovadis.errors import TrainingError, UnknownNameError
from quovadis.flow.parameters import FlowMethod
from quovadis.models.batch_norm import BatchStatistics
from quovadis.models.spec import StreamChoice

_README_BATCH = 6 * 64
_BATCH_NORM_CLIPS = 256
_MANY_AVERAGING_TIMES = 100
"""After this many times 1 / momentum steps the running averages keep up with the slowly changing weights."""


class Limits(NamedTuple):
    """Range of a numeric field of a recipe."""

    minimum: float
    maximum: float = math.inf
    """Infinity allows any finite number."""
    below: bool = False
    """Exclude ``maximum``."""
    above: bool = False
    """Exclude ``minimum``."""

    def allow(self, value: float) -> bool:
        """Return whether a number is in the range. NaN and infinities never are."""
        too_small = value <= self.minimum if self.above else value < self.minimum
        too_large = value >= self.maximum if self.below else value > self.maximum
        return math.isfinite(value) and not too_small and not too_large

    def __str__(self) -> str:
        lower = f"{'above' if self.above else 'at least'} {self.minimum:g}"
        if math.isinf(self.maximum):
            return lower
        return f"{lower} and {'below' if self.below else 'at most'} {self.maximum:g}"


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
"""Ranges of all numeric fields of :class:`Recipe`, by dotted name."""
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
"""Ranges of all numeric fields of :class:`quovadis.training.classifier.ClassifierRecipe`."""


def check_numbers(recipe: object, limits: Mapping[str, Limits]) -> None:
    """Check the numeric fields of a recipe. Fields that are None are not checked.

    Args:
        recipe: A dataclass.
        limits: Ranges by the dotted names of the fields.

    Raises:
        TrainingError: If a field is out of range, NaN, infinite or not a number.
    """
    for name, limit in limits.items():
        *parents, last = name.split(".")
        owner = reduce(getattr, parents, recipe)
        value = getattr(owner, last)
        if value is None:
            continue
        is_integer = "float" not in str(type(owner).__dataclass_fields__[last].type)  # type: ignore[attr-defined]
        allowed = int if is_integer else (int, float)
        if not isinstance(value, allowed) or isinstance(value, bool) or not limit.allow(value):
            option = name.replace("_", "-")
            kind = "an integer" if is_integer else "a number"
            raise TrainingError(f"--{option} must be {kind}, {limit}; got {value!r}")


@dataclass(frozen=True)
class ModelConfig:
    """The network and its initial weights."""

    name: str = "i3d"
    """Name of the network, see quovadis.list_models()."""
    stream: StreamChoice | None = None
    """Input streams. By default as in the paper: rgb+flow for the two models that use both, otherwise rgb."""
    dropout: float = 0.5
    """Fraction of features dropped before the classifier."""
    weights: str | None = None
    """Initial weights: a weights file, a run folder, a published name, or a 2D network of torchvision, which is
    inflated (GoogLeNet for all networks of the paper except conv3d). The classifier is replaced if the classes
    differ."""
    batch_norm_momentum: float = 0.001
    """Weight of the new batch in the running averages. 0.001 is for 100,000 steps; use more for short runs."""
    batch_norm_clips: int | None = None
    """Number of training clips from which the running averages are recomputed before each validation and before saving
    (precise batch norm). 0 keeps the averages of the training steps, which lag about 1 / batch_norm_momentum steps
    behind the weights. Default: 256 for runs with fewer than 100 / batch_norm_momentum steps, 0 for longer runs, such
    as those of the paper."""
    batch_norm: BatchStatistics = "per-process"
    """Clips that are normalized together. per-process: the clips of one process, as in the paper; running averages are
    averaged over the processes before they are used or saved. synchronized: the clips of all processes. frozen: use and
    keep the running averages of --model.weights; shift and scale are still trained."""
    train_from: str | None = None
    """Train only the layers from this endpoint on, such as Mixed_5b of I3D, and the classifier; needs --model.weights.
    The layers before it keep all their weights and running averages, which makes steps faster and saves memory.
    Default: train all layers."""


@dataclass(frozen=True)
class OptimizerConfig:
    """SGD with momentum."""

    learning_rate: float = 0.1
    """Initial learning rate."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 1e-7
    """Weight decay of all parameters."""


@dataclass(frozen=True)
class ScheduleConfig:
    """Learning rate schedule."""

    kind: Literal["plateau", "multi-step", "one-cycle"] = "plateau"
    """plateau: reduce the learning rate when the validation loss stops decreasing, as in the paper (section 4).
    multi-step: change it after given steps, as in the official README. one-cycle: increase it during the first third of
    the steps and decrease it to almost zero by the last; for runs too short for plateaus."""
    changes: tuple[tuple[int, float], ...] = ()
    """For multi-step: pairs of a number of steps and the multiple of --optimizer.learning-rate that applies from then
    on. "10 0.1 20 0.01" is a tenth after 10 steps and a hundredth after 20."""
    factor: float = 0.1
    """For plateau: factor of the learning rate at a plateau."""
    patience: int = 3
    """For plateau: number of validations without improvement before the learning rate is reduced."""
    min_learning_rate: float = 1e-5
    """For plateau: the run is complete when the learning rate falls below this."""


@dataclass(frozen=True)
class DataConfig:
    """Batches, augmentation and optical flow."""

    batch_size: int = 6
    """Clips per batch in each process."""
    accumulate_steps: int = 1
    """Batches per optimizer step in each process; their gradients are averaged."""
    effective_batch_size: int | None = None
    """Clips per optimizer step in all processes together. If given, accumulate_steps is derived from it and from the
    number of processes, so that results do not depend on the number of GPUs."""
    flip: bool = True
    """Flip half of the clips horizontally. Disable it if classes differ in left and right."""
    num_workers: int = 2
    """Number of data-loading processes."""
    flow_method: FlowMethod = "tvl1"
    """Optical flow method, for models with a flow stream. tvl1 is the paper's; the others are faster and give different
    flow."""
    flow_folder: str | None = None
    """Folder of flow stored by quovadis flow. By default, flow files next to the videos are used, and flow is
    estimated if there are none."""


@dataclass(frozen=True)
class Recipe:
    """All settings of a training run except the data.

    Raises:
        TrainingError: If a value is out of range, or values contradict each other.
    """

    name: str
    """Name of the recipe."""
    max_steps: int
    """Number of optimizer steps."""
    validate_every: int
    """Steps between validations. A checkpoint is saved after each validation."""
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    data: DataConfig = field(default_factory=DataConfig)
    precision: Literal["no", "bf16", "fp16"] = "no"
    """Mixed precision of the forward pass: no, bf16, or fp16 with loss scaling (GPU only)."""
    compile: bool = False
    """Compile the model with torch.compile, which needs a C++ compiler on a CPU. The first step takes a minute or more,
    later steps are faster. Gradients are equal up to rounding."""
    recompute: bool = False
    """Recompute activations in the backward pass (gradient checkpointing): less memory, about a third more time.
    Gradients are identical."""
    seed: int = 0
    """Seed of the initial weights, the order of clips, augmentation and dropout."""

    def __post_init__(self) -> None:
        check_numbers(self, RECIPE_LIMITS)
        rate, end = self.optimizer.learning_rate, self.schedule.min_learning_rate
        if self.schedule.kind == "plateau" and rate < end:
            raise TrainingError(
                f"--optimizer.learning-rate {rate:g} is below --schedule.min-learning-rate {end:g}, so the run would "
                "end at once; decrease --schedule.min-learning-rate"
            )
        self._check_changes()
        if self.model.batch_norm == "frozen" and self.model.weights is None:
            raise TrainingError(
                "--model.batch-norm frozen needs the running averages of trained weights; set --model.weights, or use "
                "per-process or synchronized"
            )

    def _check_changes(self) -> None:
        steps, kind = [step for step, _ in self.schedule.changes], self.schedule.kind
        if bool(steps) != (kind == "multi-step"):
            raise TrainingError(
                "--schedule.kind multi-step needs --schedule.changes, and other kinds do not use it; got "
                f"{len(steps)} changes and {kind}"
            )
        if steps != sorted(set(steps)) or any(step < 1 for step in steps):
            raise TrainingError(f"the steps of --schedule.changes must be increasing and at least 1; got {steps}")
        for _, multiple in self.schedule.changes:
            if not 0 <= multiple < math.inf:
                raise TrainingError(
                    f"the multiples in --schedule.changes must be finite and at least 0; got {multiple}"
                )

    def for_processes(self, num_processes: int) -> "Recipe":
        """Return the recipe with accumulate_steps, effective_batch_size and batch_norm_clips resolved.

        Args:
            num_processes: Number of processes of the run.

        Raises:
            TrainingError: If the effective batch size is not a multiple of the batch size of all processes, or
                accumulate_steps is set as well.

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
                f"{data.accumulate_steps}; omit the second, which is derived from the first"
            )
        elif data.effective_batch_size % together:
            raise TrainingError(
                f"--data.effective-batch-size {data.effective_batch_size} is not a multiple of {together} "
                f"({num_processes} processes x --data.batch-size {data.batch_size}); change --data.batch-size or the "
                "number of processes"
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
        """Convert to plain values for JSON."""
        return asdict(self)


def kinetics() -> Recipe:
    """I3D on Kinetics, one stream, with the schedule of the paper (section 4).

    Learning rate 0.1 as in the official README, divided by 10 when the validation loss saturates; 110,000 steps with
    384 clips (6 on each of 64 GPUs; with fewer GPUs gradients are accumulated). Table 3 reports 68.4 % (RGB) and 61.5 %
    (flow) top-1 on the Kinetics-400 test set, from scratch.
    """
    return Recipe(
        name="kinetics", max_steps=110_000, validate_every=2_000, data=DataConfig(effective_batch_size=_README_BATCH)
    )


def kinetics_rgb() -> Recipe:
    """I3D on Kinetics with the schedule of the published RGB weights (official README).

    115,000 steps with 384 clips. Learning rate 0.1, from step 97,000 on 0.01, from step 108,000 on 0.001.
    """
    return Recipe(
        name="kinetics_rgb",
        max_steps=115_000,
        validate_every=2_500,
        schedule=ScheduleConfig(kind="multi-step", changes=((97_000, 0.1), (108_000, 0.01))),
        data=DataConfig(effective_batch_size=_README_BATCH),
    )


def kinetics_flow() -> Recipe:
    """I3D on Kinetics with the schedule of the published flow weights (official README).

    155,000 steps with 384 clips. Learning rate 0.1, from step 97,000 on 0.01, from 104,500 on 0.001; then again 0.1
    from 115,000 on, 0.01 from 140,000 on and 0.001 from 150,000 on.
    """
    changes = ((97_000, 0.1), (104_500, 0.01), (115_000, 1.0), (140_000, 0.1), (150_000, 0.01))
    return Recipe(
        name="kinetics_flow",
        max_steps=155_000,
        validate_every=2_500,
        model=ModelConfig(stream="flow"),
        schedule=ScheduleConfig(kind="multi-step", changes=changes),
        data=DataConfig(effective_batch_size=_README_BATCH),
    )


def finetune() -> Recipe:
    """I3D fine-tuned on a small dataset: Full-FT of Table 4. Set ``--model.weights``.

    Up to 5,000 steps as in the paper, which does not specify learning rate, weight decay and batch size.
    """
    return Recipe(
        name="finetune",
        max_steps=5_000,
        validate_every=200,
        model=ModelConfig(batch_norm_momentum=0.01),
        optimizer=OptimizerConfig(learning_rate=0.01, weight_decay=1e-5),
        schedule=ScheduleConfig(patience=3, min_learning_rate=1e-4),
    )


def scratch() -> Recipe:
    """I3D trained from scratch on a small dataset: Original of Table 4."""
    return Recipe(
        name="scratch",
        max_steps=5_000,
        validate_every=200,
        model=ModelConfig(batch_norm_momentum=0.05),
        optimizer=OptimizerConfig(learning_rate=0.05, weight_decay=1e-4),
        schedule=ScheduleConfig(patience=4, min_learning_rate=1e-4),
    )


def tiny() -> Recipe:
    """Tiny I3D (16 frames of 64 x 64, 0.8 M parameters) on a small dataset, in minutes on two CPU cores."""
    return Recipe(
        name="tiny",
        max_steps=600,
        validate_every=100,
        model=ModelConfig(name="i3d_tiny", dropout=0.0, batch_norm_momentum=0.05),
        optimizer=OptimizerConfig(learning_rate=0.1, weight_decay=1e-4),
        schedule=ScheduleConfig(kind="one-cycle"),
        data=DataConfig(batch_size=16, num_workers=1),
    )


RECIPES: dict[str, Callable[[], Recipe]] = {
    f.__name__: f for f in (kinetics, kinetics_rgb, kinetics_flow, finetune, scratch, tiny)
}


def find_recipe(name: str) -> Recipe:
    """Return a recipe by name.

    Raises:
        UnknownNameError: If the recipe does not exist.

    >>> find_recipe("tiny").model.name
    'i3d_tiny'
    """
    if name not in RECIPES:
        raise UnknownNameError.among("recipe", name, RECIPES)
    return RECIPES[name]()
