"""Inputs and results of a reproduction of the paper's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any

from quovadis.datasets.manifest import Manifest
from quovadis.errors import TrainingError, UnknownNameError
from quovadis.evaluation.results import EvaluationResult
from quovadis.paper.plan import DATASETS, Cell, Variant
from quovadis.training.classifier import ClassifierRecipe
from quovadis.training.recipes import DataConfig, Recipe, finetune, kinetics, scratch, tiny


@dataclass(frozen=True)
class TransferRecipes:
    """Recipes of each setting. Network and stream are always those of the source."""

    original: Recipe = field(default_factory=scratch)
    """Training on the target only. model.weights may be a 2D network."""
    fixed: ClassifierRecipe = field(default_factory=ClassifierRecipe)
    """A new classifier on frozen features."""
    full_ft: Recipe = field(default_factory=finetune)
    """End-to-end fine-tuning from the weights of the source."""


@dataclass(frozen=True)
class ReproduceRecipes(TransferRecipes):
    """Recipes of each kind of run. Network, stream and initial weights are set by the plan."""

    source: Recipe = field(default_factory=kinetics)
    """Training on Kinetics."""


def recipes_for(variant: Variant) -> ReproduceRecipes:
    """Return the default recipes of a variant: the paper's schedules, or short ones for a CPU.

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
    """Data, recipes and initial weights of a reproduction.

    Raises:
        UnknownNameError: If a dataset is not one of the paper's.
        TrainingError: If a dataset has the wrong number of splits, or the tiny variant is combined with weights.
    """

    data: Mapping[str, Sequence[Manifest]]
    """Datasets to use as ``kinetics``, ``ucf101`` and ``hmdb51``; several manifests are splits 1 to 3."""
    recipes: ReproduceRecipes
    variant: Variant = "paper"
    image_model: str | None = None
    """2D Inception-v1 for the cells with ImageNet: a file of torchvision's GoogLeNet, or a run of ``two_stream`` (or
    ``two_stream_tiny``) with the stream ``rgb``."""
    published_weights: bool = False
    """Use DeepMind's checkpoints for I3D on Kinetics instead of training it."""
    kinetics_split: str = "test"
    """The split of Kinetics to evaluate."""
    protocol: str | None = None
    """Evaluation protocol; by default the protocol of each network, as in the paper."""

    def __post_init__(self) -> None:
        for name, splits in self.data.items():
            if name not in DATASETS:
                raise UnknownNameError.among("dataset of the paper", name, DATASETS)
            most = 1 if name == "kinetics" else 3
            if not 1 <= len(splits) <= most:
                raise TrainingError(f"{name} has {most} split{'s' * (most > 1)}; got {len(splits)}")
        if self.variant == "tiny" and (self.image_model or self.published_weights):
            raise TrainingError("the variant tiny has no published weights: omit them, or use the variant paper")


@dataclass(frozen=True)
class CellResult:
    """The result of a cell."""

    cell: Cell
    published: float
    """Top-1 of the paper in percent."""
    results: tuple[EvaluationResult, ...]
    """One for each split that was run, with the logits of its runs added."""
    folders: tuple[str, ...] = ()
    """Names of the experiment folders."""
    reason: str = ""
    """Why the cell or one of its splits was not run."""

    @property
    def ours(self) -> float | None:
        """Top-1 in percent: the mean over the splits that were run, or None."""
        return 100 * mean(r.top1 for r in self.results) if self.results else None

    @property
    def difference(self) -> float | None:
        """Our number minus the published one, in percentage points."""
        return None if self.ours is None else self.ours - self.published

    def to_dict(self) -> dict[str, Any]:
        """Convert to plain values for JSON. Results of single videos are in the experiment folders."""
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
