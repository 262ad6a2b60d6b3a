"""What a reproduction of the paper's tables is made of, and what stands in a cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any

from quovadis.datasets.manifest import Manifest
from quovadis.errors import TrainingError, UnknownNameError
from quovadis.evaluation.results import EvaluationResult
from quovadis.paper.plan import DATASETS, Cell, Variant
from quovadis.paper.transfer import TransferRecipes
from quovadis.training.classifier import ClassifierRecipe
from quovadis.training.recipes import DataConfig, Recipe, finetune, kinetics, scratch, tiny


@dataclass(frozen=True)
class ReproduceRecipes(TransferRecipes):
    """How each kind of run is trained; the plan says the network, its stream and its first weights."""

    source: Recipe = field(default_factory=kinetics)
    """On Kinetics."""


def recipes_for(variant: Variant) -> ReproduceRecipes:
    """The recipes that a variant begins with: the paper's schedules, or ones for minutes on a CPU.

    >>> recipes_for("paper").source.max_steps, recipes_for("tiny").source.max_steps
    (110000, 600)
    """
    if variant == "paper":
        return ReproduceRecipes(source=kinetics(), original=scratch(), full_ft=finetune())
    quick = replace(tiny(), data=DataConfig(batch_size=16, num_workers=1, flow_method="tvl1-fast"))
    gentle = replace(quick, max_steps=200, optimizer=replace(quick.optimizer, learning_rate=0.03))
    small = replace(quick, max_steps=200)
    fixed = ClassifierRecipe(max_steps=500, dropout=0.0)
    return ReproduceRecipes(source=quick, original=small, full_ft=gentle, fixed=fixed)


@dataclass(frozen=True)
class TrainingInputs:
    """What a reproduction is made of.

    Raises:
        TrainingError: data for a dataset that no table has, or more splits than it has.
    """

    data: Mapping[str, Sequence[Manifest]]
    """By ``kinetics``, ``ucf101`` and ``hmdb51``, whatever stands in their place; several are splits 1 to 3."""
    recipes: ReproduceRecipes
    variant: Variant = "paper"
    image_model: str | None = None
    """The 2D Inception-v1 that the cells with ImageNet start from: a file of torchvision's GoogLeNet, or a run of
    ``two_stream`` (or its tiny variant) with the stream ``rgb``, which sees single frames."""
    published_weights: bool = False
    """Take DeepMind's checkpoints for I3D on Kinetics instead of training it."""
    kinetics_split: str = "test"
    """The split of Kinetics that is measured."""
    protocol: str | None = None
    """None is each network's own: the paper's."""

    def __post_init__(self) -> None:
        for name, splits in self.data.items():
            if name not in DATASETS:
                raise UnknownNameError.among("dataset of the paper", name, DATASETS)
            most = 1 if name == "kinetics" else 3
            if not 1 <= len(splits) <= most:
                raise TrainingError(f"{name} has {most} split{'s' * (most > 1)}; got {len(splits)}")
        if self.variant == "tiny" and (self.image_model or self.published_weights):
            raise TrainingError("tiny networks can start from no published weights: leave them out, or use the paper's")


@dataclass(frozen=True)
class CellResult:
    """What stands in a cell."""

    cell: Cell
    published: float
    """Percent."""
    results: tuple[EvaluationResult, ...]
    """One a split that was run, of all its runs' logits together; empty where the cell was not run."""
    folders: tuple[str, ...] = ()
    """Names of the experiments behind it."""
    reason: str = ""
    """Why it, or one of its splits, was not run."""

    @property
    def ours(self) -> float | None:
        """Top-1 in percent, the mean over the splits that were run; None where there are none."""
        return 100 * mean(r.top1 for r in self.results) if self.results else None

    @property
    def difference(self) -> float | None:
        """Ours minus the published number, in points."""
        return None if self.ours is None else self.ours - self.published

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the outcome of each video is in the experiments' folders."""
        return {
            "row": self.cell.row,
            "column": self.cell.column,
            "published": self.published,
            "ours": self.ours,
            "difference": self.difference,
            "reason": self.reason,
            "splits": [
                {k: v for k, v in r.to_dict().items() if k not in ("videos", "confusion", "labels")}
                for r in self.results
            ],
            "folders": list(self.folders),
        }
